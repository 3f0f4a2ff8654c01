// MLA's core on tensors: from queries, up-projected latents and the shared rotary key to attention's output, and back
// (§2.1.1, eq. 1–11). heads.ts has the layouts. Full queries, keys and values exist only inside a call.
import type { DType } from '@baleen/kernels';
import { type KeptForm, keepAs, type Tape, type Tensor } from '@baleen/tensor';

import { checkPositions } from './checks';
import { assemble, attentionSizes, type CoreSizes, takeApart } from './heads';
import type { Rotary } from './rotary';

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
  const { batch, queries, keys, heads, queryWidth, valueWidth } = dims;
  const dtype: DType = sizes.precision === 'bf16' ? 'bf16' : 'f32';
  /** Full queries, keys and values, for as long as the scope they are made in. */
  const full = (): { q: Tensor; k: Tensor; v: Tensor } => {
    const made = {
      q: tape.empty([batch * queries, heads * queryWidth], dtype),
      k: tape.empty([batch * keys, heads * queryWidth], dtype),
      v: tape.empty([batch * keys, heads * valueWidth], dtype),
    };
    assemble(kernels, made, { q, kv, kRope }, rotary, sizes);
    return made;
  };
  const out = tape.empty([batch * queries, heads * valueWidth]);
  const lse = tape.empty([batch * heads * queries]);
  tape.scoped(() => {
    const parts = full();
    kernels.attention(out, lse, parts.q, parts.k, parts.v, dims);
    return [];
  });
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
