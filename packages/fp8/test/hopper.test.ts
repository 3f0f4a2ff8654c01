// The tensor core's accumulation: small cases worked out by hand, a second implementation on whole numbers of any size,
// and the exact sum where enough bits are kept.
import { expect, test } from 'vitest';

import { randomFrom, values } from '../../../test/support';
import {
  type ElementFormat,
  encoder,
  formats,
  formatTable,
  hopper,
  multiply,
  type ProductOptions,
  type QuantizedMatrix,
  quantize,
  type TensorCore,
} from '../src/index';

/** Numbers that the format has, as a matrix of one row under a scale of 1. */
function row(numbers: readonly number[], format: ElementFormat = 'e4m3'): QuantizedMatrix {
  const encode = encoder(format);
  const codes = Uint16Array.from(numbers, encode);
  expect(Array.from(codes, (code) => formatTable(format)[code])).toEqual(numbers);
  return {
    format,
    block: 'tensor',
    rows: 1,
    cols: numbers.length,
    codes: formats[format].bits === 8 ? Uint8Array.from(codes) : codes,
    scales: Float32Array.of(1),
  };
}

/** Σ a · b as a tensor core adds it up, never promoted. */
function sum(
  a: readonly number[],
  b: readonly number[],
  tensorCore: TensorCore,
  options: ProductOptions = {},
): number {
  return multiply(row(a), row(b), { promotion: Infinity, tensorCore, ...options })[0];
}

const ones = (count: number): number[] => new Array<number>(count).fill(1);
const core = (
  fractionBits: number,
  accumulator: TensorCore['accumulator'] = 'aligned',
): TensorCore => ({
  fractionBits,
  accumulator,
});

test('products are cut at the largest exponent less the bits kept, towards zero', () => {
  // Largest exponent 3 (8 · 1): with 4 bits what lies below 2⁻¹ is cut. 1.75 → 1.5, −1.75 → −1.5, 0.25 → 0.
  expect(sum([8, 1.75], ones(2), core(4))).toBe(9.5);
  expect(sum([8, -1.75], ones(2), core(4))).toBe(6.5);
  expect(sum([8, 0.25, 0.25], ones(3), core(4))).toBe(8);
  // With 5 bits 1.75 → 1.75 and 0.25 stays.
  expect(sum([8, 1.75, 0.25], ones(3), core(5))).toBe(10);
});

test('the exponent is that of the factors, not of the product', () => {
  // 1.5 · 1.5 = 2.25 has the exponent 0 of its factors: with 1 bit kept, multiples of 0.5 stay. Were the exponent the
  // product's own, 1, only multiples of 1 would.
  expect(sum([1.5, 0.5], [1.5, 1], core(1, 'fp32'))).toBe(2 + 0.5);
  // A subnormal factor has the smallest normal value's exponent, −6: 2⁻⁹ · 2⁶ = 2⁻³ has exponent 0. With 1 bit kept it
  // is cut off itself, and so is 0.25.
  expect(sum([2 ** -9, 0.25], [64, 1], core(1))).toBe(0);
  expect(sum([2 ** -9, 0.25], [64, 1], core(3))).toBe(2 ** -3 + 0.25);
});

test('zeros take no part, whatever stands beside them', () => {
  expect(sum([0, 2 ** -6], [448, 2 ** -6], core(1))).toBe(2 ** -12);
  expect(sum([0, 0, 0], [1, 0, 448], core(1))).toBe(0);
  expect(sum([...ones(32), 0], [...ones(32), 448], core(9))).toBe(32);
});

test('zeros by NaN are NaN, whatever stands beside them', () => {
  const [nan, zeros] = [new Array<number>(40).fill(NaN), new Array<number>(40).fill(0)];
  for (const kind of ['aligned', 'fp32'] as const) {
    expect(sum(nan, zeros, core(13, kind))).toBeNaN();
    expect(sum(zeros, zeros, core(13, kind))).toBe(0);
    expect(sum([...ones(32), NaN], [...ones(32), 0], core(13, kind))).toBeNaN();
  }
});

test('an aligned accumulator is cut by larger products, and keeps its bits below its own leading one', () => {
  // First instruction: 1. Second: 256 has exponent 8, at 4 bits multiples of 16 stay, and the accumulator is gone.
  const a = [1, ...new Array<number>(31).fill(0), 256];
  expect(sum(a, ones(33), core(4))).toBe(256);
  expect(sum(a, ones(33), core(4, 'fp32'))).toBe(257);
  expect(sum(a, ones(33), core(8))).toBe(257);
  // 31 · 1 + 0.5 = 31.5 = 1.11111₂ · 2⁴: one instruction holds it all at 1 bit, the accumulator keeps 1.1₂ · 2⁴.
  const b = [...ones(31), 0.5];
  expect(sum(b, ones(32), core(1))).toBe(24);
  expect(sum(b, ones(32), core(1, 'fp32'))).toBe(31.5);
});

test('an accumulator in FP32 rounds to the nearest', () => {
  // 256 products of 2¹⁶ make 2²⁴, where FP32's step is 2: adding 1 is a tie that goes back, adding 3 one that goes on.
  const large = new Array<number>(256).fill(256);
  const padded = (tail: number): number[] => [...large, tail];
  expect(sum(padded(1), [...large, 1], core(13, 'fp32'))).toBe(2 ** 24);
  expect(sum(padded(3), [...large, 1], core(13, 'fp32'))).toBe(2 ** 24 + 4);
  expect(sum(padded(3), [...large, 1], core(45))).toBe(2 ** 24 + 4); // rounded when it leaves for FP32
});

test('promotion empties the accumulator before it cuts the products', () => {
  // An instruction adds 32 ones to 32 = 2⁵. With 3 bits kept, an accumulator of 2⁵ cuts the next ones at multiples of 4:
  // nothing is left of them, and the sum stands still until it is promoted.
  const all = ones(4096);
  expect(sum(all, all, core(3))).toBe(32);
  expect(sum(all, all, core(3), { promotion: 128 })).toBe(1024);
  expect(sum(all, all, core(3), { promotion: 32 })).toBe(4096);
  expect(sum(all, all, core(3, 'fp32'))).toBe(4096);
});

/** The same with whole numbers of any size: everything in multiples of 2^−200. */
function literalSum(
  a: readonly number[],
  b: readonly number[],
  format: ElementFormat,
  { fractionBits, accumulator }: TensorCore,
): number {
  const unit = 200;
  const low = 1 - formats[format].bias;
  const exponent = (x: number): number => Math.max(low, Math.floor(Math.log2(Math.abs(x))));
  const whole = (x: number): bigint => BigInt(x * 2 ** 100) << BigInt(unit - 100);
  const cut = (x: bigint, grid: number): bigint => {
    const step = 1n << BigInt(unit + grid);
    return (x / step) * step; // BigInt division goes towards zero
  };
  const top = (x: bigint): number => (x < 0n ? -x : x).toString(2).length - 1 - unit;
  const number = (x: bigint): number => Number(x) / 2 ** unit;
  let sum = 0n;
  for (let first = 0; first < a.length; first += 32) {
    const products = a
      .slice(first, first + 32)
      .map((x, i) => ({ x, y: b[first + i] }))
      .filter(({ x, y }) => x !== 0 && y !== 0);
    const exponents = products.map(({ x, y }) => exponent(x) + exponent(y));
    if (accumulator === 'aligned' && sum !== 0n) exponents.push(top(sum));
    if (exponents.length === 0) continue;
    const grid = Math.max(...exponents) - fractionBits;
    const total = products.reduce((so, { x, y }) => so + cut(whole(x * y), grid), 0n);
    if (accumulator === 'aligned') {
      const next = cut(sum, grid) + total;
      sum = next === 0n ? 0n : cut(next, top(next) - fractionBits);
    } else sum = whole(Math.fround(number(sum) + Math.fround(number(total))));
  }
  return Math.fround(number(sum));
}

test.each(['e4m3', 'e5m2', 'e5m6'] as const)('%s: random sums as whole numbers say', (format) => {
  const random = randomFrom(5);
  const table = [...formatTable(format)].filter((value) => Number.isFinite(value));
  const pick = (): number => table[Math.floor(random() * table.length)] + 0;
  for (let round = 0; round < 300; round += 1) {
    const count = 1 + Math.floor(random() * 140);
    const small = round % 2 === 0;
    const [a, b] = [0, 1].map(() =>
      Array.from({ length: count }, () => (small ? Math.round(random() * 16 - 8) / 4 : pick())),
    );
    const bits = 1 + Math.floor(random() * 24);
    for (const accumulator of ['aligned', 'fp32'] as const) {
      const tensorCore = core(bits, accumulator);
      const [x, w] = [row(a, format), row(b, format)];
      const actual = multiply(x, w, { promotion: Infinity, tensorCore })[0];
      expect(actual).toBe(literalSum(a, b, format, tensorCore));
    }
  }
});

test('with enough bits the sum is exact, rounded once', () => {
  const random = randomFrom(6);
  const table = [...formatTable('e4m3')].filter((value) => Number.isFinite(value));
  for (let round = 0; round < 100; round += 1) {
    const [a, b] = [0, 1].map(() =>
      Array.from({ length: 128 }, () => table[Math.floor(random() * table.length)] + 0),
    );
    // Multiples of 2⁻¹⁸ below 2²⁵: a double adds them exactly.
    const exact = a.reduce((so, x, i) => so + x * b[i], 0);
    // The largest product of 32 has exponent 16, the smallest value is 2⁻¹⁸: 34 bits, the paper's number (§3.5.2).
    expect(sum(a, b, core(34 + 7))).toBe(Math.fround(exact));
    // In one instruction 34 are enough.
    const [x, y] = [a.slice(0, 32), b.slice(0, 32)];
    const part = x.reduce((so, value, i) => so + value * y[i], 0);
    expect(sum(x, y, core(34, 'fp32'))).toBe(Math.fround(part));
  }
});

test('Hopper loses on long sums what promotion every 128 keeps', () => {
  const k = 4096;
  const [m, n] = [8, 8];
  const scaled = (seed: number, count: number): QuantizedMatrix =>
    quantize(values(count * k, seed).map(Math.abs), { rows: count, cols: k }, { block: 'tensor' });
  const [x, w] = [scaled(1, m), scaled(2, n)];
  const errors = (options: ProductOptions): number => {
    const exact = multiply(x, w, { promotion: Infinity, tensorCore: core(45) });
    const y = multiply(x, w, options);
    return Math.max(...y.map((value, i) => Math.abs(value - exact[i]) / exact[i]));
  };
  const never = errors({ promotion: Infinity, tensorCore: hopper });
  const often = errors({ promotion: 128, tensorCore: hopper });
  expect(never).toBeGreaterThan(0.01);
  expect(often).toBeLessThan(1e-3);
  expect(errors({ promotion: 128 })).toBeLessThan(often);
});
