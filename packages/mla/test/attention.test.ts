// Multi-head latent attention: against its equations, and its gradients.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import {
  checkGradients,
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
import { type LatentAttention, type MlaSpec, rotaryTables, type YarnConfig } from '../src/index';
import { batch, forward, length, setup, variants, widths } from './layers';

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

  test('a sequence longer than the rotary tables is refused', () => {
    const { layer, region } = setup(kernels, { queryRank: 7, yarn: null });
    const long = tensorFrom(new Region(kernels, 'x'), [17, widths.hidden], new Float32Array(170));
    expect(() => layer.forward(new Tape(region), long, 1)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_MLA_SEQUENCE' }),
    );
  });
});
