// Error statistics on numbers that can be checked by hand.
import { expect, test } from 'vitest';

import { decibels, values } from '../../../test/support';
import {
  dequantize,
  emptyStatistics,
  errorStatistics,
  type QuantizedMatrix,
  quantize,
  signalToNoise,
} from '../src/index';

test('errors, and what is lost at both ends of the format', () => {
  // Under a scale of 1: 17 lies between 16 and 18 and goes to 16, 2⁻¹⁰ is half the smallest value and goes to zero,
  // 464 is the last number that rounds to 448 by itself, and beyond it saturation takes hold.
  const x = Float32Array.of(1, 17, 2 ** -10, 0, 464, 466, -1000, NaN, Infinity);
  const q: QuantizedMatrix = {
    ...quantize(x, { rows: 1, cols: 9 }, { block: 'tensor' }),
    codes: Uint8Array.of(0x38, 0x58, 0, 0, 0x7e, 0x7e, 0xfe, 0x7f, 0x7e),
    scales: Float32Array.of(1),
  };
  expect([...dequantize(q)]).toEqual([1, 16, 0, 0, 448, 448, -448, NaN, 448]);
  const squares = 1 + 17 ** 2 + 2 ** -20 + 464 ** 2 + 466 ** 2 + 1000 ** 2;
  expect(errorStatistics(x, q)).toEqual({
    values: 7,
    nonFinite: 2,
    lost: 0,
    signalToNoise: expect.closeTo(
      10 * Math.log10(squares / (1 + 2 ** -20 + 16 ** 2 + 18 ** 2 + 552 ** 2)),
      9,
    ) as number,
    maxAbsolute: 552,
    maxRelative: 0.552,
    saturated: 2,
    underflowed: 1,
    smallestScale: 1,
    largestScale: 1,
  });
});

test('quantise fills them, for every format and with blocks of different scales', () => {
  const x = values(3 * 200, 1).map((value, i) => value * (i < 200 ? 1e3 : 1e-3));
  for (const format of ['e4m3', 'e5m2', 'e5m6', 'bf16'] as const) {
    const statistics = emptyStatistics();
    statistics.saturated = 99; // from another matrix
    const q = quantize(x, { rows: 3, cols: 200 }, { format, statistics });
    expect(statistics).toEqual(errorStatistics(x, q));
    expect(statistics.signalToNoise).toBeCloseTo(decibels(x, dequantize(q)), 6);
    expect(statistics.smallestScale).toBe(Math.min(...q.scales));
    expect(statistics.largestScale).toBe(Math.max(...q.scales));
    expect(statistics).toMatchObject({ values: 600, saturated: 0 });
  }
});

test('row groups count their own scales alone', () => {
  const sizes = { rows: 4, cols: 2, offsets: Int32Array.of(0, 1, 4) };
  const x = Float32Array.of(448, 448, 896, 896, 896, 896, 896, 896);
  const q = quantize(x, sizes, { block: '128x1' });
  expect(errorStatistics(x, q)).toMatchObject({ smallestScale: 1, largestScale: 2 });
});

test.each(['1x128', '128x1', '128x128', 'row', 'tensor'] as const)(
  'an infinity takes its block of %s along, and the values lost with it are counted',
  (block) => {
    const x = new Float32Array(256 * 256).fill(1);
    x[0] = Infinity;
    const q = quantize(x, { rows: 256, cols: 256 }, { block });
    const decoded = dequantize(q);
    const lost = decoded.filter((value) => !Number.isFinite(value)).length - 1;
    const sizes = { '1x128': 128, '128x1': 128, '128x128': 128 * 128, row: 256, tensor: x.length };
    expect(lost).toBe(sizes[block] - 1);
    expect(errorStatistics(x, q)).toMatchObject({
      nonFinite: 1,
      lost,
      maxAbsolute: Infinity,
      maxRelative: Infinity,
      signalToNoise: -Infinity,
      saturated: 0,
    });
  },
);

test('formats and blocks that there are not are refused', () => {
  const one = Float32Array.of(1);
  const refused = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_OPTION', path });
  const size = { rows: 1, cols: 1 };
  expect(() => quantize(one, size, { block: '64x64' as 'row' })).toThrow(refused('block'));
  expect(() => quantize(one, size, { format: 'e3m4' as 'e5m2' })).toThrow(refused('format'));
});

test('an empty matrix has none', () => {
  const q = quantize(new Float32Array(0), { rows: 0, cols: 4 });
  expect(errorStatistics(new Float32Array(0), q)).toEqual(emptyStatistics());
});

test('signalToNoise is in decibels, infinite for equal arrays', () => {
  expect(signalToNoise(Float32Array.of(10, 0), Float32Array.of(9, 0))).toBeCloseTo(20, 6);
  expect(signalToNoise(Float32Array.of(1, 2), Float32Array.of(1, 2))).toBe(Infinity);
});
