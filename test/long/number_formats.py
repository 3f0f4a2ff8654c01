"""Casts FP32 numbers to the small formats as other libraries do, and quantises a matrix in blocks.

    python number_formats.py FOLDER COLS

FOLDER holds x.bin, FP32 numbers in the machine's byte order. Writes one file a cast, the codes in bytes or 16-bit words:
<library>-<format>.bin of the numbers as they are, where what rounds beyond the largest value becomes infinity or NaN, and
clipped-<library>-<format>.bin of the numbers clipped to the largest value before. Neither library has E5M6: its codes are
rounded here in FP64 and cut out of binary16 patterns, which hold its values exactly. matrix.bin holds rows of COLS numbers;
<format>-<block>-{codes,scales,values}.bin are what PyTorch makes of them. Prints the versions as JSON.
"""
import json
import pathlib
import sys

import ml_dtypes
import numpy as np
import torch

folder = pathlib.Path(sys.argv[1])
x = np.fromfile(folder / "x.bin", np.float32)


def write(name: str, codes: np.ndarray) -> None:
    codes.tofile(folder / f"{name}.bin")


def e5m6(values: np.ndarray) -> np.ndarray:
    """RNE to 6 mantissa bits, 2^-20 at least, then the upper 12 bits of binary16."""
    wide = values.astype(np.float64)
    exponent = np.frexp(np.where(np.isfinite(wide), wide, 1))[1] - 1
    step = np.ldexp(1.0, np.maximum(exponent, -14) - 6)
    exact = np.where(np.isfinite(wide), np.rint(wide / step) * step, wide)
    exact = np.where(np.abs(exact) > 65024, np.sign(exact) * np.inf, exact)
    return (exact.astype(np.float16).view(np.uint16) >> 4).astype(np.uint16)


with np.errstate(all="ignore"):
    for prefix, limit in (("", False), ("clipped-", True)):
        for name, numpy_type, torch_type, word in (
            ("e4m3", ml_dtypes.float8_e4m3fn, torch.float8_e4m3fn, np.uint8),
            ("e5m2", ml_dtypes.float8_e5m2, torch.float8_e5m2, np.uint8),
            ("bf16", ml_dtypes.bfloat16, torch.bfloat16, np.uint16),
            ("e8m0", ml_dtypes.float8_e8m0fnu, torch.float8_e8m0fnu, np.uint8),
        ):
            largest = np.float32(ml_dtypes.finfo(numpy_type).max)
            values = np.clip(x, -largest, largest) if limit else x
            write(f"{prefix}ml_dtypes-{name}", values.astype(numpy_type).view(word))
            cast = torch.from_numpy(values).to(torch_type)
            write(f"{prefix}torch-{name}", cast.view(torch.uint8).numpy().view(word))
        values = np.clip(x, np.float32(-65024), np.float32(65024)) if limit else x
        write(f"{prefix}numpy-e5m6", e5m6(values))

m = torch.from_numpy(np.fromfile(folder / "matrix.bin", np.float32)).reshape(-1, int(sys.argv[2]))
rows, cols = m.shape

def torch_codes(kind: torch.dtype):
    """Codes of quotients in a format of PyTorch's, and their values."""

    def encode(quotients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes = quotients.to(kind)
        return codes.view(torch.uint8), codes.float()

    return torch.finfo(kind).max, encode


def encode_e5m6(quotients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    codes = e5m6(quotients.numpy())
    return torch.from_numpy(codes), torch.from_numpy((codes << 4).view(np.float16).astype(np.float32))


kinds = {
    "e4m3": torch_codes(torch.float8_e4m3fn),
    "e5m2": torch_codes(torch.float8_e5m2),
    "e5m6": (65024.0, encode_e5m6),
}
for kind, block, high, wide, power_of_two in (
    ("e4m3", "1x128", 1, 128, False),
    ("e4m3", "128x1", 128, 1, False),
    ("e4m3", "128x128", 128, 128, False),
    ("e4m3", "row", 1, cols, False),
    ("e4m3", "tensor", rows, cols, False),
    ("e4m3", "1x128", 1, 128, True),
    ("e4m3", "128x1", 128, 1, True),
    ("e4m3", "128x128", 128, 128, True),
    ("e5m2", "1x128", 1, 128, False),
    ("e5m2", "tensor", rows, cols, False),
    ("e5m6", "1x128", 1, 128, True),
    ("e5m6", "1x128", 1, 128, False),
):
    name = f"{kind}-{block}{'-pow2' if power_of_two else ''}"
    largest, encode = kinds[kind]
    # Blocks at the edges are filled up with zeros.
    padded = torch.nn.functional.pad(m, (0, -cols % wide, 0, -rows % high))
    blocks = padded.unflatten(0, (-1, high)).unflatten(2, (-1, wide))
    scales = blocks.abs().amax((1, 3), keepdim=True).clamp(1e-4) / largest
    if power_of_two:
        fraction, exponent = torch.frexp(scales)
        scales = torch.ldexp(torch.ones(()), exponent - (fraction == 0.5).int())
    codes, values = encode(blocks / scales)
    flat = lambda t: t.flatten(2, 3).flatten(0, 1)[:rows, :cols].contiguous().numpy()
    write(f"{name}-codes", flat(codes))
    write(f"{name}-scales", scales.contiguous().numpy())
    write(f"{name}-values", flat(values * scales))

versions = {"ml_dtypes": ml_dtypes.__version__, "numpy": np.__version__, "torch": torch.__version__}
print(json.dumps(versions))
