// Which token each position predicts at which depth, and how much it weighs.
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import { lossWeights, mtpTargets } from '../src/index';

/** Packed sequences of random tokens in documents of random length, as a data loader cuts them from a stream. */
function packed(batch: number, length: number, seed: number) {
  const random = randomFrom(seed);
  const stream: { token: number; document: number }[] = [];
  let document = 0;
  while (stream.length < batch * (length + 1) + 1) {
    const size = 1 + Math.floor(random() * 6);
    for (let i = 0; i < size; i += 1) stream.push({ token: Math.floor(random() * 100), document });
    document += 1;
  }
  const at = (b: number, i: number) => stream[b * (length + 1) + i];
  const list = (shift: number, key: 'token' | 'document'): Int32Array =>
    Int32Array.from(
      { length: batch * length },
      (_, i) => at(Math.floor(i / length), (i % length) + shift)[key],
    );
  return {
    at,
    next: list(1, 'token'),
    documents: { inputs: list(0, 'document'), targets: list(1, 'document') },
  };
}

describe.each([1, 2, 3])('depth %i', (depth) => {
  test('position i predicts token i + k + 1 of its document, and nothing beyond its end or its sequence', () => {
    const [batch, length] = [5, 20];
    const { at, next, documents } = packed(batch, length, depth);
    const targets = mtpTargets(next, documents, { batch, length, depth });
    const count = length - depth;
    expect(targets).toHaveLength(batch * count);
    let counted = 0;
    for (let b = 0; b < batch; b += 1)
      for (let i = 0; i < count; i += 1) {
        const later = at(b, i + depth + 1);
        const same = later.document === at(b, i).document;
        if (same) counted += 1;
        expect(targets[b * count + i]).toBe(same ? later.token : -1);
      }
    // Both cases occur.
    expect(counted).toBeGreaterThan(0);
    expect(counted).toBeLessThan(batch * count);
  });
});

test('targets that are unknown stay unknown, and the result goes where it is told', () => {
  const sizes = { batch: 1, length: 4, depth: 1 };
  const documents = { inputs: new Int32Array(4), targets: new Int32Array(4) };
  const out = new Int32Array(3);
  expect(mtpTargets(Int32Array.of(1, -1, 3, -1), documents, sizes, { out })).toBe(out);
  expect([...out]).toEqual([-1, 3, -1]);
});

test('a depth that no position reaches, lists of another size and a place that does not fit are refused', () => {
  const sizes = { batch: 2, length: 4, depth: 1 };
  const list = new Int32Array(8);
  const documents = { inputs: list, targets: list };
  const out = new Int32Array(6);
  const refusal = (path: string, message: string): unknown =>
    expect.objectContaining({
      code: 'ERR_BALEEN_MTP_SIZES',
      path,
      message,
      hint: expect.any(String) as string,
    });
  for (const depth of [0, -1, 1.5, NaN, 4, 5])
    expect(() => mtpTargets(list, documents, { ...sizes, depth }, { out })).toThrow(
      refusal('depth', `depth ${depth} of sequences of 4 tokens`),
    );
  const says = 'holds 7 values, expected 8: 2 sequences of 4 tokens';
  const short = list.subarray(1);
  expect(() => mtpTargets(short, documents, sizes)).toThrow(refusal('targets', `targets ${says}`));
  for (const name of ['inputs', 'targets'])
    expect(() => mtpTargets(list, { ...documents, [name]: short }, sizes)).toThrow(
      refusal(`documents.${name}`, `documents.${name} ${says}`),
    );
  for (const length of [0, 5, 7])
    expect(() => mtpTargets(list, documents, sizes, { out: new Int32Array(length) })).toThrow(
      refusal('out', `out holds ${length} values, expected 6`),
    );
  expect(mtpTargets(list, documents, { ...sizes, depth: 3 })).toHaveLength(2);
});

describe('weights', () => {
  test('make each list’s weighted sum a mean, the depths sharing λ', () => {
    const lists = [Int32Array.of(4, -1, 6, 7), Int32Array.of(-1, 6, -1), Int32Array.of(-1, 9)];
    const weights = lossWeights(lists, [3, 1, 1], 0.3);
    const third = Math.fround(1 / 3);
    const share = Math.fround(0.15);
    expect([...weights]).toEqual([third, 0, third, third, 0, share, 0, 0, share]);
  });

  test('without depths λ plays no part, without counted positions nothing is divided by zero', () => {
    expect([...lossWeights([Int32Array.of(1, 2)], [2], 0.3)]).toEqual([0.5, 0.5]);
    expect([...lossWeights([Int32Array.of(-1)], [0], 0.3)]).toEqual([0]);
  });

  test('go where they are told, all of that place and nothing else', () => {
    const lists = [Int32Array.of(4, -1, 6), Int32Array.of(-1, 6)];
    const whole = new Float32Array(9).fill(7);
    const out = whole.subarray(2, 7);
    expect(lossWeights(lists, [4, 1], 0.5, { out })).toBe(out);
    expect([...whole]).toEqual([7, 7, 0.25, 0, 0.25, 0, 0.5, 7, 7]);
    expect(out).toEqual(lossWeights(lists, [4, 1], 0.5));
  });

  test('refuse a place that does not fit, and lists without a count', () => {
    const lists = [Int32Array.of(4, -1, 6), Int32Array.of(-1, 6)];
    const refusal = (path: string, message: string): unknown =>
      expect.objectContaining({
        code: 'ERR_BALEEN_MTP_SIZES',
        path,
        message,
        hint: expect.any(String) as string,
      });
    for (const length of [0, 4, 6])
      expect(() => lossWeights(lists, [4, 1], 0.5, { out: new Float32Array(length) })).toThrow(
        refusal('out', `out holds ${length} values, expected 5`),
      );
    expect(() => lossWeights(lists, [4], 0.5)).toThrow(
      refusal('counted', '1 counts for 2 lists of targets'),
    );
  });
});
