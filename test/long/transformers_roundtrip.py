"""Loads checkpoint folders in Hugging Face transformers and says what they compute.

    python transformers_roundtrip.py FOLDER ...

Each FOLDER holds config.json, weights, and ids.json (a list of sequences of token ids). Writes logits.bin into it, FP32
[sequences, length, vocab] in the machine's byte order, and result.json: the versions of torch and transformers, the keys
that transformers did not find (missing) and did not know (unexpected), and the tokens of a greedy continuation of the
first four tokens of every sequence (greedy).
"""
import json
import pathlib
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()


def run(folder: pathlib.Path) -> None:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    ids = torch.tensor(json.loads((folder / "ids.json").read_text()))
    with torch.no_grad():
        logits = model(input_ids=ids).logits.float()
        greedy = []
        for row in ids:
            tokens = row[None, :4]
            for _ in range(8):
                last = model(input_ids=tokens).logits[:, -1]
                tokens = torch.cat([tokens, last.argmax(-1, keepdim=True)], dim=1)
            greedy.append(tokens[0, 4:].tolist())
    (folder / "logits.bin").write_bytes(logits.contiguous().numpy().tobytes())
    result = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "missing": sorted(map(str, info["missing_keys"])),
        "unexpected": sorted(map(str, info["unexpected_keys"])),
        "greedy": greedy,
    }
    (folder / "result.json").write_text(json.dumps(result))


for argument in sys.argv[1:]:
    run(pathlib.Path(argument))
