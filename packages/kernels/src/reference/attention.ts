// Causal attention of the reference, row by row: out_i = Σ_j softmax_j(scale · q_i·k_j) v_j (§2.1.1).
import { decodeBf16, decodeBf16Array, encodeBf16 } from '../codec';
import type { AttentionSizes } from '../kernels';
import { bf16, f32, type View } from '../storage';

function values(view: View): Float32Array {
  return view.dtype === 'bf16' ? decodeBf16Array(bf16(view)) : f32(view);
}

/** Rounds to the precision of the products' operands. */
function rounding(view: View): (x: number) => number {
  return view.dtype === 'bf16' ? (x) => decodeBf16(encodeBf16(x)) : (x) => x;
}

/** See `Kernels.attention`. */
export function attention(
  out: View,
  lse: View,
  q: View,
  k: View,
  v: View,
  sizes: AttentionSizes,
): void {
  const { batch, queries, keys, heads, queryWidth, valueWidth, scale } = sizes;
  const [qs, ks, vs, result, logs] = [values(q), values(k), values(v), f32(out), f32(lse)];
  const round = rounding(q);
  const scores = new Float64Array(keys);
  const sums = new Float64Array(valueWidth);
  for (let b = 0; b < batch; b += 1)
    for (let h = 0; h < heads; h += 1)
      for (let i = 0; i < queries; i += 1) {
        const seen = keys - queries + i + 1;
        const qAt = ((b * queries + i) * heads + h) * queryWidth;
        let top = -Infinity;
        for (let j = 0; j < seen; j += 1) {
          const kAt = ((b * keys + j) * heads + h) * queryWidth;
          let dot = 0;
          for (let d = 0; d < queryWidth; d += 1)
            dot += (qs[qAt + d] as number) * (ks[kAt + d] as number);
          scores[j] = dot * scale;
          top = Math.max(top, dot * scale);
        }
        let total = 0;
        sums.fill(0);
        for (let j = 0; j < seen; j += 1) {
          const p = Math.exp((scores[j] as number) - top);
          total += p;
          const rounded = round(p);
          const vAt = ((b * keys + j) * heads + h) * valueWidth;
          for (let d = 0; d < valueWidth; d += 1)
            sums[d] = (sums[d] as number) + rounded * (vs[vAt + d] as number);
        }
        const outAt = ((b * queries + i) * heads + h) * valueWidth;
        for (let d = 0; d < valueWidth; d += 1) result[outAt + d] = (sums[d] as number) / total;
        logs[(b * heads + h) * queries + i] = top + Math.log(total);
      }
}

/**
 * See `Kernels.attentionBackward`. With P = exp(scale·qk − lse), dP = dout·v, D_i = dout_i·out_i:
 * dS = P ∘ (dP − D), dq = scale · dS k, dk = scale · dSᵀ q, dv = Pᵀ dout.
 */
export function attentionBackward(
  dq: View,
  dk: View,
  dv: View,
  dout: View,
  q: View,
  k: View,
  v: View,
  out: View,
  lse: View,
  sizes: AttentionSizes,
): void {
  const { batch, queries, keys, heads, queryWidth, valueWidth, scale } = sizes;
  const [qs, ks, vs] = [values(q), values(k), values(v)];
  const [grad, result, logs] = [f32(dout), f32(out), f32(lse)];
  const round = rounding(q);
  const [dqs, dks, dvs] = [f32(dq), f32(dk), f32(dv)];
  dqs.fill(0);
  dks.fill(0);
  dvs.fill(0);
  for (let b = 0; b < batch; b += 1)
    for (let h = 0; h < heads; h += 1)
      for (let i = 0; i < queries; i += 1) {
        const seen = keys - queries + i + 1;
        const qAt = ((b * queries + i) * heads + h) * queryWidth;
        const oAt = ((b * queries + i) * heads + h) * valueWidth;
        let delta = 0;
        for (let d = 0; d < valueWidth; d += 1)
          delta += (grad[oAt + d] as number) * (result[oAt + d] as number);
        const log = logs[(b * heads + h) * queries + i] as number;
        for (let j = 0; j < seen; j += 1) {
          const kAt = ((b * keys + j) * heads + h) * queryWidth;
          const vAt = ((b * keys + j) * heads + h) * valueWidth;
          let dot = 0;
          for (let d = 0; d < queryWidth; d += 1)
            dot += (qs[qAt + d] as number) * (ks[kAt + d] as number);
          let dp = 0;
          for (let d = 0; d < valueWidth; d += 1)
            dp += round(grad[oAt + d] as number) * (vs[vAt + d] as number);
          const p = Math.exp(dot * scale - log);
          const ds = round(p * (dp - delta));
          const pv = round(p);
          for (let d = 0; d < queryWidth; d += 1) {
            dqs[qAt + d] = (dqs[qAt + d] as number) + scale * ds * (ks[kAt + d] as number);
            dks[kAt + d] = (dks[kAt + d] as number) + scale * ds * (qs[qAt + d] as number);
          }
          for (let d = 0; d < valueWidth; d += 1)
            dvs[vAt + d] = (dvs[vAt + d] as number) + pv * round(grad[oAt + d] as number);
        }
      }
}
