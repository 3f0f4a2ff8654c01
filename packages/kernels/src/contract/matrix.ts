// Matrix products: one matrix, or one an expert, in FP32, BF16 and scaled FP8.
// What holds for all kernels stands in kernels.ts.
import type { Operand, View } from '../storage';
import type { SummationSizes } from '../summation';

/** Sizes of `gemm`: c [m, n] = op(a) [m, k] · op(b) [k, n]. */
export interface GemmSizes extends SummationSizes {
  /** Rows of c. */
  m: number;
  /** Columns of c. */
  n: number;
  /** Length of the sums. */
  k: number;
  /** a is stored as [k, m]. */
  transA?: boolean;
  /** b is stored as [n, k]. */
  transB?: boolean;
  /** Add to c instead of replacing it. */
  accumulate?: boolean;
}

/** Sizes of `groupedGemm`. */
export interface GroupedGemmSizes extends SummationSizes {
  /** Number of groups (experts). */
  groups: number;
  /** Rows of a and c over all groups; `offsets[groups]` equals it. */
  rows: number;
  /** Columns of c. */
  n: number;
  /** Length of the sums. */
  k: number;
  /** b is stored as [groups, n, k] instead of [groups, k, n]. */
  transB?: boolean;
  /** Add to c instead of replacing it. */
  accumulate?: boolean;
}

/** Sizes of `groupedGemmWeight`. */
export interface GroupedGemmWeightSizes extends SummationSizes {
  /** Number of groups (experts). */
  groups: number;
  /** Rows of a and b over all groups. */
  rows: number;
  /** Columns of a: rows of each c. */
  m: number;
  /** Columns of b: columns of each c. */
  n: number;
  /** Add to c instead of replacing it. Without it an empty group's c becomes zero. */
  accumulate?: boolean;
}

/** Matrix products. */
export interface MatrixKernels {
  /**
   * c = op(a) · op(b), c FP32. a and b are both FP32, both BF16 or both scaled FP8, each E4M3 or E5M2.
   *
   * BF16 and FP8 have one exact result: k is cut into blocks of 128; inside a block products are added to a zeroed
   * FP32 accumulator one by one in ascending k, each addition rounded; then `sum = fl(sum + fl(acc · s))` over blocks
   * in ascending order from sum = 0, with s = fl(scaleA · scaleB) for FP8 and no multiplication for BF16. With
   * `accumulate`, c = fl(c + sum). Subnormal accumulators may be flushed.
   * FP8 scale blocks span 128 along k in both operands, and 1 or 128 across.
   *
   * FP8 products may be summed another way (`SummationSizes`): partial sums end every `promotion` products as well as
   * where a scale does, counted from k = 0; and instead of one by one a tensor core adds them up, 32 at a time from the
   * start of each partial sum (reference/tensor-core.ts). That result is exact as well.
   */
  gemm(c: View, a: Operand, b: Operand, sizes: GemmSizes): void;
  /**
   * Rows offsets[g] … offsets[g+1] of c [rows, n] = the same rows of a [rows, k] · op(b[g]), for every group.
   * b is stacked [groups, …]; scales of a stacked FP8 b are stacked likewise. Empty groups are fine. FP8 blocks of a
   * that are 128 rows high start anew at every group's first row (see `QuantizeSizes.offsets`).
   */
  groupedGemm(c: View, a: Operand, b: Operand, offsets: View, sizes: GroupedGemmSizes): void;
  /**
   * c[g] [m, n] = a[rows of g]ᵀ · b[rows of g], stacked [groups, m, n]: the weight gradients of experts. Sums run over
   * the group's rows in blocks of 128 that start at the group's first row. FP8 operands are 128×1 or 128×128 with
   * grouped scale rows (see `QuantizeSizes.offsets`).
   */
  groupedGemmWeight(
    c: View,
    a: Operand,
    b: Operand,
    offsets: View,
    sizes: GroupedGemmWeightSizes,
  ): void;
}
