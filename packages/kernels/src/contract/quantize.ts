// FP8: values to codes and scales, and back.
// What holds for all kernels stands in kernels.ts.
import type { ScaledView, View } from '../storage';

/** How blocks are quantised. */
export interface QuantizeSizes {
  /** Rows of the matrix. */
  rows: number;
  /** Columns of the matrix. */
  cols: number;
  /** Round scales up to powers of two. */
  powerOfTwo?: boolean;
  /**
   * Row groups [groups + 1]: blocks of 128 rows (128×1 or 128×128, no others) start anew at every group's first row.
   * Group g's scale rows then follow those of the groups before it: g's first is Σ_{h<g} ⌈rows of h / 128⌉.
   */
  offsets?: View;
  /** Number of groups in `offsets`. */
  groups?: number;
  /**
   * Matrices of `rows` rows on top of each other (default 1): blocks start anew at each. Not with `offsets`,
   * and not for `requantize` and `quantizeBoth`.
   */
  stack?: number;
}

/** Sizes of the kernels that quantise what they compute. */
export interface FusedQuantizeSizes {
  /** Rows of the matrix. */
  rows: number;
  /** Columns of the matrix. */
  cols: number;
  /** Round scales up to powers of two. */
  powerOfTwo?: boolean;
}

/** FP8 quantisation. */
export interface QuantizeKernels {
  /**
   * Quantises FP32 x block by block: scale = fl(max(amax, 1e-4) / L) (rounded up to a power of two on request), code =
   * nearest-even of fl(x / scale), saturated at ±L, the format's largest value: 448 of E4M3, 57344 of E5M2, 65024 of E5M6
   * (in tiles of 1×128 alone). Format and blocks as `out` says. NaN gives NaN codes and does not count for amax; an
   * infinity does: its block's scale is infinite, its own code NaN, and all others are zeros, which decode to NaN.
   */
  quantize(out: ScaledView, x: View, sizes: QuantizeSizes): void;
  /**
   * `quantize` into rowwise (1×128) and columnwise (128×1), in one format, in one reading of x, to the bit as two calls
   * would: what the two products of a gradient need. Row groups in `sizes` concern columnwise alone.
   */
  quantizeBoth(rowwise: ScaledView, columnwise: ScaledView, x: View, sizes: QuantizeSizes): void;
  /**
   * Decodes x to FP32, fl(value · scale) each, and quantises that into `out`, in the same FP8 format or the other: 1×128 →
   * 128×1 for weight gradients.
   */
  requantize(out: ScaledView, x: ScaledView, sizes: QuantizeSizes): void;
  /** out [rows, cols] = fl(value · scale), FP32, or rounded on to BF16; x in FP8, or in E5M6 in tiles of 1×128. */
  dequantize(out: View, x: ScaledView, sizes: { rows: number; cols: number }): void;
  /**
   * `rmsNorm` of x, and `quantize` of its y into `quantized` (1×128), to the bit as the two calls; y [rows, cols] is
   * written only if it is given.
   */
  rmsNormQuantize(
    quantized: ScaledView,
    y: View | null,
    rstd: View,
    x: View,
    weight: View,
    sizes: FusedQuantizeSizes & { epsilon: number },
  ): void;
  /** `swiglu` of gate and up [rows, cols], and `quantize` of that into `quantized` (1×128), to the bit as the two calls. */
  swigluQuantize(quantized: ScaledView, gate: View, up: View, sizes: FusedQuantizeSizes): void;
}
