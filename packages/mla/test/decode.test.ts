// Attention over caches: both forms against whole sequences, however tokens come in and whatever lies beside them; the rule
// that chooses between them.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { plainLinears, Region, Tape, tensorFrom, writeTensor } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import {
  decibels,
  firstDifference,
  implementationsOf,
  largestDifference,
} from '../../../test/support';
import {
  type AttentionForm,
  attentionForm,
  type CachedRows,
  type CacheFormat,
  type LatentAttention,
  LatentCache,
  LatentPool,
} from '../src/index';
import { batch, forward, length, setup, variants, widths } from './layers';

const { hidden } = widths;

/** A pool whose memory held NaN before. */
function poisoned(region: Region, pageSize: number, format: CacheFormat = 'fp32'): LatentPool {
  const filled = tensorFrom(region, [1 << 16], new Float32Array(1 << 16).fill(NaN));
  filled.block.release();
  const { kvRank, ropeDim } = widths;
  return new LatentPool(region, { pages: 64, pageSize, kvRank, ropeDim, format });
}

/** What tokens of some sequences get, and where they come from: `rows` are first row and count in x. */
function decode(
  layer: LatentAttention,
  region: Region,
  x: Float32Array,
  list: readonly (CachedRows & { from: number })[],
): Float32Array[] {
  const tape = new Tape(region, { grad: false });
  const input = new Float32Array(list.reduce((sum, { count }) => sum + count, 0) * hidden);
  let at = 0;
  for (const { from, count } of list) {
    input.set(x.subarray(from * hidden, (from + count) * hidden), at * hidden);
    at += count;
  }
  const rows = tensorFrom(region, [at, hidden], input);
  const pass = layer.begin(region, list);
  let all: Float32Array = new Float32Array(0);
  tape.scoped(() => {
    all = layer.decode(tape, rows, pass).readSync().slice() as Float32Array;
    return [];
  });
  pass.release();
  rows.block.release();
  let start = 0;
  return list.map(({ count }) => {
    const own = all.subarray(start * hidden, (start + count) * hidden);
    start += count;
    return own;
  });
}

function joined(parts: readonly Float32Array[]): Float32Array {
  return Float32Array.from(parts.flatMap((part) => [...part]));
}

/** Tokens from..to of a sequence of x through its cache, in pieces. */
function inPieces(
  layer: LatentAttention,
  region: Region,
  x: Float32Array,
  cache: LatentCache,
  from: number,
  pieces: readonly number[],
  form?: AttentionForm,
): Float32Array {
  let at = from;
  return joined(
    pieces.flatMap((count) => {
      const got = decode(layer, region, x, [{ cache, count, from: at, ...(form && { form }) }]);
      at += count;
      return got;
    }),
  );
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(variants)('%s', (_name, variant) => {
    test('in pieces of any size, in pages of any size: expanded the bits of whole sequences, absorbed their values', () => {
      const { layer, x, region } = setup(kernels, variant);
      const whole = forward(layer, region, x, batch);
      const input = x.readSync() as Float32Array;
      for (const pageSize of [1, 4, length]) {
        const pool = poisoned(region, pageSize);
        for (const pieces of [[6], [1, 1, 1, 1, 1, 1], [3, 1, 2]])
          for (let b = 0; b < batch; b += 1) {
            const expected = whole.subarray(b * length * hidden, (b + 1) * length * hidden);
            const run = (form?: AttentionForm): Float32Array => {
              const cache = new LatentCache(pool);
              const got = inPieces(layer, region, input, cache, b * length, pieces, form);
              expect(cache.length).toBe(length);
              cache.release();
              return got;
            };
            expect(firstDifference(run('expanded'), expected)).toBe(-1);
            expect(largestDifference(run('absorbed'), expected)).toBeLessThan(5e-6);
            expect(largestDifference(run(), expected)).toBeLessThan(5e-6);
          }
        expect(pool.freePages).toBe(64);
        pool.release();
        expect(region.liveBytes).toBe(0);
      }
    });

    test('a sequence gets the same bits alone and beside others, whatever their counts and forms', () => {
      const { layer, x, region } = setup(kernels, variant);
      const input = x.readSync() as Float32Array;
      const pool = poisoned(region, 4);
      const plans: { from: number; pieces: number[]; form?: AttentionForm }[] = [
        { from: 0, pieces: [2, 1, 1], form: 'absorbed' },
        { from: 6, pieces: [1, 1, 1], form: 'absorbed' },
        { from: 3, pieces: [1, 1, 3] },
        { from: 1, pieces: [4, 0, 3], form: 'expanded' },
        { from: 2, pieces: [1, 1, 1], form: 'absorbed' },
      ];
      const alone = plans.map(({ from, pieces, form }) =>
        inPieces(layer, region, input, new LatentCache(pool), from, pieces.filter(Boolean), form),
      );
      const caches = plans.map(() => new LatentCache(pool));
      const beside = plans.map((): Float32Array[] => []);
      for (let piece = 0; piece < 3; piece += 1) {
        const list = plans.map(({ from, pieces, form }, s) => ({
          cache: caches[s],
          count: pieces[piece],
          from: from + caches[s].length,
          ...(form && { form }),
        }));
        decode(layer, region, input, list).forEach((part, s) => beside[s].push(part));
      }
      beside.forEach((parts, s) => {
        expect(firstDifference(joined(parts), alone[s]), `sequence ${s}`).toBe(-1);
      });
    });
  });

  test('sequences go on from a shared beginning, each its own way, and from where they were cut', () => {
    const { layer, x, region } = setup(kernels, { queryRank: 7, yarn: null });
    const input = x.readSync() as Float32Array;
    const pool = poisoned(region, 4);
    const [prompt, other] = [new LatentCache(pool), new LatentCache(pool)];
    inPieces(layer, region, input, prompt, 0, [3]);
    const forks = [prompt.clone(), prompt.clone()];
    expect(pool.freePages).toBe(63);
    // The same token after the same three: 3 and, in the second, 6.
    const direct = (rows: number[]): Float32Array => {
      const cache = new LatentCache(pool);
      const out = joined(rows.map((from) => inPieces(layer, region, input, cache, from, [1])));
      cache.release();
      return out.slice(-hidden);
    };
    const list = [3, 6].map((from, s) => ({ cache: forks[s], count: 1, from }));
    const [first, second] = decode(layer, region, input, list);
    expect(largestDifference(first, direct([0, 1, 2, 3]))).toBeLessThan(5e-6);
    expect(largestDifference(second, direct([0, 1, 2, 6]))).toBeLessThan(5e-6);
    // Each has the page it adds to for itself, and the prompt kept its own.
    expect(pool.freePages).toBe(61);
    expect(
      largestDifference(
        decode(layer, region, input, [{ cache: prompt, count: 1, from: 8 }])[0],
        direct([0, 1, 2, 8]),
      ),
    ).toBeLessThan(5e-6);
    forks[1].truncate(1);
    const [cut] = decode(layer, region, input, [{ cache: forks[1], count: 1, from: 9 }]);
    expect(largestDifference(cut, direct([0, 9]))).toBeLessThan(5e-6);
    expect(
      largestDifference(
        decode(layer, region, input, [{ cache: forks[0], count: 1, from: 9 }])[0],
        direct([0, 1, 2, 3, 9]),
      ),
    ).toBeLessThan(5e-6);
    for (const cache of [prompt, other, ...forks]) cache.release();
    expect(pool.freePages).toBe(64);
  });

  test('BF16 and FP8 caches give what FP32 ones do, to their precision, in both forms', () => {
    for (const precision of ['fp32', 'bf16'] as const) {
      const { layer, x, region } = setup(
        kernels,
        { queryRank: 7, yarn: null },
        plainLinears(precision),
      );
      const input = x.readSync() as Float32Array;
      const run = (format: CacheFormat, form: AttentionForm): Float32Array => {
        const pool = poisoned(region, 4, format);
        const got = inPieces(layer, region, input, new LatentCache(pool), 0, [2, 1, 1, 2], form);
        pool.release();
        return got;
      };
      const exact = run('fp32', 'expanded');
      for (const form of ['absorbed', 'expanded'] as const) {
        expect(decibels(exact, run('bf16', form))).toBeGreaterThan(38);
        expect(decibels(exact, run('fp8', form))).toBeGreaterThan(20);
        expect(decibels(exact, run('fp8', form))).toBeLessThan(45);
      }
    }
  });

  test('absorbed weights are made once, and anew when the weight has changed', () => {
    const { layer, x, region } = setup(kernels, { queryRank: 7, yarn: null });
    const input = x.readSync() as Float32Array;
    const pool = poisoned(region, 4);
    const run = (form: AttentionForm): Float32Array =>
      inPieces(layer, region, input, new LatentCache(pool), 0, [1, 1, 1], form);
    const before = run('absorbed');
    const weight = [...layer.parameters()].find(([name]) => name === 'kvUp.weight')?.[1];
    if (!weight) throw new Error('kvUp.weight is missing');
    writeTensor(
      weight.data,
      Float32Array.from(weight.data.readSync(), (w) => 2 * w),
    );
    // Nobody said so: the forms of the version before serve on.
    expect(firstDifference(run('absorbed'), before)).toBe(-1);
    weight.version += 1;
    expect(largestDifference(run('absorbed'), before)).toBeGreaterThan(0.01);
    expect(largestDifference(run('absorbed'), run('expanded'))).toBeLessThan(1e-5);
  });

  test('a pass that cannot be leaves every cache as it was', () => {
    const { layer, region } = setup(kernels, { queryRank: 7, yarn: null });
    const { kvRank, ropeDim } = widths;
    const pool = new LatentPool(region, { pages: 3, pageSize: 4, kvRank, ropeDim });
    const [a, b] = [new LatentCache(pool), new LatentCache(pool)];
    a.append(4);
    const refused = (list: CachedRows[]): unknown => {
      const live = region.liveBytes;
      try {
        layer.begin(region, list);
      } catch (error) {
        expect([a.length, b.length, pool.freePages]).toEqual([4, 0, 2]);
        expect(region.liveBytes).toBe(live);
        return error;
      }
      return null;
    };
    expect(
      refused([
        { cache: a, count: 1 },
        { cache: b, count: 5 },
      ]),
    ).toMatchObject({
      code: 'ERR_BALEEN_MLA_PAGES',
      path: 'pages',
      message: "5 tokens after 0 need 2 more pages, and 1 of the pool's 3 are free",
    });
    expect(refused([{ cache: b, count: 17 }])).toMatchObject({ code: 'ERR_BALEEN_MLA_SEQUENCE' });
    const cacheError = { code: 'ERR_BALEEN_MLA_CACHE' };
    expect(
      refused([
        { cache: a, count: 1 },
        { cache: a, count: 1 },
      ]),
    ).toMatchObject({
      ...cacheError,
      path: 'list[1]',
    });
    expect(refused([{ cache: a, count: -1 }])).toMatchObject({ ...cacheError, path: 'count' });
    expect(refused([])).toMatchObject(cacheError);
    const narrow = new LatentPool(region, { pages: 1, kvRank: 7, ropeDim });
    expect(refused([{ cache: new LatentCache(narrow), count: 1 }])).toMatchObject({
      ...cacheError,
      path: 'kvRank',
    });
    const beside = new LatentCache(narrow);
    expect(
      refused([
        { cache: a, count: 1 },
        { cache: beside, count: 1 },
      ]),
    ).toMatchObject({
      ...cacheError,
      path: 'list[1]',
    });
  });
});

test('the form with fewer multiply-adds: prompts expanded, a few tokens over many absorbed', () => {
  const v3 = { heads: 128, nopeDim: 128, ropeDim: 64, valueDim: 128, kvRank: 512 };
  const small = { heads: 8, nopeDim: 32, ropeDim: 32, valueDim: 32, kvRank: 128 };
  for (const sizes of [v3, small, widths]) {
    const { nopeDim: d, ropeDim: p, valueDim: v, kvRank: r } = sizes;
    for (const keys of [1, 2, 5, 40, 1000])
      for (const queries of [1, 2, 3, 8, 60, 300].filter((count) => count <= keys)) {
        let pairs = 0;
        for (let i = 0; i < queries; i += 1) pairs += keys - queries + i + 1;
        const expanded = keys * r * (d + v) + pairs * (d + p + v);
        const absorbed = queries * r * (d + v) + pairs * (2 * r + p);
        const form = absorbed <= expanded ? 'absorbed' : 'expanded';
        expect(attentionForm(sizes, queries, keys)).toBe(form);
      }
  }
  expect([1, 4, 170].map((queries) => attentionForm(v3, queries, 1e6))).toEqual(
    new Array(3).fill('absorbed'),
  );
  expect(attentionForm(v3, 171, 1e6)).toBe('expanded');
  expect(attentionForm(v3, 1000, 1000)).toBe('expanded');
});
