// Embedding, output head and cross-entropy of the reference.
import { decodeBf16, encodeBf16 } from '../codec';
import type { CrossEntropySizes } from '../kernels';
import { f32, i32, type View } from '../storage';
import { decode, type Matrix, multiply, transpose } from './product';

/** See `Kernels.embedding`. Rows whose id lies outside the table become zero. */
export function embedding(
  out: View,
  weight: View,
  ids: View,
  { rows, cols }: { rows: number; cols: number },
): void {
  const [result, table, index] = [f32(out), f32(weight), i32(ids)];
  const vocab = table.length / cols;
  for (let r = 0; r < rows; r += 1) {
    const id = index[r];
    if (id >= 0 && id < vocab) result.set(table.subarray(id * cols, (id + 1) * cols), r * cols);
    else result.fill(0, r * cols, (r + 1) * cols);
  }
}

/** See `Kernels.embeddingBackward`. Ids outside the table are passed over. */
export function embeddingBackward(
  dweight: View,
  dout: View,
  ids: View,
  { rows, cols, vocab }: { rows: number; cols: number; vocab: number },
): void {
  const [table, grad, index] = [f32(dweight), f32(dout), i32(ids)];
  const sums = new Map<number, Float32Array>();
  for (let r = 0; r < rows; r += 1) {
    const id = index[r];
    if (id < 0 || id >= vocab) continue;
    let sum = sums.get(id);
    if (!sum) sums.set(id, (sum = new Float32Array(cols)));
    for (let c = 0; c < cols; c += 1) sum[c] = sum[c] + grad[r * cols + c];
  }
  for (const [id, sum] of sums)
    for (let c = 0; c < cols; c += 1) table[id * cols + c] = table[id * cols + c] + sum[c];
}

/** Rows whose logits exist at a time. */
const chunkRows = 64;

/**
 * See `Kernels.linearCrossEntropy`. With logits z = x · Wᵀ and p = softmax(z): loss = log Σ exp z − z_target,
 * ∂loss/∂z_v = p_v − [v = target], dx = ∂z · W, dW += ∂zᵀ · x.
 */
export function linearCrossEntropy(
  loss: View,
  x: View,
  weight: View,
  targets: View,
  { rows, hidden, vocab, likeliest }: CrossEntropySizes,
  gradient?: { rowScale: View; dx: View; dweight: View },
): void {
  const [losses, wanted] = [f32(loss), i32(targets)];
  const best = likeliest ? i32(likeliest) : null;
  const table = decode(weight, 0, vocab, hidden);
  const byHidden = transpose(table);
  const rowScale = gradient ? f32(gradient.rowScale) : new Float32Array(rows);
  const dweight = new Float32Array(gradient ? vocab * hidden : 0);
  for (let first = 0; first < rows; first += chunkRows) {
    const count = Math.min(chunkRows, rows - first);
    const input = decode(x, first, count, hidden);
    const logits = new Float32Array(count * vocab);
    multiply(logits, input, byHidden, false);
    for (let r = 0; r < count; r += 1) {
      const z = logits.subarray(r * vocab, (r + 1) * vocab);
      const target = wanted[first + r];
      if (best) best[first + r] = z.reduce((top, logit, v) => (logit > z[top] ? v : top), 0);
      losses[first + r] = crossEntropy(z, target, rowScale[first + r], x.dtype === 'bf16');
    }
    if (!gradient) continue;
    const dlogits: Matrix = { ...input, cols: vocab, values: logits };
    multiply(f32(gradient.dx).subarray(first * hidden), dlogits, table, false);
    multiply(dweight, transpose(dlogits), input, true);
  }
  if (!gradient) return;
  const out = f32(gradient.dweight);
  for (let i = 0; i < out.length; i += 1) out[i] = out[i] + dweight[i];
}

/** The loss of one row; its logits become scale · ∂loss/∂logits. Without a target both are zero. */
function crossEntropy(z: Float32Array, target: number, scale: number, low: boolean): number {
  if (target < 0 || target >= z.length) {
    z.fill(0);
    return 0;
  }
  let top = -Infinity;
  for (const logit of z) top = Math.max(top, logit);
  let total = 0;
  for (const logit of z) total += Math.exp(logit - top);
  const lse = top + Math.log(total);
  const loss = lse - z[target];
  for (let v = 0; v < z.length; v += 1) {
    const dlogit = scale * (Math.exp(z[v] - lse) - (v === target ? 1 : 0));
    z[v] = low ? decodeBf16(encodeBf16(dlogit)) : dlogit;
  }
  return loss;
}
