"""Peer: generation of the Hugging Face DeepSeek-V3 model in PyTorch, token by token over long contexts, at the shapes of the
`small` preset.

    pip install torch transformers
    python torch_decode.py [--threads 2] [--precision fp32|bf16] [--contexts 1024,4096,16384] [--batches 1,8] [--steps 12]
        [--warm-up 2]

Prints one JSON line: {"peer", "threads", "precision", "cases": [{"context", "batch", "medianStepSeconds",
"tokensPerSecond"}]}. A step is one pass over a token of each sequence through the model's usual cache, and the likeliest
next tokens; before those measured go 2 passes over the same context, in the first case as many as fit into `warm-up` seconds. What
the cache holds at first is random, of the shapes that the model itself caches.
Run it in turn with what it is compared to: these machines drift.
"""
import argparse, json, time
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, DynamicCache

counts = lambda text: [int(word) for word in text.split(",")]
p = argparse.ArgumentParser()
p.add_argument("--threads", type=int, default=2)
p.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
p.add_argument("--contexts", type=counts, default=[1024, 4096, 16384])
p.add_argument("--batches", type=counts, default=[1, 8])
p.add_argument("--steps", type=int, default=12)
p.add_argument("--warm-up", type=float, default=2)
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
cfg = DeepseekV3Config(
    vocab_size=4096, hidden_size=256, intermediate_size=768, moe_intermediate_size=128, num_hidden_layers=6,
    num_attention_heads=8, num_key_value_heads=8, n_shared_experts=1, n_routed_experts=16, kv_lora_rank=128,
    q_lora_rank=128, qk_rope_head_dim=32, v_head_dim=32, qk_nope_head_dim=32, n_group=4, topk_group=2,
    num_experts_per_tok=4, first_k_dense_replace=1, max_position_embeddings=max(a.contexts) + max(a.steps, 1000) + 1,
    attn_implementation="sdpa")
dtype = torch.bfloat16 if a.precision == "bf16" else torch.float32
model = DeepseekV3ForCausalLM(cfg).to(dtype).eval()


@torch.inference_mode()
def measure(context, batch, warm_up):
    # What a pass over one token caches says which shapes a longer context has.
    one = DynamicCache(config=cfg)
    ids = torch.randint(0, cfg.vocab_size, (batch, 1))
    model(input_ids=ids, past_key_values=one, use_cache=True)

    def timed(enough):
        cache = DynamicCache(config=cfg)
        for index, layer in enumerate(one.layers):
            made = [torch.randn(*t.shape[:2], context, t.shape[3], dtype=dtype) for t in (layer.keys, layer.values)]
            cache.update(*made, index)
        tokens, times = ids, []
        while not enough(times):
            t = time.perf_counter()
            logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits
            tokens = logits[:, -1:].argmax(-1)
            times.append(time.perf_counter() - t)
        return times

    timed(lambda times: len(times) >= 1000 or (len(times) >= 2 and sum(times) >= warm_up))
    times = sorted(timed(lambda times: len(times) == a.steps))
    m = times[len(times) // 2]
    return dict(context=context, batch=batch, medianStepSeconds=round(m, 5), tokensPerSecond=round(batch / m, 1))


cases = []
for context in a.contexts:
    for batch in a.batches:
        cases.append(measure(context, batch, 0 if cases else a.warm_up))
print(json.dumps(dict(peer="transformers DeepseekV3", threads=a.threads, precision=a.precision, cases=cases)))
