"""FP8 checkpoints in DeepSeek-V3's layout, read and written by PyTorch and safetensors.

    python fp8_checkpoint.py FOLDER ...

Each FOLDER holds `masters` (F32 weights) and `exported` (the same in FP8, with scale_fmt where its scales are powers of
two). Writes
  decoded.safetensors   every tensor of `exported` as PyTorch decodes it, F32
  written/              `masters` quantised by PyTorch: scales in a file of their own, F32, or F8_E8M0 where they are powers
                        of two
  result.json           versions; the largest code; tensors of `exported` whose codes or scales are not those of PyTorch
"""
import json
import pathlib
import sys

import safetensors
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(pathlib.Path(__file__).parents[2] / "packages/model/test/fixtures"))
from make_fp8_fixture import decode, quantize  # noqa: E402

SCALE = "_scale_inv"


def load(folder: pathlib.Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    files = {file: load_file(folder / file) for file in sorted(set(weight_map.values()))}
    return {name: files[file][name] for name, file in weight_map.items()}, weight_map


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def run(folder: pathlib.Path) -> None:
    masters, _ = load(folder / "masters")
    exported, weight_map = load(folder / "exported")
    config = json.loads((folder / "exported" / "config.json").read_text())
    power_of_two = config["quantization_config"].get("scale_fmt") == "ue8m0"
    decoded, codes_file, scales_file, different = {}, {}, {}, []
    apart = 0
    for name, tensor in exported.items():
        if name.endswith(SCALE):
            continue
        if tensor.dtype != torch.float8_e4m3fn:
            decoded[name] = tensor.float()
            codes_file[name] = tensor
            continue
        scale = exported[name + SCALE]
        apart += weight_map[name] != weight_map[name + SCALE]
        decoded[name] = decode(tensor, scale)
        codes, own = quantize(masters[name], power_of_two)
        different += [] if same(codes, tensor) and same(own, scale) else [name]
        codes_file[name] = codes
        scales_file[name + SCALE] = own.to(torch.float8_e8m0fnu) if power_of_two else own
    save_file(decoded, folder / "decoded.safetensors")
    written = folder / "written"
    written.mkdir()
    files = {"model-00001-of-00002.safetensors": codes_file, "model-00002-of-00002.safetensors": scales_file}
    for file, tensors in files.items():
        save_file(tensors, written / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, tensors in files.items() for name in tensors}}
    (written / "model.safetensors.index.json").write_text(json.dumps(index))
    (written / "config.json").write_text(json.dumps(config))
    largest = max(t.float().abs().max().item() for t in codes_file.values() if t.dtype == torch.float8_e4m3fn)
    result = {
        "torch": torch.__version__,
        "safetensors": safetensors.__version__,
        "quantized": len(scales_file),
        "apart": apart,
        "largest": largest,
        "different": different,
    }
    (folder / "result.json").write_text(json.dumps(result))


for argument in sys.argv[1:]:
    run(pathlib.Path(argument))
