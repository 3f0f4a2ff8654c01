// Statistics of codes and scales on numbers that can be checked by hand, and against the values where those are known.
import { describe, expect, test } from 'vitest';

import { values } from '../../../test/support';
import {
  codeStatistics,
  emptyCodeStatistics,
  errorStatistics,
  isPowerOfTwo,
  type QuantizedMatrix,
  quantize,
  scaleStatistics,
} from '../src/index';

describe('codes', () => {
  // Two tiles in a row, the second ragged. E4M3: 0x7e is 448, 0x38 is 1, 0x07 the largest subnormal, 0x7f NaN.
  const codes = new Uint8Array(130);
  codes.set([0x7e, 0xfe, 0x38, 0x07, 0x81, 0x80, 0x7f, 0xff]);
  codes.set([0x38, 0x00], 128);
  const q: QuantizedMatrix = {
    format: 'e4m3',
    block: '1x128',
    rows: 1,
    cols: 130,
    codes,
    scales: Float32Array.of(0.5, 8),
  };

  test('are counted, those that are not finite apart', () => {
    const squares = 0.25 * (2 * 448 ** 2 + 1 + (7 / 512) ** 2 + 1 / 512 ** 2) + 64;
    expect(codeStatistics(q)).toEqual({
      values: 128,
      nonFinite: 2,
      zeros: 122,
      subnormals: 2,
      largest: 2,
      blocks: 2,
      filledBlocks: 1,
      maxAbsolute: 224,
      rootMeanSquare: expect.closeTo(Math.sqrt(squares / 128), 9) as number,
      expectedSignalToNoise: expect.any(Number) as number,
    });
  });

  test('fill what is given, whatever it held', () => {
    const out = { ...emptyCodeStatistics(), zeros: 99, filledBlocks: 7 };
    expect(codeStatistics(q, { out })).toBe(out);
    expect(out).toEqual(codeStatistics(q));
  });

  test('of none are nothing', () => {
    const none = quantize(new Float32Array(0), { rows: 0, cols: 4 });
    expect(codeStatistics(none)).toEqual(emptyCodeStatistics());
  });

  test('fill the format under online scales, powers of two as well, and not under scales four times as large', () => {
    const x = values(300 * 200, 5);
    for (const powerOfTwo of [false, true]) {
      const made = quantize(x, { rows: 300, cols: 200 }, { block: '128x128', powerOfTwo });
      expect(codeStatistics(made)).toMatchObject({ blocks: 6, filledBlocks: 6 });
    }
    const large = quantize(x, { rows: 300, cols: 200 }, { block: '128x128' });
    large.codes = large.codes.map((code) => ((code & 0x7f) > 0x10 ? code - 0x10 : code));
    expect(codeStatistics(large)).toMatchObject({ blocks: 6, filledBlocks: 0 });
  });

  test.each(['e4m3', 'e5m2', 'e5m6', 'bf16'] as const)(
    'the expected cost of rounding is near the real one: %s',
    (format) => {
      const x = values(256 * 256, 3);
      const made = quantize(x, { rows: 256, cols: 256 }, { format });
      const { expectedSignalToNoise, rootMeanSquare } = codeStatistics(made);
      expect(Math.abs(expectedSignalToNoise - errorStatistics(x, made).signalToNoise)).toBeLessThan(
        0.3,
      );
      const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
      expect(rootMeanSquare).toBeCloseTo(Math.sqrt(mean), 2);
    },
  );

  test('blocks of a stack have scales of their own', () => {
    const x = Float32Array.of(1, 2, 300, 400);
    const made = quantize(x, { rows: 1, cols: 2, stack: 2 }, { block: '128x128' });
    expect(codeStatistics(made)).toMatchObject({ blocks: 2, largest: 2, maxAbsolute: 400 });
  });
});

describe('scales', () => {
  test('their range, and those that are none', () => {
    const scales = Float32Array.of(0, 0.25, NaN, 3, -1, 16, Infinity, 0.5);
    expect(scaleStatistics(scales)).toEqual({
      scales: 4,
      invalid: 4,
      smallest: 0.25,
      largest: 16,
      median: 0.5,
      spread: 6,
      powersOfTwo: 3,
    });
  });

  test('none at all', () => {
    expect(scaleStatistics(Float32Array.of(-1))).toEqual({
      scales: 0,
      invalid: 1,
      smallest: Infinity,
      largest: 0,
      median: NaN,
      spread: NaN,
      powersOfTwo: 0,
    });
  });

  test('scratch and out are used, and scales stay as they are', () => {
    const scales = Float32Array.of(4, 1, 2);
    const scratch = new Float32Array(5);
    const out = scaleStatistics(Float32Array.of(1));
    expect(scaleStatistics(scales, { out, scratch })).toBe(out);
    expect([...scales]).toEqual([4, 1, 2]);
    expect(out).toMatchObject({ smallest: 1, median: 2, largest: 4 });
  });

  test('powers of two', () => {
    for (const power of [-126, -9, 0, 5, 127]) expect(isPowerOfTwo(2 ** power)).toBe(true);
    for (const other of [0, -2, 3, 1.000001, NaN, Infinity])
      expect(isPowerOfTwo(Math.fround(other))).toBe(false);
  });
});
