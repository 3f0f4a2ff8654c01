// MLA's core: from queries, up-projected latents and the shared rotary key to attention's output, and back.
//
// Queries are [rows, heads · (nope + rope)], rotary part last in each head; `kv` is [rows, heads · (nope + v)]; the rotary
// key [rows, rope] is shared by all heads (§2.1.1, eq. 1–11). Full queries, keys and values exist only inside a call.
import type { DType } from '@baleen/kernels';
import type { Tape, Tensor } from '@baleen/tensor';

import type { Rotary } from './rotary';

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
}

/**
 * Attention over up-projected latents.
 * @param tape - the tape
 * @param q - [batch · queries, heads · (nope + rope)]
 * @param kv - [batch · keys, heads · (nope + v)]
 * @param kRope - [batch · keys, rope], not yet rotated
 * @param rotary - tables
 * @param sizes - see {@link CoreSizes}
 * @returns [batch · queries, heads · v]
 */
export function latentAttention(
  tape: Tape,
  q: Tensor,
  kv: Tensor,
  kRope: Tensor,
  rotary: Rotary,
  sizes: CoreSizes,
): Tensor {
  const { kernels } = tape;
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim, scale } = sizes;
  if (keys > rotary.positions)
    throw Object.assign(
      new Error(`a sequence of ${keys} exceeds the rotary tables' ${rotary.positions} positions`),
      { code: 'ERR_BALEEN_MLA_SEQUENCE', hint: 'raise maxSequence, or extend it with YaRN' },
    );
  const width = nopeDim + ropeDim;
  const dims = { batch, queries, keys, heads, queryWidth: width, valueWidth: valueDim, scale };
  const out = tape.empty([batch * queries, heads * valueDim]);
  const lse = tape.empty([batch * heads * queries]);
  tape.scoped(() => {
    const parts = assemble(tape, q, kv, kRope, rotary, sizes);
    kernels.attention(out, lse, parts.q, parts.k, parts.v, dims);
    return [];
  });
  tape.record({
    name: 'attention',
    inputs: [q, kv, kRope],
    outputs: [out],
    saved: [q, kv, kRope, out, lse],
    backward: ([grad]) => {
      if (!grad) return [];
      const dq = tape.empty(q.shape);
      const dkv = tape.empty(kv.shape);
      const dkRope = tape.empty(kRope.shape);
      tape.scoped(() => {
        const dk = tape.empty([batch * keys, heads * width]);
        const dv = tape.empty([batch * keys, heads * valueDim]);
        tape.scoped(() => {
          const parts = assemble(tape, q, kv, kRope, rotary, sizes);
          kernels.attentionBackward(dq, dk, dv, grad, parts.q, parts.k, parts.v, out, lse, dims);
          return [];
        });
        const rotation = { width: ropeDim, outStride: heads * width, inverse: true };
        kernels.rope(dq, dq, rotary.cos, rotary.sin, {
          ...rotation,
          rows: batch * queries,
          heads,
          sequence: queries,
          start: keys - queries,
          outHeadStride: width,
          outOffset: nopeDim,
          xStride: heads * width,
          xHeadStride: width,
          xOffset: nopeDim,
        });
        kernels.rope(dkRope, dk, rotary.cos, rotary.sin, {
          ...rotation,
          rows: batch * keys,
          heads,
          sequence: keys,
          outStride: ropeDim,
          outHeadStride: 0,
          xStride: heads * width,
          xHeadStride: width,
          xOffset: nopeDim,
          sumHeads: true,
        });
        const perHead = { rows: batch * keys * heads, outStride: nopeDim + valueDim };
        kernels.copyStrided(dkv, dk, { ...perHead, cols: nopeDim, xStride: width });
        kernels.copyStrided(dkv, dv, {
          ...perHead,
          cols: valueDim,
          outOffset: nopeDim,
          xStride: valueDim,
        });
        return [];
      });
      return [dq, dkv, dkRope];
    },
  });
  return out;
}

/** Rotated queries, keys with the shared rotary part in every head, and values, in the products' precision. */
function assemble(
  tape: Tape,
  q: Tensor,
  kv: Tensor,
  kRope: Tensor,
  rotary: Rotary,
  sizes: CoreSizes,
): { q: Tensor; k: Tensor; v: Tensor } {
  const { kernels } = tape;
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim } = sizes;
  const width = nopeDim + ropeDim;
  const dtype: DType = sizes.precision === 'bf16' ? 'bf16' : 'f32';
  const full = {
    q: tape.empty([batch * queries, heads * width], dtype),
    k: tape.empty([batch * keys, heads * width], dtype),
    v: tape.empty([batch * keys, heads * valueDim], dtype),
  };
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
  kernels.rope(full.q, q, rotary.cos, rotary.sin, {
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
  kernels.rope(full.k, kRope, rotary.cos, rotary.sin, {
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
  return full;
}
