// Normalisation, activation and rotary embedding, with their gradients.
// What holds for all kernels stands in kernels.ts.
import type { View } from '../storage';

/** Sizes of `rope`; strides and offsets are counted in elements. */
export interface RopeSizes {
  /** Rows (tokens). */
  rows: number;
  /** Heads a row. */
  heads: number;
  /** Rotary width, even. */
  width: number;
  /** Row r stands at position `start + r mod sequence`. */
  sequence: number;
  /** Position of the first row of every sequence. */
  start?: number;
  /** Elements between rows of the output. */
  outStride: number;
  /** Elements between heads of the output. */
  outHeadStride: number;
  /** First element of the output. */
  outOffset?: number;
  /** Elements between rows of the input. */
  xStride: number;
  /** Elements between heads of the input; 0 gives every head the same. */
  xHeadStride: number;
  /** First element of the input. */
  xOffset?: number;
  /** Rotate backward: the gradient. */
  inverse?: boolean;
  /** The output has one head, the sum over the input's heads in ascending order (gradient of a shared key). */
  sumHeads?: boolean;
}

/** RMSNorm, SwiGLU and rotary embedding. */
export interface LayerKernels {
  /** y [rows, cols] = x · rstd · weight; rstd [rows] = 1 / √(mean x² + epsilon), kept for the gradient. */
  rmsNorm(
    y: View,
    rstd: View,
    x: View,
    weight: View,
    sizes: { rows: number; cols: number; epsilon: number },
  ): void;
  /** dx (replaced) and dweight (added to; rows summed first) of `rmsNorm`. */
  rmsNormBackward(
    dx: View,
    dweight: View,
    dy: View,
    x: View,
    weight: View,
    rstd: View,
    sizes: { rows: number; cols: number },
  ): void;
  /** out = silu(gate) · up, element by element. */
  swiglu(out: View, gate: View, up: View): void;
  /** Gradients of `swiglu`; dgate and dup are replaced. */
  swigluBackward(dgate: View, dup: View, dout: View, gate: View, up: View): void;
  /**
   * Rotates neighbouring pairs (x₂ᵢ, x₂ᵢ₊₁) by the angle whose cos and sin stand in tables [positions, width / 2].
   * FP32 in, FP32 or BF16 out; out may be x with the same strides.
   */
  rope(out: View, x: View, cos: View, sin: View, sizes: RopeSizes): void;
}
