// The lab `kv-cache`: what latents take in a cache, beside the keys and values they stand for (§2.1.1), and what the figure of
// 93.3 % that the press quotes of V3 is about.
//
// The claims, and what each is judged by:
// - 576 numbers a token and layer stand for the keys and values of 128 heads of 128: a factor of 56.9.
// - V3 caches 70,272 bytes a token, in BF16 over 61 layers (arXiv 2505.09343, table 1).
// - The KV cache becomes 93.3 % smaller (arXiv 2405.04434, abstract). That is DeepSeek-V2, with its latents at 6 bits, against
//   DeepSeek 67B, which has 8 heads of keys and values in BF16: other models, other bits. It is judged as that, to the digit
//   that was printed;
// - and once more as it is quoted: that latents save V3 93.3 % against heads of keys and values of its own, both in BF16.
// - One measured: attention over a pool of latents gives what attention over expanded keys and values gives, and the arrays
//   that the two read differ by at least the factor of the first claim. Expanded keys have a rotary part, so it may be more.
//   Both are FP32; where results differ by a thousandth or more (relative Frobenius error) the factor counts for nothing.
//
// What was known before: all figures of the first four, worked out by hand.
import { type Kernels, viewOf } from '@baleen/kernels';
import { type AttentionShape, attendLatents, cacheBytes, cacheElements } from '@baleen/mla';
import { gaussian } from '@baleen/tensor';

import { relativeError } from './errors';
import type { Lab } from './lab';
import { labFigure } from './verdict';

/** Settings of {@link kvCache}. */
export type KvCacheSettings = Readonly<{
  /** Cached tokens of the measured pass. */
  tokens: number;
  /** Its heads. */
  heads: number;
}>;

/** A model as its cache sees it. */
interface Cached {
  name: string;
  layers: number;
  attention: AttentionShape;
  /** Bits of a cached number. */
  bits: number;
}

/** Latents of V2 and V3: the same widths. */
const latents = { form: 'absorbed', heads: 128, nopeDim: 128, ropeDim: 64, valueDim: 128 } as const;
const kvRank = 512;

const heads = (count: number, kvHeads: number): AttentionShape => ({
  form: 'grouped',
  heads: count,
  kvHeads,
  queryWidth: 128,
  valueWidth: 128,
});

const v3: Cached = { name: 'V3', layers: 61, attention: { ...latents, kvRank }, bits: 16 };
const v3Heads: Cached = {
  name: 'V3, 128 heads cached',
  layers: 61,
  attention: heads(128, 128),
  bits: 16,
};
const v2: Cached = {
  name: 'V2, 6 bits',
  layers: 60,
  attention: { ...latents, kvRank },
  bits: 6,
};
const v2Plain: Cached = { ...v2, name: 'V2', bits: 16 };
const dense67: Cached = {
  name: 'DeepSeek 67B, 8 heads cached',
  layers: 95,
  attention: heads(64, 8),
  bits: 16,
};

/** Bytes a token over all layers. */
function tokenBytes({ layers, attention, bits }: Cached): number {
  return (layers * cacheElements(attention) * bits) / 8;
}

/** What a cache saves against another. */
function saved(cache: Cached, against: Cached): number {
  return 1 - tokenBytes(cache) / tokenBytes(against);
}

/** Results of both forms differ by less. */
const agreement = 1e-3;

/** As printed: 93.3 %, rounded from either side. */
const printed = { above: 0.9325, below: 0.9335 } as const;

/** What latents take in a cache. */
export const kvCache: Lab<KvCacheSettings> = {
  name: 'kv-cache',
  claim: 'V3 caches 56.9 times fewer numbers a token and layer than 128 heads of keys and values',
  source: 'arXiv 2412.19437, §2.1.1; 2505.09343, table 1; 2405.04434, abstract',
  published: 56.9,
  quantity: { name: 'numbers of 128 heads of keys and values over those cached', unit: 'ratio' },
  effect: { name: 'numbers of 128 heads of keys and values over those cached', unit: 'ratio' },
  inequality: { above: 56.85, below: 56.95 },
  further: [
    {
      claim: 'V3 caches 70,272 bytes a token, in BF16 over 61 layers',
      published: 70_272,
      quantity: { name: 'bytes a token', unit: 'number' },
      effect: { name: 'bytes a token', unit: 'number' },
      inequality: { above: 70_271, below: 70_273 },
    },
    {
      claim: 'DeepSeek-V2’s cache, at 6 bits, is 93.3 % smaller than DeepSeek 67B’s in BF16',
      published: 0.933,
      quantity: { name: 'saved a token', unit: 'percent' },
      effect: { name: 'saved a token', unit: 'percent' },
      inequality: printed,
    },
    {
      claim: 'latents save V3 93.3 % of the cache of its own heads, as the press has it',
      published: 0.933,
      quantity: { name: 'saved a token', unit: 'percent' },
      effect: { name: 'saved a token', unit: 'percent' },
      inequality: printed,
    },
    {
      claim: 'a pass over the pool gives what one over expanded keys and values gives',
      published: 'no figure',
      quantity: { name: 'bytes of expanded keys and values over those of the pool', unit: 'ratio' },
      effect: { name: 'bytes of expanded keys and values over those of the pool', unit: 'ratio' },
      inequality: { above: 56.85 },
    },
  ],
  settings: {
    quick: { tokens: 256, heads: 128 },
    full: { tokens: 4096, heads: 128 },
  },
  // Expanding a token takes 128 · 512 · 256 multiply-adds; the reference does some hundred million a second.
  estimate: ({ tokens, heads: count }, { kernels }) =>
    Promise.resolve(
      (tokens * count * 512 * 256) / (kernels.implementation === 'native' ? 5e9 : 1e8),
    ),
  run({ tokens, heads: count }, { kernels, seed, row, progress }) {
    for (const cache of [v3, v3Heads, v2, v2Plain, dense67])
      row({
        cache: cache.name,
        layers: cache.layers,
        bits: cache.bits,
        'numbers a token and layer': cacheElements(cache.attention),
        'bytes a token': tokenBytes(cache),
      });
    progress(0, `attention over ${tokens} tokens`);
    const pass = measuredPass(kernels, { tokens, heads: count, seed });
    const factor = pass.expandedBytes / pass.pooledBytes;
    const percent = (share: number): string => labFigure(share, 'percent');
    const exact = (effect: number) => ({ effect: { exact: effect, n: 1 } });
    return Promise.resolve({
      ...exact(cacheElements(v3Heads.attention) / cacheElements(v3.attention)),
      further: [
        exact(v3.layers * cacheBytes(v3.attention)),
        exact(saved(v2, dense67)),
        exact(saved(v3, v3Heads)),
        exact(pass.error < agreement ? factor : NaN),
      ],
      notes: [
        `measured: ${pass.expandedBytes / tokens} bytes a token of expanded keys and values, ${pass.pooledBytes / tokens} in the pool, both FP32; results differ by ${pass.error.toExponential(1)}`,
        `against DeepSeek 67B in BF16, V2 in BF16 saves ${percent(saved(v2Plain, dense67))}, V3 ${percent(saved(v3, dense67))}`,
        `V3’s latents in FP8 take ${61 * cacheBytes(v3.attention, 'e4m3')} bytes a token: codes, scales and BF16 rotary keys`,
      ],
    });
  },
};

/**
 * One query's attention over tokens, absorbed over a pool of latents and expanded over keys and values made of them.
 * @param kernels - to measure with
 * @param sizes - tokens, heads (of V3's widths), and a seed
 * @returns the bytes of the arrays that each reads, and the relative Frobenius error between their results
 */
export function measuredPass(
  kernels: Kernels,
  { tokens, heads: count, seed }: KvCacheSettings & { seed: number },
): { expandedBytes: number; pooledBytes: number; error: number } {
  const { nopeDim, ropeDim, valueDim } = latents;
  const [rank, width] = [kvRank, nopeDim + ropeDim];
  const draw = gaussian(seed);
  const normal = (length: number, deviation = 1): Float32Array =>
    Float32Array.from({ length }, () => deviation * draw());
  const latent = normal(tokens * rank);
  const kRope = normal(tokens * ropeDim);
  // Head by head W_UK [nope, rank], then W_UV [v, rank], as in a checkpoint.
  const up = normal(count * (nopeDim + valueDim) * rank, rank ** -0.5);
  const q = normal(count * width);
  const scale = width ** -0.5;

  const kv = new Float32Array(tokens * count * (nopeDim + valueDim));
  const made = { m: tokens, n: count * (nopeDim + valueDim), k: rank, transB: true };
  kernels.gemm(viewOf(kv), viewOf(latent), viewOf(up), made);
  // Rotary keys as they are: position has no part in what is stored.
  const still = (value: number): Float32Array =>
    new Float32Array((tokens * ropeDim) / 2).fill(value);
  const sizes = { heads: count, nopeDim, ropeDim, valueDim, queries: 1, keys: tokens, scale };
  const tables = { cos: still(1), sin: still(0) };
  const expanded = attendLatents({ q, kv, kRope }, tables, sizes, { kernels });

  const pool = new Float32Array(tokens * (rank + ropeDim));
  const slots = Int32Array.from({ length: tokens }, (_, token) => token);
  const row = { tokens, capacity: tokens, rank, rope: ropeDim };
  kernels.writeLatents(viewOf(pool), viewOf(latent), viewOf(kRope), viewOf(slots), row);
  const absorbed = new Float32Array(count * (rank + ropeDim));
  const latentOut = new Float32Array(count * rank);
  const output = new Float32Array(count * valueDim);
  const headUp = (head: number): number => head * (nopeDim + valueDim) * rank;
  for (let head = 0; head < count; head += 1) {
    const one = { m: 1, n: rank, k: nopeDim };
    const own = q.subarray(head * width, head * width + nopeDim);
    const start = head * (rank + ropeDim);
    const weight = up.subarray(headUp(head), headUp(head) + nopeDim * rank);
    kernels.gemm(viewOf(absorbed.subarray(start, start + rank)), viewOf(own), viewOf(weight), one);
    absorbed.set(q.subarray(head * width + nopeDim, (head + 1) * width), start + rank);
  }
  kernels.latentAttention(
    viewOf(latentOut),
    viewOf(new Float32Array(count)),
    viewOf(absorbed),
    viewOf(pool),
    viewOf(Int32Array.of(0)),
    viewOf(Int32Array.of(tokens)),
    {
      sequences: 1,
      queries: 1,
      heads: count,
      rank,
      rope: ropeDim,
      pages: 1,
      pageSize: tokens,
      tableWidth: 1,
      scale,
    },
  );
  for (let head = 0; head < count; head += 1) {
    const first = headUp(head) + nopeDim * rank;
    const weight = up.subarray(first, first + valueDim * rank);
    const own = latentOut.subarray(head * rank, (head + 1) * rank);
    const out = output.subarray(head * valueDim, (head + 1) * valueDim);
    kernels.gemm(viewOf(out), viewOf(own), viewOf(weight), {
      m: 1,
      n: valueDim,
      k: rank,
      transB: true,
    });
  }
  return {
    expandedBytes: expanded.k.byteLength + expanded.v.byteLength,
    pooledBytes: pool.byteLength,
    error: relativeError(expanded.output, output),
  };
}
