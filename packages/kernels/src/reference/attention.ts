// Causal attention of the reference, row by row: out_i = Σ_j softmax_j(scale · q_i·k_j) v_j (§2.1.1).
//
// Rows are [batch, position, heads, width]: neighbouring positions of one head are heads · width apart.
import { decodeBf16, decodeBf16Array, encodeBf16 } from '../codec';
import type { AttentionSizes } from '../kernels';
import { bf16, f32, i32, type View } from '../storage';

/** A view's numbers, FP32 or BF16. */
export function values(view: View): Float32Array {
  return view.dtype === 'bf16' ? decodeBf16Array(bf16(view)) : f32(view);
}

/** x rounded to BF16. */
export const toBf16 = (x: number): number => decodeBf16(encodeBf16(x));

/** Σ_d a[aAt + d] · b[bAt + d], d ascending. */
export function dot(
  a: Float32Array,
  aAt: number,
  b: Float32Array,
  bAt: number,
  width: number,
): number {
  let sum = 0;
  for (let d = 0; d < width; d += 1) sum += a[aAt + d] * b[bAt + d];
  return sum;
}

/** out[outAt + d] += factor · x[xAt + d]. */
export function addScaled(
  out: Float32Array,
  outAt: number,
  factor: number,
  x: Float32Array,
  xAt: number,
  width: number,
): void {
  for (let d = 0; d < width; d += 1) out[outAt + d] = out[outAt + d] + factor * x[xAt + d];
}

/** Rows that are attended to among themselves: a sequence, or a document. */
interface Span {
  /** Its first rows of queries and of keys, of a head's lse, and how many there are. */
  query: number;
  key: number;
  log: number;
  queries: number;
  keys: number;
}

/** Every sequence, or every document, for head `h`. */
function* spans(sizes: AttentionSizes, h: number): Generator<Span, void, void> {
  const { batch, queries, keys, heads, documents } = sizes;
  if (!documents) {
    for (let b = 0; b < batch; b += 1)
      yield { query: b * queries, key: b * keys, log: (b * heads + h) * queries, queries, keys };
    return;
  }
  const borders = i32(documents);
  for (let d = 0; d + 1 < borders.length; d += 1) {
    const [first, count] = [borders[d], borders[d + 1] - borders[d]];
    yield { query: first, key: first, log: h * queries + first, queries: count, keys: count };
  }
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
  const { heads, queryWidth, valueWidth, scale } = sizes;
  const [qs, ks, vs, result, logs] = [values(q), values(k), values(v), f32(out), f32(lse)];
  const low = q.dtype === 'bf16';
  const scores = new Float64Array(sizes.keys);
  const sums = new Float32Array(valueWidth);
  for (let h = 0; h < heads; h += 1)
    for (const { query, key, log, queries, keys } of spans(sizes, h))
      for (let i = 0; i < queries; i += 1) {
        const seen = keys - queries + i + 1;
        const qAt = ((query + i) * heads + h) * queryWidth;
        let top = -Infinity;
        for (let j = 0; j < seen; j += 1) {
          const kAt = ((key + j) * heads + h) * queryWidth;
          const score = scale * dot(qs, qAt, ks, kAt, queryWidth);
          scores[j] = score;
          top = Math.max(top, score);
        }
        let total = 0;
        sums.fill(0);
        for (let j = 0; j < seen; j += 1) {
          const p = Math.exp(scores[j] - top);
          total += p;
          const vAt = ((key + j) * heads + h) * valueWidth;
          addScaled(sums, 0, low ? toBf16(p) : p, vs, vAt, valueWidth);
        }
        const outAt = ((query + i) * heads + h) * valueWidth;
        for (let d = 0; d < valueWidth; d += 1) result[outAt + d] = sums[d] / total;
        logs[log + i] = top + Math.log(total);
      }
}

/**
 * See `Kernels.attentionBackward`. With P = exp(scale · q·k − lse), dP = dout · v, D_i = dout_i · out_i:
 * dS = scale · P ∘ (dP − D), dq = dS k, dk = dSᵀ q, dv = Pᵀ dout.
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
  const { heads, queryWidth, valueWidth, scale } = sizes;
  const [qs, ks, vs] = [values(q), values(k), values(v)];
  const [grad, result, logs] = [f32(dout), f32(out), f32(lse)];
  const low = q.dtype === 'bf16';
  const gradOperand = low ? grad.map(toBf16) : grad;
  const [dqs, dks, dvs] = [f32(dq), f32(dk), f32(dv)];
  dqs.fill(0);
  dks.fill(0);
  dvs.fill(0);
  for (let h = 0; h < heads; h += 1)
    for (const { query, key, log, queries, keys } of spans(sizes, h))
      for (let i = 0; i < queries; i += 1) {
        const seen = keys - queries + i + 1;
        const qAt = ((query + i) * heads + h) * queryWidth;
        const outAt = ((query + i) * heads + h) * valueWidth;
        const delta = dot(grad, outAt, result, outAt, valueWidth);
        const logOfRow = logs[log + i];
        for (let j = 0; j < seen; j += 1) {
          const kAt = ((key + j) * heads + h) * queryWidth;
          const vAt = ((key + j) * heads + h) * valueWidth;
          const p = Math.exp(scale * dot(qs, qAt, ks, kAt, queryWidth) - logOfRow);
          const dp = dot(gradOperand, outAt, vs, vAt, valueWidth);
          const ds = scale * p * (dp - delta);
          const dsOperand = low ? toBf16(ds) : ds;
          addScaled(dqs, qAt, dsOperand, ks, kAt, queryWidth);
          addScaled(dks, kAt, dsOperand, qs, qAt, queryWidth);
          addScaled(dvs, vAt, low ? toBf16(p) : p, gradOperand, outAt, valueWidth);
        }
      }
}
