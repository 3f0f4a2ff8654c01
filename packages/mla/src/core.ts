// MLA's core on tensors: from queries, up-projected latents and the shared rotary key to attention's output, and back
// (§2.1.1, eq. 1–11). heads.ts has the layouts. Full queries, keys and values exist only inside a call.
import type { DType } from '@baleen/kernels';
import { type KeptForm, keepAs, type Tape, type Tensor } from '@baleen/tensor';

import { checkPositions } from './checks';
import { assemble, attentionSizes, type CoreSizes, takeApart } from './heads';
import type { Rotary } from './rotary';

/** Full queries, keys and values. */
interface FullHeads {
  q: Tensor;
  k: Tensor;
  v: Tensor;
}

/**
 * Attention over up-projected latents.
 * @param tape - the tape
 * @param q - [batch · queries, heads · (nope + rope)]
 * @param kv - [batch · keys, heads · (nope + v)]
 * @param kRope - [batch · keys, rope], not yet rotated
 * @param rotary - tables
 * @param sizes - see {@link CoreSizes}
 * @param form - what the output is kept in for backward, with powers of two as scales (§3.3.3)
 * @returns [batch · queries, heads · v]
 * @throws ERR_BALEEN_MLA_SEQUENCE where the tables have fewer positions than a sequence
 */
export function latentAttention(
  tape: Tape,
  q: Tensor,
  kv: Tensor,
  kRope: Tensor,
  rotary: Rotary,
  sizes: CoreSizes,
  form: KeptForm = 'fp32',
): Tensor {
  const { kernels } = tape;
  checkPositions(sizes.keys, rotary.positions);
  const dims = attentionSizes(sizes);
  const { batch, keys, heads, queryWidth, valueWidth } = dims;
  /** Full queries, keys and values, for as long as the scope they are made in. */
  const full = (): FullHeads => {
    const made = emptyHeads(tape, sizes);
    assemble(kernels, made, { q, kv, kRope }, rotary, sizes);
    return made;
  };
  const { out, lse } = attendTo(tape, full, sizes);
  keepAs(tape, out, form, true);
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
        const dk = tape.empty([batch * keys, heads * queryWidth]);
        const dv = tape.empty([batch * keys, heads * valueWidth]);
        tape.scoped(() => {
          const parts = full();
          kernels.attentionBackward(dq, dk, dv, grad, parts.q, parts.k, parts.v, out, lse, dims);
          return [];
        });
        takeApart(kernels, { q: dq, kv: dkv, kRope: dkRope }, { k: dk, v: dv }, rotary, sizes);
        return [];
      });
      return [dq, dkv, dkRope];
    },
  });
  return out;
}

/**
 * The same over a cache, whose rotary keys are rotated already, without gradients.
 * @param tape - a tape that does not record
 * @param q - [queries, heads · (nope + rope)]
 * @param kv - [keys, heads · (nope + v)]
 * @param keys - [keys, rope], rotated
 * @param rotary - tables
 * @param sizes - see {@link CoreSizes}
 * @returns [queries, heads · v]
 */
export function cachedAttention(
  tape: Tape,
  q: Tensor,
  kv: Tensor,
  keys: Tensor,
  rotary: Rotary,
  sizes: CoreSizes,
): Tensor {
  const full = (): FullHeads => {
    const made = emptyHeads(tape, sizes);
    assemble(tape.kernels, made, { q, kv, kRope: keys }, rotary, sizes, true);
    return made;
  };
  return attendTo(tape, full, sizes).out;
}

/** Room for full heads, in the products' precision. */
function emptyHeads(tape: Tape, sizes: CoreSizes): FullHeads {
  const { batch, queries, keys, heads, queryWidth, valueWidth } = attentionSizes(sizes);
  const dtype: DType = sizes.precision === 'bf16' ? 'bf16' : 'f32';
  return {
    q: tape.empty([batch * queries, heads * queryWidth], dtype),
    k: tape.empty([batch * keys, heads * queryWidth], dtype),
    v: tape.empty([batch * keys, heads * valueWidth], dtype),
  };
}

/** Attention over full heads, which are let go of afterwards. */
function attendTo(
  tape: Tape,
  full: () => FullHeads,
  sizes: CoreSizes,
): { out: Tensor; lse: Tensor } {
  const dims = attentionSizes(sizes);
  const { batch, queries, heads, valueWidth } = dims;
  const out = tape.empty([batch * queries, heads * valueWidth]);
  const lse = tape.empty([batch * heads * queries]);
  tape.scoped(() => {
    const { q, k, v } = full();
    tape.kernels.attention(out, lse, q, k, v, dims);
    return [];
  });
  return { out, lse };
}
