// Byte n-gram baselines: the published ladder of Moby-Dick, a literal implementation, and what makes it a probability.
import { describe, expect, test } from 'vitest';

import { documentBytes, loadDocuments, ngramBaselines, splitDocuments } from '../src/data/index';
import { randomNumbers } from './data-random';

describe('ngramBaselines', () => {
  test('Moby-Dick with every 10th chapter held out gives the ladder of the design', async () => {
    const { train, heldOut } = splitDocuments(await loadDocuments(['moby-dick']), 10);
    expect(heldOut).toHaveLength(13);
    const ladder = ngramBaselines(documentBytes(train), documentBytes(heldOut), [1, 2, 3, 4, 5, 6]);
    expect(ladder.map(({ bitsPerByte }) => bitsPerByte.toFixed(3))).toEqual([
      '4.416',
      '3.476',
      '2.849',
      '2.356',
      '2.118',
      '2.089',
    ]);
  });

  test('equals the formula written out with maps of strings', () => {
    const random = randomNumbers(3);
    const text = (length: number) =>
      Uint8Array.from({ length }, () => 97 + Math.floor(random() ** 2 * 6));
    const train = [text(400), text(1), text(0), text(90)];
    const heldOut = [text(50), text(2), text(120)];
    for (const { order, bitsPerByte } of ngramBaselines(train, heldOut, [5, 1, 3]))
      expect(bitsPerByte).toBeCloseTo(literal(train, heldOut, order), 12);
  });

  test('probabilities of all bytes after a context sum to one', () => {
    const encoder = new TextEncoder();
    const train = [encoder.encode('the whale and the sea and the ship')];
    const context = encoder.encode('the s');
    const bitsOf = (bytes: Uint8Array) =>
      (ngramBaselines(train, [bytes], [4])[0]?.bitsPerByte ?? NaN) * bytes.length;
    let sum = 0;
    for (let byte = 0; byte < 256; byte += 1)
      sum += 2 ** (bitsOf(context) - bitsOf(Uint8Array.of(...context, byte)));
    expect(sum).toBeCloseTo(1, 10);
  });

  test('context does not cross documents', () => {
    const bytes = (text: string) => new TextEncoder().encode(text);
    const joined = ngramBaselines([bytes('abababab')], [bytes('abab')], [2]);
    const apart = ngramBaselines([bytes('abababab')], [bytes('ab'), bytes('ab')], [2]);
    expect(joined[0].bitsPerByte).toBeLessThan(apart[0].bitsPerByte);
  });

  test('order 0 knows nothing', () => {
    expect(ngramBaselines([Uint8Array.of(1)], [Uint8Array.of(2, 3)], [0])).toEqual([
      { order: 0, bitsPerByte: 8 },
    ]);
  });
});

function literal(train: Uint8Array[], heldOut: Uint8Array[], order: number): number {
  const after = new Map<string, Map<number, number>>();
  for (const document of train)
    document.forEach((byte, i) => {
      for (let n = 0; n < order && n <= i; n += 1) {
        const context = document.slice(i - n, i).join();
        const counts = after.get(`${n}:${context}`) ?? new Map<number, number>();
        counts.set(byte, (counts.get(byte) ?? 0) + 1);
        after.set(`${n}:${context}`, counts);
      }
    });
  const probability = (context: Uint8Array, byte: number): number => {
    const below = context.length === 0 ? 1 / 256 : probability(context.slice(1), byte);
    const counts = after.get(`${context.length}:${context.join()}`);
    if (!counts) return below;
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    return ((counts.get(byte) ?? 0) + counts.size * below) / (total + counts.size);
  };
  let bits = 0;
  let bytes = 0;
  for (const document of heldOut)
    document.forEach((byte, i) => {
      bits -= Math.log2(probability(document.slice(Math.max(0, i - order + 1), i), byte));
      bytes += 1;
    });
  return bits / bytes;
}
