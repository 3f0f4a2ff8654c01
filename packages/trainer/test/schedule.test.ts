// V3's schedules (§4.2): their corners, and V3's own numbers at its own tokens.
import { describe, expect, test } from 'vitest';

import { batchAt, biasSpeedAt, learningRateAt, mtpWeightAt, planOf, presets } from '../src/index';

const v3 = {
  peak: 2.2e-4,
  warmupShare: 0.0017,
  constantShare: 10 / 14.8 - 0.0017,
  end: 2.2e-5,
  finalShares: [
    { share: 0.333 / 14.8, rate: 2.2e-5 },
    { share: 0.167 / 14.8, rate: 7.3e-6 },
  ],
};

describe('learning rate', () => {
  test.each([
    ['half of the warm-up', 0.00085, 1.1e-4],
    ['the end of the warm-up', 0.0017, 2.2e-4],
    ['5 T tokens: constant', 5 / 14.8, 2.2e-4],
    ['10 T tokens: still constant', 10 / 14.8, 2.2e-4],
    ['half of the cosine', 12.15 / 14.8, (2.2e-4 + 2.2e-5) / 2],
    ['14.3 T tokens: its end', 14.3 / 14.8, 2.2e-5],
    ['the first final piece', 14.5 / 14.8, 2.2e-5],
    ['the last final piece', 14.7 / 14.8, 7.3e-6],
    ['the last token', 1, 7.3e-6],
  ])('%s', (_, done, rate) => {
    expect(learningRateAt(v3, done)).toBeCloseTo(rate, 10);
  });

  test('falls from step to step in the cosine and never leaves [end, peak]', () => {
    let last = Infinity;
    for (let done = 10 / 14.8; done < 14.3 / 14.8; done += 0.001) {
      const rate = learningRateAt(v3, done);
      expect(rate).toBeLessThanOrEqual(last);
      expect(rate).toBeGreaterThanOrEqual(v3.end);
      last = rate;
    }
  });

  test('without warm-up, cosine or final pieces it is the peak', () => {
    const flat = { peak: 1, warmupShare: 0, constantShare: 1, end: 0.1, finalShares: [] };
    for (const done of [1e-9, 0.5, 1]) expect(learningRateAt(flat, done)).toBe(1);
  });

  test('a cosine that takes all ends at its end', () => {
    const all = { peak: 1, warmupShare: 0, constantShare: 0, end: 0.1, finalShares: [] };
    expect(learningRateAt(all, 1)).toBeCloseTo(0.1, 12);
    expect(learningRateAt(all, 0.5)).toBeCloseTo(0.55, 12);
  });
});

test('γ is 0 for the last share, λ changes for its own', () => {
  const bias = { speed: 0.001, freezeShare: 0.5 / 14.8 };
  expect(biasSpeedAt(bias, 14.3 / 14.8)).toBe(0.001);
  expect(biasSpeedAt(bias, 14.31 / 14.8)).toBe(0);
  expect(biasSpeedAt({ speed: 0.001, freezeShare: 0 }, 1)).toBe(0.001);
  const weight = { first: 0.3, last: 0.1, lastShare: 4.8 / 14.8 };
  expect(mtpWeightAt(weight, 9.9 / 14.8)).toBe(0.3);
  expect(mtpWeightAt(weight, 10.1 / 14.8)).toBe(0.1);
});

test('the batch grows in whole micro-batches, and stays', () => {
  const batch = {
    ...{ sequence: 8, sequences: 16, microBatch: 2 },
    ...{ rampFrom: 4, rampShare: 0.5, rampBy: null },
  };
  const sizes = Array.from({ length: 20 }, (_, step) => batchAt(batch, 20, step));
  expect(sizes.slice(0, 10)).toEqual([4, 4, 6, 6, 8, 10, 10, 12, 12, 14]);
  expect(sizes.slice(10)).toEqual(new Array<number>(10).fill(16));
  const stairs = Array.from({ length: 11 }, (_, step) =>
    batchAt({ ...batch, rampBy: 6 }, 20, step),
  );
  expect(stairs).toEqual([4, 4, 4, 4, 4, 10, 10, 10, 10, 10, 16]);
});

test('v3-671b: 14.8 T tokens, 469 B of them while the batch grows', () => {
  const config = presets['v3-671b']();
  const plan = planOf(config);
  expect(plan.totalTokens / 14.8e12).toBeCloseTo(1, 3);
  const grown = Array.from({ length: config.steps }, (_, step) => step).findIndex(
    (step) => plan.at(step).sequences === 15360,
  );
  expect(Math.abs(plan.tokensBefore(grown) / 469e9 - 1)).toBeLessThan(0.01);
  expect(plan.at(0).sequences).toBe(3072);
  expect(plan.at(1999).learningRate / 2.2e-4).toBeGreaterThan(0.2);
  expect(plan.at(config.steps - 1)).toMatchObject({ biasSpeed: 0, mtpWeight: 0.1 });
});
