// Reductions and AdamW of the reference.
import { decodeBf16, encodeBf16 } from '../codec';
import type { AdamWSizes } from '../kernels';
import { bf16, f32, i32, type View } from '../storage';

/** See `Kernels.sum`. */
export function sum(out: View, x: View): void {
  f32(out)[0] = f32(x).reduce((total, value) => total + value, 0);
}

/** See `Kernels.sumOfSquares`. */
export function sumOfSquares(out: View, x: View): void {
  f32(out)[0] = f32(x).reduce((total, value) => total + value * value, 0);
}

/** See `Kernels.clipFactor`. */
export function clipFactor(
  norm: View,
  factor: View,
  finite: View,
  squares: View,
  loss: View,
  { maxNorm }: { maxNorm: number },
): void {
  const total = Math.sqrt(f32(squares).reduce((sum, value) => sum + value, 0));
  f32(norm)[0] = total;
  f32(factor)[0] = Math.min(1, maxNorm / (total + 1e-6));
  i32(finite)[0] = Number.isFinite(total) && Number.isFinite(f32(loss)[0]) ? 1 : 0;
}

/**
 * See `Kernels.adamw`: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
 * θ ← θ − lr · (m̂ / (√v̂ + ε) + wd · θ) with m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ).
 */
export function adamw(
  parameter: View,
  gradient: View,
  m: View,
  v: View,
  factor: View,
  finite: View,
  rates: View,
  { beta1, beta2, epsilon, weightDecay }: AdamWSizes,
): void {
  if (i32(finite)[0] === 0) return;
  const [p, grad] = [f32(parameter), f32(gradient)];
  const low = m.dtype === 'bf16';
  const [first, second] = low ? [bf16(m), bf16(v)] : [f32(m), f32(v)];
  const [decode, encode] = low ? [decodeBf16, encodeBf16] : [Math.fround, Math.fround];
  const clip = f32(factor)[0];
  const [learningRate, correction1, correction2] = f32(rates);
  for (let i = 0; i < p.length; i += 1) {
    const g = grad[i] * clip;
    const m1 = beta1 * decode(first[i]) + (1 - beta1) * g;
    const v1 = beta2 * decode(second[i]) + (1 - beta2) * g * g;
    first[i] = encode(m1);
    second[i] = encode(v1);
    const update = (m1 * correction1) / (Math.sqrt(v1 * correction2) + epsilon);
    p[i] = p[i] - learningRate * (update + weightDecay * p[i]);
  }
}
