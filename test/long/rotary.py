"""Rotary tables as transformers computes them, for many settings: prints cases as packages/mla's fixture has them.

    python rotary.py
"""
import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "packages/mla/test/fixtures"))
from make_rotary_fixture import case  # noqa: E402

# Every power of two up to V3's longest sequence, and what lies beside it.
POSITIONS = sorted({0, 163839} | {p for n in range(18) for p in (2**n - 1, 2**n, 2**n + 1)})

json.dump(
    [
        case({"factor": factor, **settings}, POSITIONS, width, theta)
        for factor in (1.5, 8.0, 40.0)
        for width, theta in ((64, 10000.0), (32, 500000.0), (16, 100.0))
        for settings in (
            {},
            {"mscale": 0.707, "mscale_all_dim": 0.707},
            {"mscale": 0.5},
            {"mscale_all_dim": 0},
            {"original_max_position_embeddings": 128, "beta_fast": 16, "beta_slow": 2},
        )
    ],
    sys.stdout,
)
