// The two ends of a model: embedding, and output head with loss.
// What holds for all kernels stands in kernels.ts.
import type { View } from '../storage';

/** Sizes of `linearCrossEntropy`. */
export interface CrossEntropySizes {
  /** Rows (positions). */
  rows: number;
  /** Width of x. */
  hidden: number;
  /** Vocabulary. */
  vocab: number;
  /** Gets the token of each row's largest logit, the first of equals, with a target or without [rows] I32. */
  likeliest?: View;
}

/** Embedding and loss. */
export interface LossKernels {
  /** out [rows, cols] = weight [vocab, cols] at ids. */
  embedding(out: View, weight: View, ids: View, sizes: { rows: number; cols: number }): void;
  /** dweight[id] += Σ dout rows of that id (summed first, in ascending row order). */
  embeddingBackward(
    dweight: View,
    dout: View,
    ids: View,
    sizes: { rows: number; cols: number; vocab: number },
  ): void;
  /**
   * Output head and softmax-cross-entropy in one, a chunk of rows at a time, so that [rows, vocab] never exists.
   * loss [rows] = −log softmax(x · weightᵀ)[target]; 0 where target is −1. x and weight are both FP32 or both BF16.
   * With `gradient`: dx [rows, hidden] FP32 = rowScale · ∂loss/∂x, and dweight [vocab, hidden] FP32 += likewise
   * (rounded to BF16 before its products when x is BF16; all rows summed first).
   */
  linearCrossEntropy(
    loss: View,
    x: View,
    weight: View,
    targets: View,
    sizes: CrossEntropySizes,
    gradient?: { rowScale: View; dx: View; dweight: View },
  ): void;
}
