// What full queries, keys and values are made of, and how their gradients come apart again: MLA's layouts, shared by the
// core on tensors and the one on arrays (§2.1.1, eq. 1–11).
//
// Queries are [rows, heads · (nope + rope)], rotary part last in each head; `kv` is [rows, heads · (nope + v)]; the rotary
// key [rows, rope] is shared by all heads, and rotated only here, unless it comes from a cache.
import type { AttentionSizes, Kernels, View } from '@baleen/kernels';

/** Widths of a head, and how many. */
export interface HeadSizes {
  /** Heads. */
  heads: number;
  /** Width of a head without position (d_h). */
  nopeDim: number;
  /** Width of a head's rotary part (d_h^R). */
  ropeDim: number;
  /** Width of a head's value. */
  valueDim: number;
}

/** What attention looks at. */
export interface CoreSizes extends HeadSizes {
  /** Sequences. */
  batch: number;
  /** Query rows of each. */
  queries: number;
  /** Key rows of each; the queries are the last of them. */
  keys: number;
  /** Factor on the scores. */
  scale: number;
  /** Inputs of the inner products. */
  precision: 'fp32' | 'bf16';
  /**
   * Borders of documents over the rows of all sequences, I32: each document sees only itself (see the kernel). Rotary
   * positions go on through the sequence: within a document only distances count.
   */
  documents?: View;
}

/** What goes into the core, or its gradients. */
export interface CoreViews {
  /** [batch · queries, heads · (nope + rope)]. */
  q: View;
  /** [batch · keys, heads · (nope + v)]. */
  kv: View;
  /** [batch · keys, rope]. */
  kRope: View;
}

/** Full queries, keys and values. */
export interface FullViews {
  /** [batch · queries, heads · (nope + rope)], rotated. */
  q: View;
  /** [batch · keys, heads · (nope + rope)], rotated. */
  k: View;
  /** [batch · keys, heads · v]. */
  v: View;
}

/** cos and sin of positions. */
export interface TableViews {
  /** [positions, rope / 2]. */
  cos: View;
  /** Likewise. */
  sin: View;
}

/** The kernel's sizes of MLA's heads. */
export function attentionSizes(sizes: CoreSizes): AttentionSizes {
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim, scale, documents } = sizes;
  const widths = { heads, queryWidth: nopeDim + ropeDim, valueWidth: valueDim, scale };
  if (!documents) return { batch, queries, keys, ...widths };
  // Documents know nothing of sequences: those are borders like others.
  return { batch: 1, queries: batch * queries, keys: batch * keys, ...widths, documents };
}

/**
 * Rotated queries, keys with the shared rotary part in every head, and values, each in the type of its view. Keys that a
 * cache holds are rotated already.
 */
export function assemble(
  kernels: Kernels,
  full: FullViews,
  { q, kv, kRope }: CoreViews,
  { cos, sin }: TableViews,
  sizes: CoreSizes,
  keysRotated = false,
): void {
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim } = sizes;
  const width = nopeDim + ropeDim;
  const rotated = {
    width: ropeDim,
    heads,
    outStride: heads * width,
    outHeadStride: width,
    outOffset: nopeDim,
  };
  kernels.copyStrided(full.q, q, {
    rows: batch * queries * heads,
    cols: nopeDim,
    outStride: width,
    xStride: width,
  });
  kernels.rope(full.q, q, cos, sin, {
    ...rotated,
    rows: batch * queries,
    sequence: queries,
    start: keys - queries,
    xStride: heads * width,
    xHeadStride: width,
    xOffset: nopeDim,
  });
  const perHead = { rows: batch * keys * heads, xStride: nopeDim + valueDim };
  kernels.copyStrided(full.k, kv, { ...perHead, cols: nopeDim, outStride: width });
  if (keysRotated) repeatKey(kernels, full.k, kRope, sizes);
  else
    kernels.rope(full.k, kRope, cos, sin, {
      ...rotated,
      rows: batch * keys,
      sequence: keys,
      xStride: ropeDim,
      xHeadStride: 0,
    });
  kernels.copyStrided(full.v, kv, {
    ...perHead,
    cols: valueDim,
    outStride: valueDim,
    xOffset: nopeDim,
  });
}

/** The shared rotary key in every head, as it is. */
function repeatKey(kernels: Kernels, full: View, kRope: View, sizes: CoreSizes): void {
  const { batch, keys, heads, nopeDim, ropeDim } = sizes;
  const width = nopeDim + ropeDim;
  for (let head = 0; head < heads; head += 1)
    kernels.copyStrided(full, kRope, {
      rows: batch * keys,
      cols: ropeDim,
      outStride: heads * width,
      outOffset: head * width + nopeDim,
      xStride: ropeDim,
    });
}

/**
 * The gradient of `assemble`. `grads.q` holds the gradient of the rotated queries and is turned back in place; keys and
 * values go to the latents' rows, and the rotary parts of all heads are summed into the shared key's.
 */
export function takeApart(
  kernels: Kernels,
  grads: CoreViews,
  full: { k: View; v: View },
  { cos, sin }: TableViews,
  sizes: CoreSizes,
): void {
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim } = sizes;
  const width = nopeDim + ropeDim;
  const rotation = {
    width: ropeDim,
    heads,
    xStride: heads * width,
    xHeadStride: width,
    xOffset: nopeDim,
    inverse: true,
  };
  kernels.rope(grads.q, grads.q, cos, sin, {
    ...rotation,
    rows: batch * queries,
    sequence: queries,
    start: keys - queries,
    outStride: heads * width,
    outHeadStride: width,
    outOffset: nopeDim,
  });
  kernels.rope(grads.kRope, full.k, cos, sin, {
    ...rotation,
    rows: batch * keys,
    sequence: keys,
    outStride: ropeDim,
    outHeadStride: 0,
    sumHeads: true,
  });
  const perHead = { rows: batch * keys * heads, outStride: nopeDim + valueDim };
  kernels.copyStrided(grads.kv, full.k, { ...perHead, cols: nopeDim, xStride: width });
  kernels.copyStrided(grads.kv, full.v, {
    ...perHead,
    cols: valueDim,
    outOffset: nopeDim,
    xStride: valueDim,
  });
}
