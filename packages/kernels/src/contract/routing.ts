// Routing of tokens to experts: gate, top-k, balance, permutation.
// What holds for all kernels stands in kernels.ts.
import type { View } from '../storage';

/** Sizes of `topK`. */
export interface TopKSizes {
  /** Rows. */
  tokens: number;
  /** Columns. */
  experts: number;
  /** Experts chosen a token. */
  k: number;
  /** Groups (nodes) the experts divide into, each of neighbours; 1 for none. */
  groups: number;
  /** Groups kept a token. */
  groupsKept: number;
  /** How many of a group's best make its score (default 2); all of them where it has fewer. */
  groupBest?: number;
}

/** Sizes of the gate's weights. */
export interface GateSizes {
  /** Rows. */
  tokens: number;
  /** Columns of the scores. */
  experts: number;
  /** Experts a token. */
  k: number;
  /** Factor on the weights. */
  scaling: number;
  /** Divide by the sum over the chosen. */
  normalize: boolean;
}

/** Sizes of `balanceLoss`. */
export interface BalanceLossSizes {
  /** Sequences. */
  sequences: number;
  /** Tokens of each sequence. */
  sequenceLength: number;
  /** Experts. */
  experts: number;
  /** Experts a token. */
  k: number;
  /** α / sequences of the whole batch: what each sequence's Σ fᵢPᵢ is multiplied by. */
  factor: number;
}

/** Sizes of a routing. */
export interface RouteSizes {
  /** T. */
  tokens: number;
  /** K. */
  k: number;
  /** E. */
  experts: number;
  /** A: every expert's rows begin at a multiple of it, and are filled up to one (default 1). */
  alignment?: number;
}

/** Sizes of `permute`. */
export interface PermuteSizes {
  /** R. */
  rows: number;
  /** K. */
  k: number;
  /** Width of a row. */
  cols: number;
  /** T (default: rows / k). Given where rows include padding. */
  tokens?: number;
}

/** Sizes of `unpermute` and its gradients. */
export interface UnpermuteSizes {
  /** T. */
  tokens: number;
  /** K. */
  k: number;
  /** Width of a row. */
  cols: number;
  /** R (default: tokens · k). Given where rows include padding. */
  rows?: number;
}

/** Sizes of `updateRouterBias`. */
export interface BiasUpdateSizes {
  /** Experts. */
  experts: number;
  /** γ. */
  speed: number;
  /** Steps are as large as the gap (default: as its sign). */
  proportional?: boolean;
  /** Share of the average that stays (default 0). */
  decay?: number;
}

/** Expert routing. */
export interface RoutingKernels {
  /** out = 1 / (1 + exp(−x)). */
  sigmoid(out: View, x: View): void;
  /** dx = dy · y · (1 − y). */
  sigmoidBackward(dx: View, dy: View, y: View): void;
  /** out [rows, cols] = exp(x − m) / Σ exp(x − m) a row, m its largest; a row with a NaN or without finite m is NaN. */
  softmax(out: View, x: View, sizes: { rows: number; cols: number }): void;
  /** dx = y · (dy − Σ dy · y), row by row. */
  softmaxBackward(dx: View, dy: View, y: View, sizes: { rows: number; cols: number }): void;
  /**
   * indices [T, K] I32: the K experts of highest scores + bias inside the `groupsKept` groups whose `groupBest` best sum
   * highest (§2.1.2). Experts of groups outside come after all others, also after those at −∞; a NaN counts as −∞. In
   * descending order, ties to the lower index. bias [E] may be null.
   */
  topK(indices: View, scores: View, bias: View | null, sizes: TopKSizes): void;
  /** weights [T, K] = scaling · sᵢ / (Σ chosen s + 1e-20) from the scores without bias (or scaling · sᵢ). */
  gateWeights(weights: View, scores: View, indices: View, sizes: GateSizes): void;
  /** dscores [T, E] += gradient of `gateWeights`. */
  gateWeightsBackward(
    dscores: View,
    dweights: View,
    scores: View,
    indices: View,
    sizes: GateSizes,
  ): void;
  /**
   * Balance loss (§2.1.2, eq. 17–20): loss[0] += factor · Σ_sequences Σᵢ fᵢPᵢ, and with `dscores` [T, E] its gradient is
   * added there, f being a constant to it. fᵢ = E / (K · length) · (how often i is in `indices`, the top-K of unbiased
   * scores), Pᵢ = mean over the sequence of sᵢ / Σⱼ sⱼ. With `counts` [E] I32 in place of the indices, fᵢ = E · counts[i] /
   * Σ counts in every sequence: those of a whole batch, of which this call sees a part.
   */
  balanceLoss(
    loss: View,
    dscores: View | null,
    scores: View,
    indices: View | null,
    counts: View | null,
    sizes: BalanceLossSizes,
  ): void;
  /**
   * Sorts the T·K slots (token t, choice j: slot t·K + j) by expert, stable: counts [E], offsets [E + 1],
   * slotOfRow [R] and its inverse rowOfSlot [T·K]. All I32. With an `alignment` A, R = `alignedRows(T·K, E, A)`, offsets
   * are multiples of A, and rows that no slot has, also those behind offsets[E], hold −1.
   */
  route(
    counts: View,
    offsets: View,
    slotOfRow: View,
    rowOfSlot: View,
    indices: View,
    sizes: RouteSizes,
  ): void;
  /** out [R, cols] = x [T, cols] at row ⌊slotOfRow / k⌋, zeros where that is −1. Any type, bit for bit. */
  permute(out: View, x: View, slotOfRow: View, sizes: PermuteSizes): void;
  /**
   * out [T, cols] = Σⱼ weights[t, j] · y[rowOfSlot[t·K + j]], j ascending; plain sums without weights.
   * With `accumulate`, the sum is added to out.
   */
  unpermute(
    out: View,
    y: View,
    rowOfSlot: View,
    weights: View | null,
    sizes: UnpermuteSizes & { accumulate?: boolean },
  ): void;
  /** Gradients of the weighted `unpermute`: dy [R, cols], zeros in padding, and dweights [T, K], both replaced. */
  unpermuteBackward(
    dy: View,
    dweights: View,
    dout: View,
    y: View,
    weights: View,
    rowOfSlot: View,
    sizes: UnpermuteSizes,
  ): void;
  /**
   * Loss-free balancing (§2.1.2; arXiv 2408.15664, §3): bias[e] += speed · sign(gap), or speed · gap where `proportional`.
   * The gap is 1 − counts[e] / mean(counts). With `average` [E], which is replaced by decay · average + (1 − decay) ·
   * counts / mean first, it is 1 − average[e]. Without any counts nothing changes.
   */
  updateRouterBias(bias: View, counts: View, average: View | null, sizes: BiasUpdateSizes): void;
}
