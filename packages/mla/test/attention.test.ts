// Multi-head latent attention: against its equations, its gradients, and its cached form.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import {
  checkGradients,
  concatRows,
  initialize,
  type LinearFactory,
  Pools,
  plainLinears,
  Region,
  Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import {
  decibels,
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import {
  LatentAttention,
  LatentCache,
  type MlaSpec,
  Rotary,
  rotaryTables,
  softmaxScale,
  type YarnConfig,
} from '../src/index';

const yarn: YarnConfig = {
  factor: 4,
  originalMaxSequence: 8,
  betaFast: 2,
  betaSlow: 0.5,
  mscale: 1,
  mscaleAllDim: 1,
};

interface Variant {
  queryRank: number | null;
  yarn: YarnConfig | null;
}

const variants: [string, Variant][] = [
  ['query compression', { queryRank: 7, yarn: null }],
  ['plain queries', { queryRank: null, yarn: null }],
  ['query compression and YaRN', { queryRank: 7, yarn }],
];

const [batch, length] = [2, 6];
/** Every width different, and values narrower than keys, as in V3. */
const widths = { hidden: 10, heads: 3, nopeDim: 5, ropeDim: 4, valueDim: 6, kvRank: 8 };

function setup(
  kernels: Kernels,
  { queryRank, yarn: extension }: Variant,
  factory: LinearFactory = plainLinears('fp32'),
) {
  const pools = new Pools(kernels);
  const spec: MlaSpec = {
    ...widths,
    queryRank,
    normEps: 1e-6,
    scale: softmaxScale(widths.nopeDim + widths.ropeDim, extension),
  };
  const rotary = new Rotary(pools, 16, widths.ropeDim, 100, extension);
  const layer = new LatentAttention(pools, spec, factory, rotary);
  initialize(layer, 0.5, 4);
  // Norms begin at one; a weight that is one everywhere could be forgotten without a sign.
  for (const [name, { data }] of layer.parameters())
    if (name.includes('Norm')) data.readSync().set(values(data.size, 6).map((v) => 1 + v / 2));
  const x = tensorFrom(
    new Region(kernels, 'inputs'),
    [batch * length, widths.hidden],
    values(batch * length * widths.hidden, 7),
  );
  return { layer, spec, x, region: new Region(kernels, 'test') };
}

function forward(layer: LatentAttention, region: Region, x: Tensor, sequences: number) {
  const tape = new Tape(region, { grad: false });
  let y: Float32Array = new Float32Array(0);
  tape.scoped(() => {
    y = layer.forward(tape, x, sequences).readSync().slice() as Float32Array;
    return [];
  });
  expect(region.liveBytes).toBe(0);
  return y;
}

/** Equations 1 to 11 of §2.1.1, one token and one head at a time, in float64. */
function literal(layer: LatentAttention, spec: MlaSpec, extension: YarnConfig | null, x: Tensor) {
  const { hidden, heads, nopeDim, ropeDim, valueDim, kvRank, scale } = spec;
  const weights = new Map(
    [...layer.parameters()].map(([name, { data }]) => [name, [...data.readSync()]]),
  );
  const times = (name: string, v: number[]): number[] => {
    const w = weights.get(`${name}.weight`) ?? [];
    return Array.from({ length: w.length / v.length }, (_, o) =>
      v.reduce((sum, value, i) => sum + value * w[o * v.length + i], 0),
    );
  };
  const norm = (name: string, v: number[]): number[] => {
    const root = Math.sqrt(v.reduce((sum, value) => sum + value * value, 0) / v.length + 1e-6);
    return v.map((value, i) => (value / root) * (weights.get(`${name}.weight`) ?? [])[i]);
  };
  const { cos, sin } = rotaryTables(length, ropeDim, 100, extension);
  const rotate = (v: number[], position: number): number[] =>
    v.map((value, i) => {
      const at = position * (ropeDim / 2) + (i >> 1);
      return i % 2 === 0
        ? value * cos[at] - v[i + 1] * sin[at]
        : value * cos[at] + v[i - 1] * sin[at];
    });
  const out: number[] = [];
  for (let b = 0; b < batch; b += 1) {
    const tokens = Array.from({ length }, (_, position) => {
      const row = (b * length + position) * hidden;
      const h = [...x.readSync().slice(row, row + hidden)];
      const q =
        spec.queryRank === null
          ? times('query', h)
          : times('queryUp', norm('queryNorm', times('queryDown', h)));
      const down = times('kvDown', h);
      const kv = times('kvUp', norm('kvNorm', down.slice(0, kvRank)));
      const shared = rotate(down.slice(kvRank), position);
      return Array.from({ length: heads }, (_h, head) => {
        const own = q.slice(head * (nopeDim + ropeDim), (head + 1) * (nopeDim + ropeDim));
        const up = kv.slice(head * (nopeDim + valueDim), (head + 1) * (nopeDim + valueDim));
        return {
          q: [...own.slice(0, nopeDim), ...rotate(own.slice(nopeDim), position)],
          k: [...up.slice(0, nopeDim), ...shared],
          v: up.slice(nopeDim),
        };
      });
    });
    for (let t = 0; t < length; t += 1) {
      const joined: number[] = [];
      for (let head = 0; head < heads; head += 1) {
        const { q } = tokens[t][head];
        const seen = tokens.slice(0, t + 1).map((token) => token[head]);
        const scores = seen.map(({ k }) =>
          Math.exp(scale * k.reduce((sum, value, i) => sum + value * q[i], 0)),
        );
        const total = scores.reduce((a, c) => a + c, 0);
        for (let d = 0; d < valueDim; d += 1)
          joined.push(seen.reduce((sum, { v }, j) => sum + (scores[j] / total) * v[d], 0));
      }
      out.push(...times('output', joined));
    }
  }
  return out;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(variants)('%s', (_name, variant) => {
    test('is what its equations say', () => {
      const { layer, spec, x, region } = setup(kernels, variant);
      const expected = literal(layer, spec, variant.yarn, x);
      expect(largestDifference(forward(layer, region, x, batch), expected)).toBeLessThan(2e-5);
    });

    test('gradients of the stream and of every weight', () => {
      const { layer, x, region } = setup(kernels, variant);
      const results = checkGradients({
        region,
        inputs: { x },
        module: layer,
        body: (tape) => layer.forward(tape, x, batch),
        directions: 2,
      });
      expect(results).toHaveLength(2 * (1 + [...layer.parameters()].length));
      for (const { name, error } of results) expect(error, name).toBeLessThan(5e-3);
      expect(region.liveBytes).toBe(0);
    });

    test('through the cache, at once, in pieces or token by token, alone or side by side: the same bits', () => {
      const { layer, x, region } = setup(kernels, variant);
      const whole = forward(layer, region, x, batch);
      const width = widths.hidden;
      const sequences = Array.from({ length: batch }, (_, b) => b);
      const tape = new Tape(region, { grad: false });
      const cut = (list: Float32Array, b: number, start: number, count: number): Float32Array =>
        list.slice((b * length + start) * width, (b * length + start + count) * width);
      const makeCache = (): LatentCache =>
        new LatentCache(region, length, widths.kvRank, widths.ropeDim);
      for (const pieces of [[6], [1, 1, 1, 1, 1, 1], [3, 1, 2]]) {
        const caches = sequences.map(makeCache);
        let start = 0;
        for (const count of pieces) {
          for (const b of sequences)
            tape.scoped(() => {
              const rows = x.rows(b * length + start, count);
              const y = layer.decode(tape, rows, [{ cache: caches[b], count }]).readSync();
              expect(firstDifference(y, cut(whole, b, start, count))).toBe(-1);
              return [];
            });
          start += count;
        }
        for (const cache of caches) {
          expect(cache.length).toBe(length);
          cache.release();
        }
      }
      // Side by side, each as far as it is, and once more after some tokens were forgotten.
      const caches = sequences.map(makeCache);
      const step = (counts: number[]): void => {
        tape.scoped(() => {
          const starts = caches.map((cache) => cache.length);
          const rows = counts.map((count, b) => x.rows(b * length + starts[b], count));
          const y = layer.decode(
            tape,
            concatRows(tape, rows),
            counts.map((count, b) => ({ cache: caches[b], count })),
          );
          const got = y.readSync() as Float32Array;
          const expected = counts.flatMap((count, b) => [...cut(whole, b, starts[b], count)]);
          expect(firstDifference(got, Float32Array.from(expected))).toBe(-1);
          return [];
        });
      };
      step(sequences.map((b) => 1 + b));
      step(sequences.map((b) => 4 - b));
      for (const cache of caches) cache.truncate(2);
      step(sequences.map((b) => 3 - b));
      for (const cache of caches) cache.release();
      expect(region.liveBytes).toBe(0);
    });
  });

  test('a token sees itself and what is before it in its sequence, nothing else', () => {
    const { layer, x, region } = setup(kernels, { queryRank: 7, yarn: null });
    const before = forward(layer, region, x, batch);
    const changed = 3; // a token of the first sequence
    x.rows(changed, 1).readSync().fill(5);
    const after = forward(layer, region, x, batch);
    for (let row = 0; row < batch * length; row += 1) {
      const slice = (list: Float32Array): Float32Array =>
        list.slice(row * widths.hidden, (row + 1) * widths.hidden);
      const same = firstDifference(slice(before), slice(after)) === -1;
      expect(same, `row ${row}`).toBe(row < changed || row >= length);
    }
  });

  test('BF16 products are FP32’s to 35 dB and more, forward and backward', () => {
    const run = (precision: 'fp32' | 'bf16'): Float32Array[] => {
      const variant = { queryRank: 7, yarn: null };
      const { layer, x, region } = setup(kernels, variant, plainLinears(precision));
      const tape = new Tape(region);
      const g = tensorFrom(region, x.shape, values(x.size, 8));
      const [y] = tape.frame('test', () => [layer.forward(tape, x, batch)]);
      const [dx] = tape.backFrame([y], [g], [x]);
      return [y, dx, ...[...layer.parameters()].map(([, { grad }]) => grad)].map(
        (tensor) => tensor?.readSync().slice() as Float32Array,
      );
    };
    const exact = run('fp32');
    run('bf16').forEach((list, index) => {
      expect(decibels(exact[index], list)).toBeGreaterThan(35);
      expect(decibels(exact[index], list)).toBeLessThan(70);
    });
  });

  test('a sequence longer than the rotary tables, or than the cache, is refused', () => {
    const { layer, region } = setup(kernels, { queryRank: 7, yarn: null });
    const long = tensorFrom(new Region(kernels, 'x'), [17, widths.hidden], new Float32Array(170));
    const tape = new Tape(region);
    expect(() => layer.forward(tape, long, 1)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_MLA_SEQUENCE' }),
    );
    const cache = new LatentCache(region, 4, widths.kvRank, widths.ropeDim);
    const off = new Tape(region, { grad: false });
    off.scoped(() => {
      layer.decode(off, long.rows(0, 3), [{ cache, count: 3 }]);
      expect(() => layer.decode(off, long.rows(3, 2), [{ cache, count: 2 }])).toThrow(
        expect.objectContaining({ code: 'ERR_BALEEN_MLA_CACHE' }),
      );
      return [];
    });
    expect(cache.length).toBe(3);
    for (const bad of [4, -1, 1.5])
      expect(() => {
        cache.truncate(bad);
      }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_MLA_CACHE', path: 'length' }));
    cache.truncate(0);
    expect(cache.latents.shape).toEqual([0, widths.kvRank]);
  });
});

test('the cache holds one latent and one rotary key a token: 576 values for V3', () => {
  const kernels = referenceKernels();
  const region = new Region(kernels, 'cache');
  const cache = new LatentCache(region, 10, 512, 64);
  expect(region.liveBytes).toBe(10 * 576 * 4);
  cache.release();
  expect(region.liveBytes).toBe(0);
});
