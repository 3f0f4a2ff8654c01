// Memory: filling, copying, casting, adding.
// What holds for all kernels stands in kernels.ts.
import type { View } from '../storage';

/** Sizes of a copy between strided matrices, counted in elements. */
export interface CopyStridedSizes {
  /** Rows copied. */
  rows: number;
  /** Columns copied. */
  cols: number;
  /** Elements between rows of the output. */
  outStride: number;
  /** First element of the output. */
  outOffset?: number;
  /** Elements between rows of the input; 0 repeats one row. */
  xStride: number;
  /** First element of the input. */
  xOffset?: number;
  /** Add instead of replacing (FP32 only). */
  accumulate?: boolean;
}

/** How a copy is made. */
export interface CopySizes {
  /**
   * Write past the caches: for memory that nobody reads before they have held much else. It spares what is in them, and
   * reading what is written over. The result is the same.
   */
  past?: boolean;
}

/** Kernels that fill, move and add values. */
export interface MemoryKernels {
  /** out = value, everywhere. */
  fill(out: View, value: number): void;
  /** out = x, same type and size, bit for bit. */
  copy(out: View, x: View, sizes?: CopySizes): void;
  /** out = x between FP32 and BF16, to nearest even. */
  cast(out: View, x: View): void;
  /** Copies (or adds) a strided matrix. FP32 or BF16 input, FP32 or BF16 output (cast to nearest even). */
  copyStrided(out: View, x: View, sizes: CopyStridedSizes): void;
  /** out = a + b, FP32 or both I32; out may be a or b. */
  add(out: View, a: View, b: View): void;
  /** out = factor · x, FP32; out may be x. */
  scale(out: View, x: View, factor: number): void;
}
