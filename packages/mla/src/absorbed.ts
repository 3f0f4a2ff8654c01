// The absorbed form on tensors (§2.1.1): with q'_h = W_UK,hᵀ q_h, scores are q'·c + q_R·k_R, and the output is W_UV,h Σ p·c.
// Latents are read where they lie, and every head reads the same.
//
// Legend: T rows, H heads, r rank. Products by head want rows head by head, [H, T, …]; attention token by token, [T, H, …].
import type { Kernels, View } from '@baleen/kernels';
import { emptyTensor, type Parameter, type Pools, type Tape, type Tensor } from '@baleen/tensor';

import type { HeadSizes } from './heads';
import type { AbsorbedGroup, DecodePass } from './pass';

/** Sizes of a layer. */
type AbsorbedSizes = HeadSizes & { kvRank: number; scale: number };

/** The up-projection of latents, taken apart. */
export interface UpWeights {
  /** W_UK [heads, nope, rank]. */
  keyUp: Tensor;
  /** W_UV [heads, v, rank]. */
  valueUp: Tensor;
}

/**
 * W_UK and W_UV of every head, kept until the weight changes.
 * @param pools - where they live
 * @param kvUp - [heads · (nope + v), rank]
 * @param sizes - of a head
 * @param precision - of the products
 * @returns both
 */
export function upWeights(
  pools: Pools,
  kvUp: Parameter,
  { heads, nopeDim, valueDim, kvRank }: AbsorbedSizes,
  precision: 'fp32' | 'bf16',
): UpWeights {
  const part = (key: string, rows: number, first: number): Tensor =>
    kvUp.derived(
      `${key} ${precision}`,
      (pool) => emptyTensor(pool, [heads, rows, kvRank], precision === 'bf16' ? 'bf16' : 'f32'),
      (form) => {
        pools.kernels.copyStrided(form, kvUp.data, {
          rows: heads,
          cols: rows * kvRank,
          outStride: rows * kvRank,
          xStride: (nopeDim + valueDim) * kvRank,
          xOffset: first * kvRank,
        });
      },
    );
  return { keyUp: part('keyUp', nopeDim, 0), valueUp: part('valueUp', valueDim, nopeDim) };
}

/**
 * Attention of a group of rows in the absorbed form, without gradients.
 * @param tape - a tape that does not record
 * @param q - queries of the rows [T, heads · (nope + rope)], not yet rotated
 * @param weights - see {@link upWeights}
 * @param pass - the pass
 * @param group - which of its rows
 * @param layer - of the pool
 * @param sizes - of the layer
 * @returns [T, heads · v]
 */
export function absorbedAttention(
  tape: Tape,
  q: Tensor,
  { keyUp, valueUp }: UpWeights,
  pass: DecodePass,
  group: AbsorbedGroup,
  layer: number,
  sizes: AbsorbedSizes,
): Tensor {
  const { kernels } = tape;
  const { heads, nopeDim, ropeDim, valueDim, kvRank: rank, scale } = sizes;
  const { start, rows, sequences, offsets } = group;
  const { pages, pageSize } = pass.pool;
  const [narrow, wide] = [nopeDim + ropeDim, rank + ropeDim];
  const byHead = (width: number): Places => ({ row: width, head: rows * width, offset: 0 });
  const byToken = (width: number, offset = 0): Places => ({
    row: heads * width,
    head: width,
    offset,
  });
  const counts = { rows, heads };
  const products = { groups: heads, rows: heads * rows };
  // q' = W_UKᵀ q, then the rotary part behind it.
  const own = tape.empty([heads * rows, nopeDim], keyUp.dtype);
  moveHeads(kernels, own, byHead(nopeDim), q, byToken(narrow), { ...counts, width: nopeDim });
  const absorbed = tape.empty([heads * rows, rank]);
  kernels.groupedGemm(absorbed, own, keyUp, offsets, { ...products, n: rank, k: nopeDim });
  const full = tape.empty([rows, heads * wide]);
  moveHeads(kernels, full, byToken(wide), absorbed, byHead(rank), { ...counts, width: rank });
  kernels.rope(full, q, pass.cos.rows(start, rows), pass.sin.rows(start, rows), {
    rows,
    heads,
    width: ropeDim,
    sequence: rows,
    outStride: heads * wide,
    outHeadStride: wide,
    outOffset: rank,
    xStride: heads * narrow,
    xHeadStride: narrow,
    xOffset: nopeDim,
  });
  const latents = tape.empty([rows, heads * rank]);
  const lse = tape.empty([rows * heads]);
  kernels.latentAttention(latents, lse, full, pass.pool.layer(layer), group.table, group.lengths, {
    sequences,
    queries: rows / sequences,
    heads,
    rank,
    rope: ropeDim,
    pages,
    pageSize,
    tableWidth: group.tableWidth,
    scale,
  });
  const attended = tape.empty([heads * rows, rank], valueUp.dtype);
  moveHeads(kernels, attended, byHead(rank), latents, byToken(rank), { ...counts, width: rank });
  const values = tape.empty([heads * rows, valueDim]);
  kernels.groupedGemm(values, attended, valueUp, offsets, {
    ...products,
    n: valueDim,
    k: rank,
    transB: true,
  });
  // The heads of one row lie alike in both orders.
  if (rows === 1) return values.reshape([1, heads * valueDim]);
  const out = tape.empty([rows, heads * valueDim]);
  moveHeads(kernels, out, byToken(valueDim), values, byHead(valueDim), {
    ...counts,
    width: valueDim,
  });
  return out;
}

/** Where the numbers of a row's head begin, in elements. */
export interface Places {
  /** Between rows. */
  row: number;
  /** Between heads. */
  head: number;
  /** The first. */
  offset: number;
}

/** Copies the heads of rows from places to places, in the type of `out`: a call a row or a head, whichever are fewer. */
export function moveHeads(
  kernels: Kernels,
  out: View,
  to: Places,
  x: View,
  from: Places,
  { rows, heads, width }: { rows: number; heads: number; width: number },
): void {
  const [count, each, within, step] =
    rows <= heads
      ? ([rows, heads, 'head', 'row'] as const)
      : ([heads, rows, 'row', 'head'] as const);
  for (let i = 0; i < count; i += 1)
    kernels.copyStrided(out, x, {
      rows: each,
      cols: width,
      outStride: to[within],
      outOffset: to.offset + i * to[step],
      xStride: from[within],
      xOffset: from.offset + i * from[step],
    });
}
