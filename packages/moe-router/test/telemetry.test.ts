// What loads say, against loops and by hand.
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import { coActivation, domainLoads, loadEntropy, loadHistogram, maxViolation } from '../src/index';

describe('maxViolation', () => {
  test.each([
    [[5, 5, 5, 5], 0],
    [[20, 0, 0, 0], 3],
    [[6, 4, 5, 5], 0.2],
    [[0, 0], 0],
    [[7], 0],
  ])('of %j is %d', (counts, expected) => {
    expect(maxViolation(counts)).toBeCloseTo(expected, 12);
    expect(maxViolation(Int32Array.from(counts))).toBeCloseTo(expected, 12);
  });

  test('depends on shares alone', () => {
    const random = randomFrom(3);
    const counts = Array.from({ length: 16 }, () => Math.floor(random() * 100));
    expect(maxViolation(counts.map((count) => 7 * count))).toBeCloseTo(maxViolation(counts), 12);
  });
});

test('entropy is 1 in balance, 0 where one expert gets all, and that of the shares between', () => {
  expect(loadEntropy([3, 3, 3])).toBeCloseTo(1, 12);
  expect(loadEntropy([9, 0, 0])).toBe(0);
  expect(loadEntropy([2, 2, 0, 0])).toBeCloseTo(0.5, 12);
  expect(loadEntropy([0, 0])).toBe(1);
  expect(loadEntropy([5])).toBe(1);
});

test('the histogram counts experts by load over mean; the last bin is open', () => {
  // The mean is 4: loads of 0, 0.25, 1, 1.5 and 2.25 means.
  const counts = [0, 1, 4, 6, 9];
  expect([...loadHistogram(counts, { bins: 4, width: 0.5 })]).toEqual([2, 0, 1, 2]);
  const out = new Int32Array(9).fill(7);
  expect(loadHistogram(counts, { out })).toBe(out);
  expect([...out]).toEqual([1, 1, 0, 0, 1, 0, 1, 0, 1]);
});

test('a load on a border is in the bin that begins there, and bins have a width', () => {
  // 0.3 and 1.7 of the mean, in tenths.
  const bins = loadHistogram([3, 17], { bins: 20, width: 0.1 });
  expect([...bins.keys()].filter((bin) => bins[bin] > 0)).toEqual([3, 17]);
  for (const width of [0, -1, NaN])
    expect(() => loadHistogram([1, 2], { width })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path: 'width' }),
    );
});

describe('of choices', () => {
  const random = randomFrom(5);
  const sizes = { tokens: 40, experts: 6, expertsPerToken: 3 };
  const indices = Int32Array.from(
    Array.from({ length: 40 }, () => {
      const first = Math.floor(random() * 6);
      return [first, (first + 1 + Math.floor(random() * 2)) % 6, (first + 4) % 6];
    }).flat(),
  );
  const tokenHas = (t: number, e: number): boolean => indices.slice(3 * t, 3 * t + 3).includes(e);

  test('co-activation counts the tokens that two experts share', () => {
    const pairs = coActivation(indices, sizes);
    for (let a = 0; a < 6; a += 1)
      for (let b = 0; b < 6; b += 1) {
        const shared = Array.from({ length: 40 }, (_, t) => tokenHas(t, a) && tokenHas(t, b));
        expect(pairs[6 * a + b]).toBe(shared.filter(Boolean).length);
      }
    const twice = coActivation(indices, sizes, { out: pairs.slice(), accumulate: true });
    expect([...twice]).toEqual([...pairs].map((count) => 2 * count));
    expect(coActivation(indices, sizes, { out: twice })).toEqual(pairs);
  });

  test('loads by domain add up to loads', () => {
    const domains = Int32Array.from({ length: 40 }, (_, t) => (t % 7 === 0 ? 2 : t % 2));
    const loads = domainLoads(indices, domains, { ...sizes, domains: 3 });
    for (let d = 0; d < 3; d += 1)
      for (let e = 0; e < 6; e += 1) {
        const own = Array.from({ length: 40 }, (_, t) => domains[t] === d && tokenHas(t, e));
        expect(loads[6 * d + e]).toBe(own.filter(Boolean).length);
      }
    const out = loads.slice();
    domainLoads(indices, domains, { ...sizes, domains: 3 }, { out, accumulate: true });
    expect([...out]).toEqual([...loads].map((count) => 2 * count));
  });

  test('what does not fit is refused', () => {
    const refusal = (path: string): unknown =>
      expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path });
    expect(() => coActivation(indices, { ...sizes, tokens: 39 })).toThrow(refusal('indices'));
    expect(() => coActivation(indices, { ...sizes, experts: 5 })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES' }),
    );
    const domains = new Int32Array(40).fill(3);
    expect(() => domainLoads(indices, domains, { ...sizes, domains: 3 })).toThrow(
      refusal('domains[0]'),
    );
    expect(() => loadHistogram([1], { bins: 2, out: new Int32Array(3) })).toThrow(refusal('out'));
  });
});
