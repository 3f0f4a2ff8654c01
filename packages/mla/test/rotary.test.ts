// Rotary tables and YaRN, against the published numbers of V3's long-context model.
import { describe, expect, test } from 'vitest';

import { rotaryFrequencies, rotaryTables, softmaxScale, type YarnConfig } from '../src/index';

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
    expect(softmaxScale(192, { ...yarn, factor: 1 })).toBe(softmaxScale(192, null));
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
