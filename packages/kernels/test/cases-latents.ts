// Cases of attention over cached latents: pools in every type with poison where nobody may read, and tokens in and out.
import {
  type LatentType,
  latentBytes,
  referenceKernels,
  type View,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';

import type { Case } from './cases';
import type { Arena } from './compare';

const reference = referenceKernels();
const types: readonly LatentType[] = ['f32', 'bf16', 'e4m3'];

interface Shape {
  lengths: readonly number[];
  queries: number;
  heads: number;
  rank: number;
  rope: number;
  pageSize: number;
}

/** A pool whose tokens are spread over its pages in no order, and NaN everywhere else. */
export interface Pool {
  pages: ViewArray;
  table: Int32Array;
  pageCount: number;
  tableWidth: number;
}

/** FP8 tokens in these slots, of numbers that `value` gives; the bytes of other slots stay. */
function writeTokens(
  bytes: Uint8Array,
  slots: readonly number[],
  { rank, rope }: Shape,
  value: () => number,
): void {
  const numbersOf = (size: number): View => viewOf(Float32Array.from({ length: size }, value));
  const tokens = slots.length;
  const capacity = bytes.length / latentBytes('e4m3', { rank, rope });
  const sizes = { tokens, capacity, rank, rope };
  const [latent, rotary] = [numbersOf(tokens * rank), numbersOf(tokens * rope)];
  const places = viewOf(Int32Array.from(slots));
  reference.writeLatents(viewOf(bytes), latent, rotary, places, sizes);
}

/** NaN in every part of an FP8 token. */
const poison = 0xff;

/** Makes a pool for sequences of these lengths, with a few pages more than they need; `value` gives its numbers. */
export function makePool(
  arena: Arena,
  type: LatentType,
  s: Shape,
  value: () => number = () => arena.random.normal(),
): Pool {
  const { lengths, rank, rope, pageSize } = s;
  const width = rank + rope;
  const needed = lengths.map((length) => Math.ceil(length / pageSize));
  const used = needed.reduce((sum, count) => sum + count, 0);
  const pageCount = Math.ceil(1.1 * used) + 1;
  const tableWidth = Math.max(1, ...needed) + 1;
  const order = Array.from({ length: pageCount }, (_, page) => page);
  for (let i = pageCount - 1; i > 0; i -= 1) {
    const j = arena.random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  // Entries that no token needs name no page.
  const entries: number[] = [];
  const live = new Set<number>();
  let next = 0;
  lengths.forEach((length, sequence) => {
    for (let p = 0; p < tableWidth; p += 1) {
      const garbage = [-1, 2 ** 31 - 1, -7, pageCount][(sequence + p) % 4];
      entries.push(p < needed[sequence] ? order[next] : garbage);
      if (p >= needed[sequence]) continue;
      for (let t = 0; t < Math.min(pageSize, length - p * pageSize); t += 1)
        live.add(order[next] * pageSize + t);
      next += 1;
    }
  });
  const table = arena.integers(entries.length, (i) => entries[i]);
  const slots = pageCount * pageSize;
  if (type === 'e4m3') {
    const bytes = new Uint8Array(slots * latentBytes('e4m3', s)).fill(poison);
    writeTokens(bytes, [...live], s, value);
    return { pages: arena.bytesOf(bytes), table, pageCount, tableWidth };
  }
  const at = (i: number): number => (live.has(Math.floor(i / width)) ? value() : NaN);
  const pages = type === 'bf16' ? arena.halves(slots * width, at) : arena.floats(slots * width, at);
  return { pages, table, pageCount, tableWidth };
}

const shapes: readonly Shape[] = [
  { lengths: [1], queries: 1, heads: 1, rank: 1, rope: 2, pageSize: 1 },
  { lengths: [0, 3, 20], queries: 1, heads: 2, rank: 8, rope: 4, pageSize: 4 },
  { lengths: [7, 0, 2, 1], queries: 2, heads: 3, rank: 9, rope: 6, pageSize: 5 },
  { lengths: [130, 16], queries: 4, heads: 4, rank: 33, rope: 2, pageSize: 16 },
  { lengths: [65, 200], queries: 3, heads: 8, rank: 64, rope: 32, pageSize: 64 },
  { lengths: [150], queries: 1, heads: 16, rank: 130, rope: 30, pageSize: 32 },
  { lengths: [17, 40], queries: 2, heads: 5, rank: 64, rope: 0, pageSize: 7 },
  { lengths: [35], queries: 2, heads: 24, rank: 48, rope: 16, pageSize: 16 },
  { lengths: [], queries: 1, heads: 2, rank: 4, rope: 2, pageSize: 2 },
  // More than one part, and a query that sees one part less than the next.
  { lengths: [1030, 513], queries: 2, heads: 2, rank: 32, rope: 0, pageSize: 64 },
];

function attentionCases(): Case[] {
  return shapes.flatMap((shape) =>
    types.flatMap((type) =>
      // Queries of both types with every pool, but for the longest.
      (['f32', 'bf16'] as const)
        .filter((queryType) => queryType === 'bf16' || Math.max(...shape.lengths) < 100)
        .map((queryType): Case => {
          const { lengths, queries, heads, rank, rope, pageSize } = shape;
          const rows = lengths.length * queries * heads;
          return {
            kernel: 'latentAttention',
            label: `${type} ${JSON.stringify(Object.values(shape))}, queries in ${queryType}`,
            // Probabilities in BF16: each implementation rounds them relative to a maximum of its own.
            tolerance: type === 'f32' ? 3e-6 : 5e-3,
            run: (kernels, arena) => {
              const [out, lse] = [arena.out(rows * rank), arena.out(rows)];
              const width = rank + rope;
              const make = (size: number): View =>
                viewOf(queryType === 'bf16' ? arena.halves(size) : arena.floats(size));
              const q = make(rows * width);
              const pool = makePool(arena, type, shape);
              kernels.latentAttention(
                viewOf(out),
                viewOf(lse),
                q,
                viewOf(pool.pages),
                viewOf(pool.table),
                viewOf(arena.integers(lengths.length, (i) => lengths[i])),
                {
                  sequences: lengths.length,
                  queries,
                  heads,
                  rank,
                  rope,
                  pages: pool.pageCount,
                  pageSize,
                  tableWidth: pool.tableWidth,
                  scale: 1 / Math.sqrt(width),
                },
              );
              return { out, lse };
            },
          };
        }),
    ),
  );
}

function rowCases(): Case[] {
  const list: Case[] = [];
  for (const [tokens, capacity, rank, rope] of [
    [0, 4, 8, 2],
    [1, 1, 1, 2],
    [5, 9, 130, 4],
    [20, 24, 512, 64],
    [3, 5, 33, 0],
  ] as const)
    for (const type of types) {
      const sizes = { tokens, capacity, rank, rope };
      const label = `${type} ${JSON.stringify(Object.values(sizes))}`;
      const slotsOf = (arena: Arena): View =>
        viewOf(arena.integers(tokens, (t) => (t * 3 + 1) % capacity));
      list.push(
        {
          kernel: 'writeLatents',
          label,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const size = capacity * (rank + rope);
            const pages =
              type === 'f32'
                ? arena.out(size)
                : type === 'bf16'
                  ? arena.outHalves(size)
                  : arena.outCodes(capacity * latentBytes(type, sizes));
            // Far apart, so that tiles have scales of their own; some too small for any scale but the least.
            const latent = arena.floats(
              tokens * rank,
              (i) => arena.random.normal() * 2 ** ((Math.floor(i / 128) % 5) * 4 - 12),
            );
            const rotary = arena.floats(tokens * rope);
            kernels.writeLatents(
              viewOf(pages),
              viewOf(latent),
              viewOf(rotary),
              slotsOf(arena),
              sizes,
            );
            return { pages };
          },
        },
        {
          kernel: 'readLatents',
          label,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const [latent, rotary] = [arena.out(tokens * rank), arena.out(tokens * rope)];
            const lengths = new Array<number>(capacity).fill(1);
            const pool = makePool(arena, type, {
              lengths,
              queries: 1,
              heads: 1,
              rank,
              rope,
              pageSize: 1,
            });
            kernels.readLatents(
              viewOf(latent),
              viewOf(rotary),
              viewOf(pool.pages),
              viewOf(arena.integers(tokens, (t) => pool.table[2 * (t % capacity)])),
              { ...sizes, capacity: pool.pageCount },
            );
            return { latent, rotary };
          },
        },
      );
    }
  return list;
}

/** Cases of attention over latents, forward and backward, and of tokens' ways into and out of a pool. */
export function latentCases(): Case[] {
  return [...attentionCases(), ...backwardCases(), ...rowCases()];
}

function backwardCases(): Case[] {
  const list: Case[] = [];
  for (const shape of [
    { batch: 1, queries: 1, keys: 1, heads: 1, rank: 1, rope: 2 },
    { batch: 2, queries: 3, keys: 19, heads: 3, rank: 12, rope: 6 },
    { batch: 2, queries: 33, keys: 33, heads: 2, rank: 24, rope: 8 },
    { batch: 1, queries: 70, keys: 140, heads: 5, rank: 64, rope: 32 },
    { batch: 0, queries: 4, keys: 4, heads: 2, rank: 8, rope: 2 },
    // No query, so zeros for the gradient of keys.
    { batch: 2, queries: 0, keys: 5, heads: 3, rank: 7, rope: 2 },
  ])
    for (const low of [false, true])
      list.push({
        kernel: 'latentAttentionBackward',
        label: `${low ? 'bf16' : 'f32'} ${JSON.stringify(Object.values(shape))}`,
        tolerance: low ? 8e-3 : 1e-5,
        run: (kernels, arena) => {
          const { batch, queries, keys: count, heads, rank, rope } = shape;
          const [rows, width] = [batch * queries * heads, rank + rope];
          const scale = 1 / Math.sqrt(width);
          const make = (size: number): View =>
            viewOf(low ? arena.halves(size) : arena.floats(size));
          const [q, keys] = [make(rows * width), make(batch * count * width)];
          // The forward pass's own results: the gradient is only defined for those. A page a sequence.
          const [out, lse] = [new Float32Array(rows * rank), new Float32Array(rows)];
          const table = Int32Array.from({ length: batch }, (_, b) => b);
          const lengths = new Int32Array(batch).fill(count);
          kernels.latentAttention(
            viewOf(out),
            viewOf(lse),
            q,
            keys,
            viewOf(table),
            viewOf(lengths),
            {
              sequences: batch,
              queries,
              heads,
              rank,
              rope,
              pages: batch,
              pageSize: count,
              tableWidth: 1,
              scale,
            },
          );
          const [dq, dkeys] = [arena.out(rows * width), arena.out(batch * count * width)];
          kernels.latentAttentionBackward(
            viewOf(dq),
            viewOf(dkeys),
            viewOf(arena.floats(rows * rank)),
            q,
            keys,
            viewOf(out),
            viewOf(lse),
            { ...shape, scale },
          );
          return { dq, dkeys };
        },
      });
  return list;
}
