// Reductions, clipping and AdamW.
// What holds for all kernels stands in kernels.ts.
import type { View } from '../storage';

/** One AdamW update. */
export interface AdamWSizes {
  /** Decay of the first moment. */
  beta1: number;
  /** Decay of the second moment. */
  beta2: number;
  /** Added to the root of the second moment. */
  epsilon: number;
  /** Decoupled weight decay, a factor of the learning rate. */
  weightDecay: number;
}

/** Reductions and the optimizer. */
export interface OptimizerKernels {
  /** out[0] = Σ x, in a tree fixed by the size alone. */
  sum(out: View, x: View): void;
  /** out[0] = Σ x², likewise. */
  sumOfSquares(out: View, x: View): void;
  /**
   * From squares [n] (each parameter's Σ grad²) and loss[0]: norm[0] = √Σ squares, factor[0] = min(1, maxNorm / (norm + 1e-6)),
   * finite[0] (I32) = 1 if norm and loss are finite, else 0.
   */
  clipFactor(
    norm: View,
    factor: View,
    finite: View,
    squares: View,
    loss: View,
    sizes: { maxNorm: number },
  ): void;
  /**
   * AdamW on FP32 parameters with moments in BF16 or FP32, both alike: g = grad · factor[0]; m, v updated and stored (in
   * BF16 to nearest even), the update computed from the unrounded ones. Does nothing where finite[0] is 0.
   * rates [3]: what changes from update to update t: learning rate, 1 / (1 − β₁ᵗ), 1 / (1 − β₂ᵗ).
   */
  adamw(
    parameter: View,
    gradient: View,
    m: View,
    v: View,
    factor: View,
    finite: View,
    rates: View,
    sizes: AdamWSizes,
  ): void;
}
