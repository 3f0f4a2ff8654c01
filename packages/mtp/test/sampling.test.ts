// From logits to tokens: probabilities worked out by sorting, and draws that follow them.
import { describe, expect, test } from 'vitest';

import { randomFrom, values } from '../../../test/support';
import { draw, probabilities } from '../src/index';

/** The same by sorting, in double precision. */
function sorted(logits: Float32Array, temperature: number, topP: number): number[] {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  const weights = order.map((i) => Math.exp((logits[i] - logits[order[0]]) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let kept = 0;
  let count = 0;
  while (count === 0 || (count < weights.length && kept < topP * total)) kept += weights[count++];
  const out = new Array<number>(logits.length).fill(0);
  order.slice(0, count).forEach((token, i) => (out[token] = weights[i] / kept));
  return out;
}

describe('probabilities', () => {
  const logits = Float32Array.from([0.1, 0.4, 0.2, 0.3], Math.log);
  const of = (temperature: number, topP: number): number[] => [
    ...probabilities(logits, { vocab: 4 }, { temperature, topP }),
  ];
  const expectShares = (got: number[], expected: number[]): void => {
    got.forEach((share, i) => {
      expect(share).toBeCloseTo(expected[i], 6);
      if (expected[i] === 0) expect(share).toBe(0);
    });
  };

  test('the likeliest at temperature 0, the first of equals', () => {
    expect(of(0, 1)).toEqual([0, 1, 0, 0]);
    expect([...probabilities(Float32Array.of(1, 3, 3), { vocab: 3 })]).toEqual([0, 1, 0]);
  });

  test('softmax at temperature 1, its squares at ½', () => {
    expectShares(of(1, 1), [0.1, 0.4, 0.2, 0.3]);
    expectShares(of(0.5, 1), [1 / 30, 16 / 30, 4 / 30, 9 / 30]);
  });

  test('the fewest of the likeliest that reach top-p', () => {
    expectShares(of(1, 0.69), [0, 4 / 7, 0, 3 / 7]);
    expectShares(of(1, 0.71), [0, 4 / 9, 2 / 9, 3 / 9]);
    for (const topP of [1e-9, 0, -1]) expect(of(1, topP)).toEqual([0, 1, 0, 0]);
    // Of equals those of smaller ids, as many as it takes.
    const equals = probabilities(new Float32Array(5), { vocab: 5 }, { temperature: 1, topP: 0.5 });
    expectShares([...equals], [1 / 3, 1 / 3, 1 / 3, 0, 0]);
  });

  test.each([
    [0.3, 0.9],
    [1, 0.5],
    [2, 0.97],
    [1, 1],
    [5, 0.01],
  ])('rows as by sorting, at temperature %d and top-p %d', (temperature, topP) => {
    const [rows, vocab] = [7, 301];
    const given = values(rows * vocab, 3, 9);
    given[5] = -Infinity;
    given.fill(2.5, 400, 420);
    const all = probabilities(given, { rows, vocab }, { temperature, topP });
    for (let r = 0; r < rows; r += 1) {
      const expected = sorted(given.subarray(r * vocab, (r + 1) * vocab), temperature, topP);
      expectShares([...all.subarray(r * vocab, (r + 1) * vocab)], expected);
    }
    expect(all[5]).toBe(0);
    // In place, and where it is told, nothing else.
    const whole = new Float32Array(rows * vocab + 2).fill(7);
    whole.set(given, 1);
    const out = whole.subarray(1, 1 + rows * vocab);
    expect(probabilities(out, { rows, vocab }, { temperature, topP, out })).toBe(out);
    expect(out).toEqual(all);
    expect([whole[0], whole.at(-1)]).toEqual([7, 7]);
  });

  test('refuses rows without a likeliest token, and arrays of another length', () => {
    for (const [bad, says] of [
      [NaN, 'row 1: token 0 has NaN'],
      [Infinity, 'row 1: token 0 has Infinity'],
    ] as const)
      for (const temperature of [0, 1])
        expect(() =>
          probabilities(Float32Array.of(1, 2, bad, 3), { rows: 2, vocab: 2 }, { temperature }),
        ).toThrow(
          expect.objectContaining({
            code: 'ERR_BALEEN_MTP_LOGITS',
            message: expect.stringContaining(says) as string,
          }),
        );
    const none = new Float32Array(2).fill(-Infinity);
    expect(() => probabilities(none, { vocab: 2 })).toThrow('-Infinity, the largest');
    const sizes = expect.objectContaining({ code: 'ERR_BALEEN_MTP_SIZES' }) as unknown;
    for (const vocab of [0, 3, 1.5]) expect(() => probabilities(logits, { vocab })).toThrow(sizes);
    const out = new Float32Array(3);
    expect(() => probabilities(logits, { vocab: 4 }, { out })).toThrow(sizes);
  });
});

describe('draw', () => {
  test('takes the token at a share of the sum', () => {
    const weights = Float32Array.of(0, 2, 0, 1, 1, 0);
    const shares: [number, number][] = [
      [0, 1],
      [0.49, 1],
      [0.5, 3],
      [0.74, 3],
      [0.75, 4],
      [1 - 2 ** -32, 4],
    ];
    for (const [random, token] of shares) expect(draw(weights, random)).toBe(token);
  });

  test('never takes a token without weight, whatever is lost in sums', () => {
    const weights = values(1000, 1).map((w, i) => (i % 3 === 0 ? Math.abs(w) : 0));
    const random = randomFrom(2);
    for (let i = 0; i < 2000; i += 1) expect(draw(weights, random()) % 3).toBe(0);
    expect(draw(weights, 1)).toBe(999);
  });

  test('refuses what is no distribution', () => {
    for (const [weights, sum] of [
      [[0, 0], '0'],
      [[1, NaN], 'NaN'],
      [[1, Infinity], 'Infinity'],
    ] as const)
      expect(() => draw(Float32Array.from(weights), 0.5)).toThrow(
        expect.objectContaining({
          code: 'ERR_BALEEN_MTP_DISTRIBUTION',
          message: `row 0 of weights adds up to ${sum}`,
        }),
      );
  });
});
