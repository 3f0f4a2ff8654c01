"""Peer: V3's routing in PyTorch, eager and compiled.  pip install torch;  python torch_router.py --threads 2

What routeTokens does: sigmoid, groups by the sum of their two best biased scores, the best 8 of 256 in 4 of 8 groups, gate
weights from unbiased scores, and the order of rows sorted by expert. The last line is JSON: {"eager": ns a token,
"compiled": ns a token, "permute": GB/s, "unpermute": GB/s}, medians of 9 after 2 to warm up; bytes as in router-own.mjs.
"""

import argparse
import json
import statistics
import time

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
torch.manual_seed(1)

EXPERTS, K, GROUPS, KEPT, SCALING = 256, 8, 8, 4, 2.5


def route(logits, bias):
    scores = logits.sigmoid()
    biased = scores + bias
    groups = biased.view(-1, GROUPS, EXPERTS // GROUPS)
    kept = groups.topk(2, dim=-1)[0].sum(-1).topk(KEPT, dim=-1)[1]
    mask = torch.ones(groups.shape[0], GROUPS, dtype=torch.bool).scatter_(1, kept, False)
    chosen = groups.masked_fill(mask.unsqueeze(-1), float("-inf")).flatten(1).topk(K, dim=-1)[1]
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(-1, keepdim=True) * SCALING
    slot_of_row = chosen.flatten().argsort(stable=True)
    counts = torch.bincount(chosen.flatten(), minlength=EXPERTS)
    return chosen, weights, slot_of_row, counts


def seconds(body):
    times = []
    for _ in range(11):
        begin = time.perf_counter()
        body()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])


with torch.no_grad():
    tokens = 16384
    logits, bias = torch.rand(tokens, EXPERTS) * 4 - 2, torch.rand(EXPERTS) / 25
    report = {"eager": seconds(lambda: route(logits, bias)) / tokens * 1e9}
    try:
        compiled = torch.compile(route)
        compiled(logits, bias)
        report["compiled"] = seconds(lambda: compiled(logits, bias)) / tokens * 1e9
    except Exception as error:  # no C++ compiler, say
        report["compiled"] = None
        print(f"torch.compile: {error}")

    few, cols = 4096, 1024
    x = torch.rand(few, cols)
    chosen, weights, slot_of_row, _ = route(torch.rand(few, EXPERTS), bias)
    token_of_row = slot_of_row // K
    rows = x[token_of_row]
    gigabytes, own = 4 * rows.numel() / 1e9, 4 * x.numel() / 1e9
    out = torch.empty_like(rows)
    report["permute"] = 2 * gigabytes / seconds(lambda: torch.index_select(x, 0, token_of_row, out=out))
    row_weights = weights.flatten()[slot_of_row].unsqueeze(1)
    report["unpermute"] = (gigabytes + own) / seconds(
        lambda: torch.zeros_like(x).index_add_(0, token_of_row, rows * row_weights)
    )
print(json.dumps(report))
