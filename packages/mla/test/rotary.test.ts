// Rotary tables and YaRN, against the published numbers of V3's long-context model and against transformers' tables; the two
// layouts of rotary parts; what is refused.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { loadKernels, nullKernels, referenceKernels, viewOf } from '@baleen/kernels';
import { Pools } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { firstDifference, implementationsOf, values } from '../../../test/support';
import {
  convertRotary,
  Rotary,
  rotaryFrequencies,
  rotaryTables,
  softmaxScale,
  type YarnConfig,
  yarnBeyond,
} from '../src/index';
import { type RotaryCase, rotaryDifferences, yarnOf } from './rotary-cases';

/** V3's extension from 4,096 to 163,840 positions (§4.3). */
const yarn: YarnConfig = {
  factor: 40,
  originalMaxSequence: 4096,
  betaFast: 32,
  betaSlow: 1,
  mscale: 1,
  mscaleAllDim: 1,
};

describe('frequencies', () => {
  test('fall geometrically from 1', () => {
    const plain = rotaryFrequencies(64, 10000, null);
    expect(plain).toHaveLength(32);
    expect(plain[0]).toBe(1);
    plain.forEach((frequency, i) => {
      expect(frequency).toBeCloseTo(10000 ** (-i / 32), 14);
    });
  });

  test('under YaRN stay below pair 10, are divided by the factor from pair 23 on, and mix between', () => {
    const plain = rotaryFrequencies(64, 10000, null);
    const long = rotaryFrequencies(64, 10000, yarn);
    const shares = [...long].map((frequency, i) => frequency / plain[i]);
    for (let i = 0; i < 32; i += 1)
      if (i <= 10) expect(shares[i]).toBe(1);
      else if (i >= 23) expect(shares[i]).toBeCloseTo(1 / 40, 14);
      else expect(shares[i]).toBeCloseTo(1 - ((i - 10) / 13) * (39 / 40), 12);
  });

  test('turn as often over the longer context where they are interpolated', () => {
    const long = rotaryFrequencies(64, 10000, yarn);
    const plain = rotaryFrequencies(64, 10000, null);
    expect(long[31] * 163840).toBeCloseTo(plain[31] * 4096, 10);
  });

  test('do not divide by zero where both borders fall on one pair', () => {
    const narrow = rotaryFrequencies(2, 10000, { ...yarn, betaFast: 1, betaSlow: 1 });
    expect([...narrow].every(Number.isFinite)).toBe(true);
  });
});

describe('the softmax scale', () => {
  test('is 1/√192 for V3, and 0.135234 in its long-context model', () => {
    expect(softmaxScale(192, null)).toBeCloseTo(1 / Math.sqrt(192), 15);
    expect(softmaxScale(192, yarn)).toBeCloseTo(0.135234, 6);
    expect(softmaxScale(192, yarn) * Math.sqrt(192)).toBeCloseTo(1.8738542, 6);
  });

  test('is left alone without an attention factor', () => {
    expect(softmaxScale(192, { ...yarn, mscaleAllDim: 0 })).toBe(softmaxScale(192, null));
  });
});

describe('tables', () => {
  test('hold cos and sin of position times frequency', () => {
    const { cos, sin } = rotaryTables(50, 8, 10000, null);
    const frequencies = rotaryFrequencies(8, 10000, null);
    for (let p = 0; p < 50; p += 1)
      frequencies.forEach((frequency, i) => {
        expect(cos[p * 4 + i]).toBe(Math.fround(Math.cos(p * frequency)));
        expect(sin[p * 4 + i]).toBe(Math.fround(Math.sin(p * frequency)));
      });
  });

  test('keep V3’s cos and sin unscaled, and scale them where the two attention factors differ', () => {
    expect(rotaryTables(1, 64, 10000, yarn).cos[0]).toBe(1);
    const scaled = rotaryTables(1, 64, 10000, { ...yarn, mscaleAllDim: 0 });
    expect(scaled.cos[0]).toBeCloseTo(1.3688879, 6);
    const both = rotaryTables(1, 64, 10000, { ...yarn, mscale: 0.707, mscaleAllDim: 1 });
    expect(both.cos[0]).toBeCloseTo((0.0707 * Math.log(40) + 1) / 1.3688879, 6);
  });
});

test('tables for given positions hold the same rows: packed documents, and what follows a cache', () => {
  const all = rotaryTables(40, 8, 10000, yarn);
  const positions = Int32Array.of(0, 1, 2, 0, 1, 39, 0);
  const out = { cos: new Float32Array(28), sin: new Float32Array(28) };
  const some = rotaryTables(positions, 8, 10000, yarn, { out });
  expect(some).toBe(out);
  positions.forEach((position, row) => {
    for (const name of ['cos', 'sin'] as const) {
      const [own, expected] = [some[name], all[name]].map((table, i) => {
        const at = 4 * (i === 0 ? row : position);
        return table.slice(at, at + 4);
      });
      expect(firstDifference(own, expected)).toBe(-1);
    }
  });
  expect(rotaryTables(new Int32Array(0), 8, 10000, null).cos).toHaveLength(0);
});

const fixture = JSON.parse(
  readFileSync(fileURLToPath(new URL('fixtures/rotary.json', import.meta.url)), 'utf8'),
) as RotaryCase[];

describe('tables of transformers', () => {
  test('are there for two factors', () => {
    expect(fixture.map((one) => one.yarn.factor)).toEqual([8, 40]);
    expect(yarnOf(fixture[1])).toEqual(yarn);
  });

  test.each(fixture.map((one) => [one.yarn.factor, one] as const))(
    'factor %d: the same but for FP32’s rounding',
    (_, expected) => {
      for (const [name, error] of Object.entries(rotaryDifferences(expected)))
        expect(error, name).toBeLessThan(2);
      // The measure tells other settings apart.
      const other = { ...expected, yarn: { ...expected.yarn, beta_fast: 26 } };
      expect(rotaryDifferences(other).frequencies).toBeGreaterThan(1000);
    },
  );
});

describe('YaRN is used only beyond the length trained at', () => {
  test('as settings', () => {
    expect(yarnBeyond(yarn, 4096)).toBeNull();
    expect(yarnBeyond(yarn, 4097)).toBe(yarn);
    expect(yarnBeyond(null, 4097)).toBeNull();
  });

  test('and as a model’s tables', () => {
    const short = new Rotary(new Pools(referenceKernels()), 4096, 64, 10000, yarn);
    const plain = rotaryTables(4096, 64, 10000, null);
    expect(short.yarn).toBeNull();
    expect(firstDifference(short.cos.readSync(), plain.cos)).toBe(-1);
    const long = new Rotary(new Pools(referenceKernels()), 4097, 64, 10000, yarn);
    const extended = rotaryTables(4097, 64, 10000, yarn);
    expect(long.yarn).toBe(yarn);
    expect(firstDifference(long.sin.readSync(), extended.sin)).toBe(-1);
  });
});

describe('the two layouts of rotary parts', () => {
  test('convert back to the same, and leave what has no position where it is', () => {
    const sizes = { rows: 3, heads: 2, nopeDim: 5, ropeDim: 6, inner: 4 };
    const x = values(3 * 2 * 11 * 4, 1);
    const out = new Float32Array(x.length);
    const halves = convertRotary(x, 'halfSplit', sizes, { out });
    expect(halves).toBe(out);
    expect(firstDifference(convertRotary(halves, 'interleaved', sizes), x)).toBe(-1);
    for (let head = 0; head < 6; head += 1)
      for (let i = 0; i < 11; i += 1) {
        // x₀, x₂, x₄, then x₁, x₃, x₅.
        const from = i < 5 ? i : 5 + [0, 2, 4, 1, 3, 5][i - 5];
        const at = (part: Float32Array, place: number): Float32Array =>
          part.slice((head * 11 + place) * 4, (head * 11 + place + 1) * 4);
        expect(firstDifference(at(halves, i), at(x, from))).toBe(-1);
      }
  });

  test('of BF16 patterns and FP8 codes as well', () => {
    const sizes = { ropeDim: 4 };
    expect([...convertRotary(Uint16Array.of(1, 2, 3, 4), 'halfSplit', sizes)]).toEqual([
      1, 3, 2, 4,
    ]);
    expect([...convertRotary(Uint8Array.of(1, 3, 2, 4), 'interleaved', sizes)]).toEqual([
      1, 2, 3, 4,
    ]);
  });

  test.each(implementationsOf(referenceKernels(), loadKernels()))(
    '%s kernels: pairs turned as neighbours are halves turned apart, weights converted or activations',
    (_, kernels) => {
      const [tokens, heads, nopeDim, ropeDim, inputs] = [5, 2, 3, 8, 7];
      const width = nopeDim + ropeDim;
      const weight = values(heads * width * inputs, 2);
      const stream = values(tokens * inputs, 3);
      const product = (w: Float32Array): Float32Array => {
        const y = new Float32Array(tokens * heads * width);
        const sizes = { m: tokens, n: heads * width, k: inputs, transB: true };
        kernels.gemm(viewOf(y), viewOf(stream), viewOf(w), sizes);
        return y;
      };
      const { cos, sin } = rotaryTables(tokens, ropeDim, 100, null);
      const query = product(weight);
      const turned = query.slice();
      kernels.rope(viewOf(turned), viewOf(query), viewOf(cos), viewOf(sin), {
        rows: tokens,
        heads,
        width: ropeDim,
        sequence: tokens,
        outStride: heads * width,
        outHeadStride: width,
        outOffset: nopeDim,
        xStride: heads * width,
        xHeadStride: width,
        xOffset: nopeDim,
      });
      const layout = { heads, nopeDim, ropeDim };
      const halves = product(convertRotary(weight, 'halfSplit', { ...layout, inner: inputs }));
      const activations = { ...layout, rows: tokens };
      expect(firstDifference(halves, convertRotary(query, 'halfSplit', activations))).toBe(-1);
      // y = x · cos + rotateHalf(x) · sin, as readers of that layout compute it.
      const half = ropeDim / 2;
      const apart = halves.slice();
      for (let head = 0; head < tokens * heads; head += 1)
        for (let i = 0; i < half; i += 1) {
          const [a, b] = [head * width + nopeDim + i, head * width + nopeDim + half + i];
          const at = Math.floor(head / heads) * half + i;
          const turn = (x: number, y: number, sign: number): number =>
            Math.fround(Math.fround(x * cos[at]) + Math.fround(sign * y * sin[at]));
          apart[a] = turn(halves[a], halves[b], -1);
          apart[b] = turn(halves[b], halves[a], 1);
        }
      expect(firstDifference(convertRotary(apart, 'interleaved', activations), turned)).toBe(-1);
    },
  );
});

describe('what cannot be is refused', () => {
  const yarnError = (key: string) =>
    expect.objectContaining({ code: 'ERR_BALEEN_MLA_YARN', path: `yarn.${key}` }) as Error;
  const sizesError = (path: string) =>
    expect.objectContaining({ code: 'ERR_BALEEN_MLA_SIZES', path }) as Error;

  test.each<[keyof YarnConfig, number]>([
    ['factor', 1],
    ['factor', 0.5],
    ['factor', NaN],
    ['factor', Infinity],
    ['originalMaxSequence', 0],
    ['originalMaxSequence', 4096.5],
    ['betaFast', 0],
    ['betaSlow', -1],
    ['betaSlow', 33],
    ['mscale', 0],
    ['mscale', NaN],
    ['mscaleAllDim', -1],
    ['mscaleAllDim', NaN],
  ])('yarn.%s of %d', (key, value) => {
    const wrong = { ...yarn, [key]: value };
    expect(() => rotaryFrequencies(64, 10000, wrong)).toThrow(yarnError(key));
    expect(() => rotaryTables(4, 64, 10000, wrong)).toThrow(yarnError(key));
    expect(() => softmaxScale(192, wrong)).toThrow(yarnError(key));
    // Settings that would not be used are looked at as well.
    expect(() => new Rotary(new Pools(nullKernels()), 8, 64, 10000, wrong)).toThrow(yarnError(key));
  });

  test('odd widths, bases that do not fall, positions that are none, results of another length', () => {
    expect(() => rotaryTables(4, 7, 10000, null)).toThrow(sizesError('width'));
    expect(() => rotaryTables(4, 0, 10000, null)).toThrow(sizesError('width'));
    for (const theta of [1, 0, -2, NaN, Infinity])
      expect(() => rotaryTables(4, 8, theta, null)).toThrow(sizesError('theta'));
    expect(() => rotaryTables(-1, 8, 10000, null)).toThrow(sizesError('positions'));
    expect(() => rotaryTables(NaN, 8, 10000, null)).toThrow(sizesError('positions'));
    expect(() => rotaryTables(Int32Array.of(3, -1), 8, 10000, null)).toThrow(
      sizesError('positions[1]'),
    );
    const out = { cos: new Float32Array(8), sin: new Float32Array(7) };
    expect(() => rotaryTables(2, 8, 10000, null, { out })).toThrow(sizesError('out.sin'));
  });

  test('layouts that are none, of odd widths and other lengths, over the values converted', () => {
    const x = new Float32Array(12);
    expect(() => convertRotary(x, 'halves' as 'halfSplit', { ropeDim: 12 })).toThrow(
      sizesError('to'),
    );
    expect(() => convertRotary(x, 'halfSplit', { ropeDim: 3, rows: 4 })).toThrow(
      sizesError('ropeDim'),
    );
    expect(() => convertRotary(x, 'halfSplit', { ropeDim: 10 })).toThrow(sizesError('x'));
    const sizes = { ropeDim: 6 };
    const part = x.subarray(0, 6);
    for (const out of [part, x.subarray(5, 11)])
      expect(() => convertRotary(part, 'halfSplit', sizes, { out })).toThrow(sizesError('out'));
    expect(() => convertRotary(part, 'halfSplit', sizes, { out: x.subarray(6) })).not.toThrow();
    expect(() => convertRotary(part, 'halfSplit', sizes, { out: x })).toThrow(sizesError('out'));
  });
});
