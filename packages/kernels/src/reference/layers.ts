// Normalisation, activation and rotary embedding of the reference.
import { encodeBf16 } from '../codec';
import type { RopeSizes } from '../kernels';
import { bf16, f32, type View } from '../storage';

/** See `Kernels.rmsNorm`: y = x · rstd · weight, rstd = (mean x² + ε)^−½. */
export function rmsNorm(
  y: View,
  rstd: View,
  x: View,
  weight: View,
  { rows, cols, epsilon }: { rows: number; cols: number; epsilon: number },
): void {
  const [out, scale, input, w] = [f32(y), f32(rstd), f32(x), f32(weight)];
  for (let r = 0; r < rows; r += 1) {
    let squares = 0;
    for (let c = 0; c < cols; c += 1) squares += input[r * cols + c] ** 2;
    scale[r] = 1 / Math.sqrt(squares / cols + epsilon);
    for (let c = 0; c < cols; c += 1)
      out[r * cols + c] = Math.fround(input[r * cols + c] * scale[r]) * w[c];
  }
}

/**
 * See `Kernels.rmsNormBackward`. With x̂ = x · rstd and g = dy · weight:
 * dx = rstd · (g − x̂ · mean(g · x̂)), dweight += Σ_rows dy · x̂.
 */
export function rmsNormBackward(
  dx: View,
  dweight: View,
  dy: View,
  x: View,
  weight: View,
  rstd: View,
  { rows, cols }: { rows: number; cols: number },
): void {
  const [out, dw, grad, input, w, scale] = [dx, dweight, dy, x, weight, rstd].map(f32) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const sums = new Float64Array(cols);
  for (let r = 0; r < rows; r += 1) {
    const s = scale[r];
    let mean = 0;
    for (let c = 0; c < cols; c += 1) {
      const at = r * cols + c;
      const normed = input[at] * s;
      mean += grad[at] * w[c] * normed;
      sums[c] = sums[c] + grad[at] * normed;
    }
    mean /= cols;
    for (let c = 0; c < cols; c += 1) {
      const at = r * cols + c;
      out[at] = s * (grad[at] * w[c] - input[at] * s * mean);
    }
  }
  for (let c = 0; c < cols; c += 1) dw[c] = dw[c] + Math.fround(sums[c]);
}

/** See `Kernels.swiglu`: silu(g) = g / (1 + e^−g). */
export function swiglu(out: View, gate: View, up: View): void {
  const [y, g, u] = [f32(out), f32(gate), f32(up)];
  for (let i = 0; i < y.length; i += 1) y[i] = (g[i] / (1 + Math.exp(-g[i]))) * u[i];
}

/** See `Kernels.swigluBackward`: silu′(g) = σ(g) · (1 + g · (1 − σ(g))). */
export function swigluBackward(dgate: View, dup: View, dout: View, gate: View, up: View): void {
  const [dg, du, grad, g, u] = [f32(dgate), f32(dup), f32(dout), f32(gate), f32(up)];
  for (let i = 0; i < g.length; i += 1) {
    const x = g[i];
    const y = grad[i];
    const sigma = 1 / (1 + Math.exp(-x));
    const upValue = u[i];
    dg[i] = y * upValue * sigma * (1 + x * (1 - sigma));
    du[i] = y * x * sigma;
  }
}

/** See `Kernels.rope`: (x₂ᵢ + i·x₂ᵢ₊₁) · e^{iθ}, pairs interleaved as DeepSeek has them. */
export function rope(out: View, x: View, cos: View, sin: View, sizes: RopeSizes): void {
  const { rows, heads, width, sequence, start = 0 } = sizes;
  const { outStride, outHeadStride, outOffset = 0, xStride, xHeadStride, xOffset = 0 } = sizes;
  const half = width / 2;
  const [input, cosines, sines] = [f32(x), f32(cos), f32(sin)];
  const target = out.dtype === 'bf16' ? bf16(out) : f32(out);
  const write = out.dtype === 'bf16' ? encodeBf16 : Math.fround;
  for (let r = 0; r < rows; r += 1) {
    const position = start + (r % sequence);
    for (let i = 0; i < half; i += 1) {
      const c = cosines[position * half + i];
      const s = sines[position * half + i] * (sizes.inverse ? -1 : 1);
      let [sum0, sum1] = [0, 0];
      for (let h = 0; h < heads; h += 1) {
        const from = xOffset + r * xStride + h * xHeadStride + 2 * i;
        const [x0, x1] = [input[from], input[from + 1]];
        const y0 = Math.fround(Math.fround(x0 * c) - Math.fround(x1 * s));
        const y1 = Math.fround(Math.fround(x0 * s) + Math.fround(x1 * c));
        if (sizes.sumHeads) {
          sum0 = Math.fround(sum0 + y0);
          sum1 = Math.fround(sum1 + y1);
          continue;
        }
        const to = outOffset + r * outStride + h * outHeadStride + 2 * i;
        target[to] = write(y0);
        target[to + 1] = write(y1);
      }
      if (sizes.sumHeads) {
        const to = outOffset + r * outStride + 2 * i;
        target[to] = write(sum0);
        target[to + 1] = write(sum1);
      }
    }
  }
}
