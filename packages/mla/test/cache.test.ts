// The pool of pages and the sequences in it: what they hold, share and give back.
import { referenceKernels } from '@baleen/kernels';
import { Region } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import { type CacheFormat, LatentCache, LatentPool } from '../src/index';

const sizes = { kvRank: 512, ropeDim: 64 };
const region = (): Region => new Region(referenceKernels(), 'cache');

test.each([
  ['fp32', 2304],
  ['bf16', 1152],
  ['fp8', 656],
] as [CacheFormat, number][])(
  'a token of V3 takes one latent and one rotary key a layer: in %s %i bytes',
  (format, bytes) => {
    const memory = region();
    const pool = new LatentPool(memory, { ...sizes, pages: 2, layers: 3, format });
    expect(pool.bytes).toBe(2 * 64 * 3 * bytes);
    expect(memory.liveBytes).toBe(pool.bytes);
    const sequence = new LatentCache(pool);
    expect(sequence.bytes).toBe(0);
    sequence.append(65);
    expect(sequence.bytes).toBe(pool.bytes);
    pool.release();
    expect(memory.liveBytes).toBe(0);
  },
);

describe('sequences', () => {
  test('in one page as long as the longest, each lies in one piece', () => {
    const pool = new LatentPool(region(), { ...sizes, kvRank: 4, pages: 2, pageSize: 100 });
    const [a, b] = [new LatentCache(pool), new LatentCache(pool)];
    a.append(70);
    b.append(1);
    expect([a.slot(0), a.slot(69), b.slot(0)]).toEqual([0, 69, 100]);
    a.append(30);
    expect(() => {
      a.append(1);
    }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_MLA_PAGES' }));
    expect(a.length).toBe(100);
  });

  test('adding, cutting, sharing and releasing at random never loses a page nor gives one to two writers', () => {
    const random = randomFrom(5);
    const below = (count: number): number => Math.floor(random() * count);
    const pool = new LatentPool(region(), { kvRank: 4, ropeDim: 2, pages: 12, pageSize: 4 });
    const slots = (cache: LatentCache, from: number): number[] =>
      Array.from({ length: cache.length - from }, (_, token) => cache.slot(from + token));
    let living: LatentCache[] = [];
    let refused = 0;
    for (let step = 0; step < 1000; step += 1) {
      const one = living[below(living.length)] as LatentCache | undefined;
      const what = below(10);
      if (!one || what === 0) living.push(new LatentCache(pool));
      else if (what === 1 && living.length < 8) living.push(one.clone());
      else if (what === 2) {
        one.release();
        living = living.filter((cache) => cache !== one);
      } else if (what === 3) one.truncate(below(one.length + 1));
      else {
        const before = [one.length, ...one.table, pool.freePages];
        try {
          one.append(below(7));
          // Where it will be written, no other sequence looks.
          const seen = new Set(
            living.filter((cache) => cache !== one).flatMap((cache) => slots(cache, 0)),
          );
          expect(slots(one, before[0]).filter((slot) => seen.has(slot))).toEqual([]);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_BALEEN_MLA_PAGES', path: 'pages' });
          expect([one.length, ...one.table, pool.freePages]).toEqual(before);
          refused += 1;
        }
      }
      for (const cache of living) expect(cache.table).toHaveLength(Math.ceil(cache.length / 4));
      const held = new Set(living.flatMap(({ table }) => [...table]));
      expect(held.size + pool.freePages).toBe(12);
    }
    expect(refused).toBeGreaterThan(20);
    for (const cache of living) cache.release();
    expect(pool.freePages).toBe(12);
  });

  test('lengths, layers and sizes that cannot be are refused', () => {
    const memory = region();
    const pool = new LatentPool(memory, { ...sizes, pages: 1 });
    const cache = new LatentCache(pool);
    cache.append(3);
    for (const bad of [4, -1, 1.5, NaN])
      expect(() => {
        cache.truncate(bad);
      }).toThrow(
        expect.objectContaining({
          code: 'ERR_BALEEN_MLA_CACHE',
          path: 'length',
          message: `length (${bad}) is not a whole number from 0 to 3`,
        }),
      );
    for (const bad of [-1, 0.5])
      expect(() => {
        cache.append(bad);
      }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_MLA_CACHE', path: 'count' }));
    expect(cache.length).toBe(3);
    expect(() => pool.layer(1)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_MLA_SIZES', path: 'layer' }),
    );
    for (const [path, change] of [
      ['pages', { pages: 0 }],
      ['pageSize', { pageSize: 1.5 }],
      ['layers', { layers: 0 }],
      ['format', { format: 'fp16' as CacheFormat }],
    ] as const)
      expect(() => new LatentPool(memory, { ...sizes, pages: 1, ...change })).toThrow(
        expect.objectContaining({ code: 'ERR_BALEEN_MLA_SIZES', path }),
      );
  });
});
