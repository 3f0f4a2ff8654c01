// Attention over cached latents at V3's widths, within FlashMLA's published tolerances of a reference in float64; and what
// the contract says to the bit: that a row's result depends on what it sees alone, wherever that lies.
import {
  type Kernels,
  type LatentType,
  latentBytes,
  nativeKernels,
  referenceKernels,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';
import { afterEach, describe, expect, test } from 'vitest';

import { makePool, type Pool } from './cases-latents';
import { Arena, expectSameBits, numbers } from './compare';

const native = nativeKernels();
const [bestIsa, threadsBefore] = [native?.isa ?? '', native?.threads ?? 1];
afterEach(() => {
  native?.setIsa(bestIsa);
  native?.setThreads(threadsBefore);
});

const [rank, rope] = [512, 64];
const width = rank + rope;
const scale = 1 / Math.sqrt(width);

interface Problem {
  lengths: readonly number[];
  queries: number;
  heads: number;
  pageSize: number;
  q: ViewArray;
  pool: Pool;
}

function problem(
  type: LatentType,
  lengths: readonly number[],
  queries: number,
  heads: number,
  pageSize = 64,
): Problem {
  const arena = new Arena(heads + queries);
  // Numbers as in the published test.
  const value = (): number => Math.max(-1, Math.min(1, arena.random.normal() / 10));
  const shape = { lengths, queries, heads, rank, rope, pageSize };
  const pool = makePool(arena, type, shape, value);
  const size = lengths.length * queries * heads * width;
  const q = type === 'f32' ? arena.floats(size, value) : arena.halves(size, value);
  return { lengths, queries, heads, pageSize, q, pool };
}

function attend(kernels: Kernels, p: Problem): { out: Float32Array; lse: Float32Array } {
  const rows = p.lengths.length * p.queries * p.heads;
  const [out, lse] = [new Float32Array(rows * rank).fill(9), new Float32Array(rows).fill(9)];
  kernels.latentAttention(
    viewOf(out),
    viewOf(lse),
    viewOf(p.q),
    viewOf(p.pool.pages),
    viewOf(p.pool.table),
    viewOf(Int32Array.from(p.lengths)),
    {
      sequences: p.lengths.length,
      queries: p.queries,
      heads: p.heads,
      rank,
      rope,
      pages: p.pool.pageCount,
      pageSize: p.pageSize,
      tableWidth: p.pool.tableWidth,
      scale,
    },
  );
  return { out, lse };
}

/** The row of a sequence's token, whatever its type. */
function rowOf({ pool, pageSize }: Problem, sequence: number, token: number): Float64Array {
  const page = pool.table[sequence * pool.tableWidth + Math.floor(token / pageSize)];
  const slot = page * pageSize + (token % pageSize);
  if (!(pool.pages instanceof Uint8Array))
    return Float64Array.from(
      Array.from(numbers(pool.pages.slice(slot * width, (slot + 1) * width))),
    );
  const bytes = latentBytes('e4m3', { rank, rope });
  const token8 = pool.pages.slice(slot * bytes, (slot + 1) * bytes);
  const codes = numbers(token8.slice(0, rank));
  const scales = new Float32Array(token8.buffer, rank, rank / 128);
  const rotary = numbers(new Uint16Array(token8.buffer, rank + 16, rope));
  return Float64Array.from({ length: width }, (_, d) =>
    d < rank ? codes[d] * scales[Math.floor(d / 128)] : rotary[d - rank],
  );
}

/** A row of the result in float64; no numbers where the query sees no token. */
interface Expected {
  sequence: number;
  query: number;
  head: number;
  out: Float64Array | null;
  lse: number;
}

/** Every head of every query. */
function expectedRows(p: Problem): Expected[] {
  const q = numbers(p.q);
  return p.lengths.flatMap((length, sequence) => {
    const rows = Array.from({ length }, (_, token) => rowOf(p, sequence, token));
    const list: Expected[] = [];
    for (let query = 0; query < p.queries; query += 1)
      for (let head = 0; head < p.heads; head += 1) {
        const at = ((sequence * p.queries + query) * p.heads + head) * width;
        const seen = rows.slice(0, Math.max(0, length - p.queries + query + 1));
        const scores = seen.map((row) => {
          let sum = 0;
          for (let d = 0; d < width; d += 1) sum += q[at + d] * row[d];
          return scale * sum;
        });
        const top = Math.max(...scores);
        const powers = scores.map((score) => Math.exp(score - top));
        const total = powers.reduce((sum, x) => sum + x, 0);
        const out = new Float64Array(rank);
        seen.forEach((row, j) => {
          for (let d = 0; d < rank; d += 1) out[d] += (powers[j] / total) * row[d];
        });
        const none = seen.length === 0;
        const lse = none ? Infinity : top + Math.log(total);
        list.push({ sequence, query, head, out: none ? null : out, lse });
      }
    return list;
  });
}

/** Within the published tolerances: out absolutely, relatively and by the cosine, lse absolutely and relatively. */
function check(p: Problem, actual: ReturnType<typeof attend>, wanted: Expected[]): void {
  const what = `${String(p.lengths)}, ${String(p.queries)} queries, ${String(p.heads)} heads`;
  for (const { sequence, query, head, out, lse } of wanted) {
    const at = ((sequence * p.queries + query) * p.heads + head) * rank;
    const own = actual.out.subarray(at, at + rank);
    const log = actual.lse[(sequence * p.heads + head) * p.queries + query];
    if (!out) {
      expect(log, what).toBe(Infinity);
      expect(own, what).toEqual(new Float32Array(rank));
      continue;
    }
    within(own, out, 8e-4, 2.01 / 128, what);
    within([log], [lse], 1e-6, 8.01 / 65536, `${what}: lse`);
    let [cross, squares] = [0, 0];
    for (let d = 0; d < rank; d += 1) {
      cross += own[d] * out[d];
      squares += own[d] ** 2 + out[d] ** 2;
    }
    expect(1 - (2 * cross) / squares, what).toBeLessThan(5e-6);
  }
}

function within(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  absolute: number,
  relative: number,
  what: string,
): void {
  for (let i = 0; i < expected.length; i += 1)
    if (!(Math.abs(actual[i] - expected[i]) <= absolute + relative * Math.abs(expected[i])))
      expect.fail(`${what}[${String(i)}] is ${String(actual[i])}, expected ${String(expected[i])}`);
}

/** Lengths, queries and heads of the published test and some beside them; made once for all implementations. */
const sizes: readonly [lengths: number[], queries: number, heads: number][] = [
  [[20], 1, 1],
  [[140, 0, 3, 65], 2, 3],
  [[20, 64, 1], 4, 9],
  [[140], 1, 16],
  [[33], 3, 64],
  [[140], 2, 126],
  [[70, 0], 4, 128],
  [[1100], 1, 8],
  [[600, 1030], 2, 16],
  [[0, 1, 2, 63, 64, 65, 127, 128, 129, 0, 190, 3, 31], 1, 16],
  [[5, 0, 77, 2, 128, 1], 3, 32],
];
const types = ['f32', 'bf16', 'e4m3'] as const;
const made = new Map<LatentType, { given: Problem; wanted: Expected[] }[]>();
function problems(type: LatentType): { given: Problem; wanted: Expected[] }[] {
  let list = made.get(type);
  if (!list) {
    list = sizes.map(([lengths, queries, heads]) => {
      const given = problem(type, lengths, queries, heads);
      return { given, wanted: expectedRows(given) };
    });
    made.set(type, list);
  }
  return list;
}

const implementations: [string, Kernels, () => void][] = [
  ['reference', referenceKernels(), () => undefined],
  ...(native?.isas ?? []).map((isa): [string, Kernels, () => void] => [
    `native on ${isa}`,
    native as Kernels,
    () => native?.setIsa(isa),
  ]),
];

describe.each(implementations)('%s', (name, kernels, choose) => {
  // What takes the reference long is left to the native kernels.
  const slow = name === 'reference';
  test.each(types)('%s pages, within the published tolerances', (type) => {
    choose();
    native?.setThreads(2);
    for (const { given, wanted } of problems(type))
      if (!slow || Math.max(...given.lengths) <= 200) check(given, attend(kernels, given), wanted);
  });
});

describe.skipIf(native === null)('to the bit', () => {
  if (!native) return;

  test.each(types)('%s: wherever a sequence lies', (type) => {
    const spread = problem(type, [700], 2, 16);
    const expected = attend(native, spread);
    const { pages, table } = spread.pool;
    const stride = type === 'e4m3' ? latentBytes(type, { rank, rope }) : width;
    // One page for all: a contiguous cache. And pages of 24, in which runs of tokens cannot be read where they lie.
    for (const pageSize of [704, 24]) {
      const pageCount = Math.ceil(704 / pageSize);
      const order = Array.from({ length: pageCount }, (_, i) => (i * 7 + 3) % pageCount);
      const moved = pages.slice(0, pageCount * pageSize * stride);
      for (let t = 0; t < 700; t += 1) {
        const from = (table[Math.floor(t / 64)] * 64 + (t % 64)) * stride;
        const to = (order[Math.floor(t / pageSize)] * pageSize + (t % pageSize)) * stride;
        moved.set(pages.slice(from, from + stride), to);
      }
      const pool = {
        pages: moved,
        table: Int32Array.from(order),
        pageCount,
        tableWidth: pageCount,
      };
      const { out, lse } = attend(native, { ...spread, pool, pageSize });
      expectSameBits(out, expected.out, `pages of ${String(pageSize)}`);
      expectSameBits(lse, expected.lse, `pages of ${String(pageSize)}: lse`);
    }
  });

  test.each([1, 3, 8, 16, 24, 48])(
    '%i heads: whoever is beside a row, and on any number of threads',
    (heads) => {
      // Borders of blocks (128) and parts (512) between the queries of one sequence.
      const lengths = [514, 130, 1, 0, 1026];
      const all = problem('bf16', lengths, 4, heads);
      const expected = attend(native, all);
      for (const threads of [1, 3]) {
        native.setThreads(threads);
        expectSameBits(attend(native, all).out, expected.out, `${String(threads)} threads`);
      }
      const { tableWidth } = all.pool;
      const size = heads * rank;
      lengths.forEach((length, s) => {
        const table = all.pool.table.slice(s * tableWidth, (s + 1) * tableWidth);
        for (let i = 0; i < 4; i += 1) {
          // Query i alone, in a sequence that ends with it.
          const at = s * 4 + i;
          const alone = attend(native, {
            ...all,
            lengths: [Math.max(0, length - 3 + i)],
            queries: 1,
            q: all.q.slice(at * heads * width, (at + 1) * heads * width),
            pool: { ...all.pool, table },
          });
          const what = `query ${String(i)} of ${String(length)}`;
          expectSameBits(alone.out, expected.out.slice(at * size, (at + 1) * size), what);
        }
      });
    },
  );
});
