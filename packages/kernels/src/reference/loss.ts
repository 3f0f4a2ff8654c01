// Embedding, output head and cross-entropy of the reference.
import { decodeBf16, decodeBf16Array, encodeBf16 } from '../codec';
import type { CrossEntropySizes } from '../kernels';
import { bf16, f32, i32, type View } from '../storage';

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
    const id = index[r] as number;
    if (id >= 0 && id < vocab) result.set(table.subarray(id * cols, (id + 1) * cols), r * cols);
    else result.fill(0, r * cols, (r + 1) * cols);
  }
}

/** See `Kernels.embeddingBackward`. */
export function embeddingBackward(
  dweight: View,
  dout: View,
  ids: View,
  { rows, cols, vocab }: { rows: number; cols: number; vocab: number },
): void {
  const [table, grad, index] = [f32(dweight), f32(dout), i32(ids)];
  const sums = new Map<number, Float32Array>();
  for (let r = 0; r < rows; r += 1) {
    const id = index[r] as number;
    if (id < 0 || id >= vocab) continue;
    const sum = sums.get(id) ?? new Float32Array(cols);
    sums.set(id, sum);
    for (let c = 0; c < cols; c += 1) sum[c] = (sum[c] as number) + (grad[r * cols + c] as number);
  }
  for (const [id, sum] of sums)
    for (let c = 0; c < cols; c += 1)
      table[id * cols + c] = (table[id * cols + c] as number) + (sum[c] as number);
}

/** See `Kernels.linearCrossEntropy`: ∂loss/∂logit_v = softmax_v − [v = target]. */
export function linearCrossEntropy(
  loss: View,
  x: View,
  weight: View,
  targets: View,
  { rows, hidden, vocab }: CrossEntropySizes,
  gradient?: { rowScale: View; dx: View; dweight: View },
): void {
  const low = x.dtype === 'bf16';
  const input = low ? decodeBf16Array(bf16(x)) : f32(x);
  const table = low ? decodeBf16Array(bf16(weight)) : f32(weight);
  const [losses, wanted] = [f32(loss), i32(targets)];
  const logits = new Float32Array(vocab);
  const dweight = gradient ? new Float32Array(vocab * hidden) : null;
  const dx = gradient ? f32(gradient.dx) : null;
  const scales = gradient ? f32(gradient.rowScale) : null;
  for (let r = 0; r < rows; r += 1) {
    const target = wanted[r] as number;
    losses[r] = 0;
    dx?.fill(0, r * hidden, (r + 1) * hidden);
    if (target < 0 || target >= vocab) continue;
    let top = -Infinity;
    for (let v = 0; v < vocab; v += 1) {
      let dot = 0;
      for (let c = 0; c < hidden; c += 1)
        dot += (input[r * hidden + c] as number) * (table[v * hidden + c] as number);
      logits[v] = dot;
      top = Math.max(top, logits[v] as number);
    }
    let total = 0;
    for (let v = 0; v < vocab; v += 1) total += Math.exp((logits[v] as number) - top);
    const lse = top + Math.log(total);
    losses[r] = lse - (logits[target] as number);
    if (!dx || !dweight || !scales) continue;
    for (let v = 0; v < vocab; v += 1) {
      const p = Math.exp((logits[v] as number) - lse) - (v === target ? 1 : 0);
      let dlogit = Math.fround(p * (scales[r] as number));
      if (low) dlogit = decodeBf16(encodeBf16(dlogit));
      for (let c = 0; c < hidden; c += 1) {
        dx[r * hidden + c] =
          (dx[r * hidden + c] as number) + dlogit * (table[v * hidden + c] as number);
        dweight[v * hidden + c] =
          (dweight[v * hidden + c] as number) + dlogit * (input[r * hidden + c] as number);
      }
    }
  }
  if (gradient && dweight) {
    const out = f32(gradient.dweight);
    for (let i = 0; i < out.length; i += 1) out[i] = (out[i] as number) + (dweight[i] as number);
  }
}
