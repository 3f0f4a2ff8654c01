// The three products on quantised matrices, of one layer and of experts, against their definition written out element by
// element, on the kernels and in plain TypeScript.
import { type Kernels, loadKernels, nullKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf, values } from '../../../test/support';
import {
  dequantize,
  type ElementFormat,
  formatTable,
  hopper,
  inputGradient,
  multiply,
  type ProductOptions,
  type QuantizedMatrix,
  quantize,
  weightGradient,
} from '../src/index';
import { blockNumbers } from './literal';

const fl = Math.fround;

/** Values and scales of a matrix, element by element. */
function reader(x: QuantizedMatrix): (r: number, c: number) => { value: number; scale: number } {
  const { of } = blockNumbers(x, x.block);
  const table = formatTable(x.format);
  return (r, c) => ({
    value: table[x.codes[r * x.cols + c]],
    scale: x.scales[of[r * x.cols + c]],
  });
}

type Side = (i: number, kk: number) => { value: number; scale: number };

/** One element: partial sums end where a block of either side does, and every `promotion` products from the first on. */
function element(
  a: Side,
  b: Side,
  at: [number, number],
  [first, last]: [number, number],
  [block, promotion]: [number, number],
): number {
  let sum = 0;
  let acc = 0;
  for (let kk = first; kk < last; kk += 1) {
    const [x, y] = [a(at[0], kk), b(at[1], kk)];
    acc = fl(acc + fl(x.value * y.value));
    const done = kk + 1 - first;
    if (kk + 1 < last && done % block !== 0 && done % promotion !== 0) continue;
    sum = fl(sum + fl(acc * fl(x.scale * y.scale)));
    acc = 0;
  }
  return sum;
}

const turned =
  (read: Side): Side =>
  (i, kk) =>
    read(kk, i);

const [rows, width, outer] = [5, 300, 131];
/** Tokens of four experts, one of them without any, one with more than a block. */
const offsets = Int32Array.of(0, 3, 3, 140, 150);
const experts = 4;
const tokens = 150;

const matrix = (
  seed: number,
  sizes: { rows: number; cols: number; stack?: number; offsets?: Int32Array },
  block: QuantizedMatrix['block'],
  format: ElementFormat = 'e4m3',
): QuantizedMatrix =>
  quantize(values((sizes.stack ?? 1) * sizes.rows * sizes.cols, seed), sizes, { block, format });

/** Ways to sum. */
const ways: [string, ProductOptions, [block: number, promotion: number]][] = [
  ['promotion every 128', {}, [128, 128]],
  ['promotion never, which scales cut at 128', { promotion: Infinity }, [128, Infinity]],
  ['promotion every 32', { promotion: 32 }, [128, 32]],
  ['promotion every 48', { promotion: 48 }, [128, 48]],
];

const implementations: [string, Kernels][] = implementationsOf(referenceKernels(), loadKernels());

describe.each(implementations)('%s kernels', (_, kernels) => {
  describe.each(ways)('%s', (_way, options, lengths) => {
    /** Every element of a · bᵀ [m, n], summed over kk in a range. */
    const literal = (
      a: Side,
      b: Side,
      [m, n]: [number, number],
      range: [number, number],
      first = 0,
    ): number[] =>
      Array.from({ length: m * n }, (_v, at) =>
        element(a, b, [first + Math.floor(at / n), at % n], range, lengths),
      );

    test('forward', () => {
      const x = matrix(1, { rows, cols: width }, '1x128');
      const w = matrix(2, { rows: outer, cols: width }, '128x128');
      const y = multiply(x, w, { ...options, kernels });
      const expected = literal(reader(x), reader(w), [rows, outer], [0, width]);
      expect(firstDifference(y, expected)).toBe(-1);
    });

    test('gradient of the input', () => {
      const dy = matrix(3, { rows, cols: outer }, '1x128');
      const w = matrix(2, { rows: outer, cols: width }, '128x128');
      const dx = inputGradient(dy, w, { ...options, kernels });
      const expected = literal(reader(dy), turned(reader(w)), [rows, width], [0, outer]);
      expect(firstDifference(dx, expected)).toBe(-1);
    });

    test('gradient of the weight', () => {
      const [m, n] = [7, 11];
      const dy = matrix(3, { rows: 300, cols: m }, '128x1');
      const x = matrix(4, { rows: 300, cols: n }, '128x1');
      const dw = weightGradient(dy, x, { ...options, kernels });
      const expected = literal(turned(reader(dy)), turned(reader(x)), [m, n], [0, 300]);
      expect(firstDifference(dw, expected)).toBe(-1);
    });

    test('of experts', () => {
      const [k, n] = [140, 9];
      const x = matrix(5, { rows: tokens, cols: k }, '1x128');
      const dy = matrix(6, { rows: tokens, cols: n }, '1x128');
      const w = matrix(7, { rows: n, cols: k, stack: experts }, '128x128');
      const xs = matrix(5, { rows: tokens, cols: k, offsets }, '128x1');
      const ds = matrix(6, { rows: tokens, cols: n, offsets }, '128x1');
      const [readX, readDy, readW] = [reader(x), reader(dy), reader(w)];
      const [readXs, readDs] = [turned(reader(xs)), turned(reader(ds))];
      const expected = { y: [] as number[], dx: [] as number[], dw: [] as number[] };
      for (let g = 0; g < experts; g += 1) {
        const own: Side = (r, c) => readW(g * n + r, c);
        const [first, last] = [offsets[g], offsets[g + 1]];
        const count = last - first;
        expected.y.push(...literal(readX, own, [count, n], [0, k], first));
        expected.dx.push(...literal(readDy, turned(own), [count, k], [0, n], first));
        expected.dw.push(...literal(readDs, readXs, [n, k], [first, last]));
      }
      const grouped = { ...options, offsets, kernels };
      expect(firstDifference(multiply(x, w, grouped), expected.y)).toBe(-1);
      expect(firstDifference(inputGradient(dy, w, grouped), expected.dx)).toBe(-1);
      const dw = weightGradient(ds, xs, { ...options, kernels });
      expect(firstDifference(dw, expected.dw)).toBe(-1);
    });
  });

  test('results go where they are sent, or are added there', () => {
    const x = matrix(1, { rows: 3, cols: 40 }, '1x128');
    const w = matrix(2, { rows: 4, cols: 40 }, '128x128');
    for (const promotion of [128, 32]) {
      const y = multiply(x, w, { promotion, kernels });
      const out = new Float32Array(12).fill(0.1);
      expect(multiply(x, w, { promotion, accumulate: true, out, kernels })).toBe(out);
      expect(out).toEqual(y.map((value) => fl(0.1) + value));
      expect(multiply(x, w, { promotion, out, kernels })).toEqual(y);
    }
  });
});

test('any formats and blocks: scales of rows and tensors, gradients in E5M2, twelve bits', () => {
  const [m, n, k] = [5, 7, 290];
  const [x, w] = [values(m * k, 1), values(n * k, 2, 0.05)];
  const exact = new Float32Array(m * n);
  for (let i = 0; i < m; i += 1)
    for (let j = 0; j < n; j += 1)
      for (let l = 0; l < k; l += 1) exact[i * n + j] += x[i * k + l] * w[j * k + l];
  const bounds: [ElementFormat, QuantizedMatrix['block'], number][] = [
    ['e4m3', '1x128', 24],
    ['e4m3', 'row', 24],
    ['e4m3', 'tensor', 24],
    ['e5m2', 'tensor', 18],
    ['e5m6', '1x128', 40],
    ['bf16', '128x128', 45],
  ];
  for (const [format, block, decibel] of bounds) {
    const a = quantize(x, { rows: m, cols: k }, { format, block });
    const b = quantize(w, { rows: n, cols: k }, { format, block: 'row' });
    const y = multiply(a, b);
    expect(decibels(exact, y), `${format} ${block}`).toBeGreaterThan(decibel);
    // Within FP32's rounding, the product of what the codes stand for.
    const [da, db] = [dequantize(a), dequantize(b)];
    const decoded = exact.map((_v, at) => {
      let sum = 0;
      for (let l = 0; l < k; l += 1) sum += da[Math.floor(at / n) * k + l] * db[(at % n) * k + l];
      return sum;
    });
    expect(decibels(decoded, y), `${format} ${block}`).toBeGreaterThan(120);
  }
});

test('experts take rows scaled by row or tensor as well', () => {
  const sizes = { rows: tokens, cols: 40 };
  const w = matrix(7, { rows: 6, cols: 40, stack: experts }, 'tensor');
  for (const block of ['row', 'tensor'] as const) {
    const x = matrix(5, sizes, block);
    const y = multiply(x, w, { offsets });
    const last = multiply(
      { ...x, rows: 10, codes: x.codes.subarray(140 * 40), scales: x.scales.slice(-10) },
      { ...w, stack: 1, codes: w.codes.subarray(3 * 240), scales: w.scales.slice(3) },
    );
    expect(y.slice(140 * 6)).toEqual(last);
  }
});

test('V3’s blocks run on the kernels given, anything else does not need them', () => {
  const idle = nullKernels(); // compute nothing
  const x = matrix(1, { rows: 2, cols: 8 }, '1x128');
  for (const summation of [{}, { promotion: 4 }, { tensorCore: hopper }]) {
    expect([...multiply(x, x, { kernels: idle, ...summation })]).toEqual([0, 0, 0, 0]);
    for (const other of [{ ...x, block: 'row' }, quantize(values(16, 1), x, { format: 'e5m6' })])
      expect(
        multiply(other as QuantizedMatrix, other as QuantizedMatrix, {
          kernels: idle,
          ...summation,
        })[0],
      ).toBeGreaterThan(0);
  }
});

test('kernels sum as the same codes in other blocks are summed, in plain TypeScript', () => {
  // One tile a row is a row's scale.
  const x = quantize(values(5 * 128, 1), { rows: 5, cols: 128 });
  const w = quantize(values(9 * 128, 2), { rows: 9, cols: 128 });
  const [rowX, rowW] = [x, w].map((each): QuantizedMatrix => ({ ...each, block: 'row' }));
  for (const tensorCore of [
    hopper,
    { fractionBits: 5, accumulator: 'fp32' },
    { fractionBits: 30, accumulator: 'aligned' },
  ] as const)
    for (const promotion of [128, 40]) {
      const options = { tensorCore, promotion };
      const expected = multiply(rowX, rowW, options);
      if (tensorCore.fractionBits === 5)
        expect(expected).not.toEqual(multiply(rowX, rowW, { promotion }));
      for (const [, kernels] of implementations)
        expect(firstDifference(multiply(x, w, { ...options, kernels }), expected)).toBe(-1);
    }
});

test('what does not agree is refused', () => {
  const shape = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_SHAPE', path });
  const option = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_OPTION', path });
  const x = matrix(1, { rows: 2, cols: 3 }, '1x128');
  const w = matrix(1, { rows: 2, cols: 4 }, '128x128');
  const stack = matrix(1, { rows: 2, cols: 3, stack: 2 }, '128x128');
  expect(() => multiply(x, w)).toThrow(shape('w.cols'));
  expect(() => inputGradient(w, x)).toThrow(shape('w.rows'));
  expect(() => multiply(x, x, { out: new Float32Array(3) })).toThrow(shape('out'));
  expect(() => multiply(x, stack)).toThrow(shape('offsets'));
  expect(() => multiply(stack, x)).toThrow(shape('x.stack'));
  const borders = Int32Array.of(0, 1, 2);
  expect(() => multiply(x, x, { offsets: borders })).toThrow(shape('offsets'));
  expect(() => multiply(x, stack, { offsets: Int32Array.of(0, 3, 2) })).toThrow(shape('offsets'));
  const tall = matrix(1, { rows: 2, cols: 3, offsets: borders }, '128x1');
  expect(() => multiply(tall, stack, { offsets: borders })).toThrow(shape('x.offsets'));
  const plain = matrix(1, { rows: 2, cols: 3 }, '128x1');
  expect(() => multiply(plain, stack, { offsets: borders })).toThrow(shape('x.block'));
  const square = matrix(1, { rows: 2, cols: 2 }, '1x128');
  expect(() => inputGradient(square, tall)).toThrow(shape('w.offsets'));
  expect(() => weightGradient(tall, plain)).toThrow(shape('dy.offsets'));
  expect(() => weightGradient(plain, stack)).toThrow(shape('x.stack'));
  expect(() => multiply(x, x, { promotion: 0 })).toThrow(option('promotion'));
  for (const fractionBits of [0, 46, 1.5])
    expect(() => multiply(x, x, { tensorCore: { fractionBits, accumulator: 'fp32' } })).toThrow(
      option('tensorCore.fractionBits'),
    );
  const accumulator = 'bf16' as 'fp32';
  expect(() => multiply(x, x, { tensorCore: { fractionBits: 13, accumulator } })).toThrow(
    option('tensorCore.accumulator'),
  );
});
