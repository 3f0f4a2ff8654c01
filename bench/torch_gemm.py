"""Peer: square matrix products in PyTorch.  pip install torch;  python torch_gemm.py --threads 2 --size 1024

The last line is JSON: {"bf16": GFLOP/s, "fp32": GFLOP/s}, each the median of 15 products after 3 to warm up. In fp32
PyTorch's wheel runs at half speed on AMD processors; its bf16 goes through oneDNN and does not.
"""

import argparse
import json
import statistics
import time

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--size", type=int, default=1024)
options = parser.parse_args()
torch.set_num_threads(options.threads)


def rate(dtype):
    n = options.size
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    seconds = []
    for _ in range(18):
        begin = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begin)
    return 2 * n**3 / statistics.median(seconds[3:]) / 1e9


print(json.dumps({"bf16": rate(torch.bfloat16), "fp32": rate(torch.float32)}))
