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
}

/** Expert routing. */
export interface RoutingKernels {
  /** out = 1 / (1 + exp(−x)). */
  sigmoid(out: View, x: View): void;
  /** dx = dy · y · (1 − y). */
  sigmoidBackward(dx: View, dy: View, y: View): void;
  /**
   * indices [T, K] I32: the K experts of highest scores + bias inside the `groupsKept` groups whose two best sum
   * highest (§2.1.2; with one expert a group, its one). Groups outside are masked to −∞. In descending order, ties to
   * the lower index. bias [E] may be null.
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
   * Sequence-wise balance loss (§2.1.2, eq. 17–20): loss[0] += factor · Σ_sequences Σᵢ fᵢPᵢ, and with `dscores` [T, E]
   * its gradient is added there. fᵢ = E / (K · length) · (how often i is in `indices`, the top-K of unbiased scores),
   * Pᵢ = mean over the sequence of sᵢ / Σⱼ sⱼ.
   */
  balanceLoss(
    loss: View,
    dscores: View | null,
    scores: View,
    indices: View,
    sizes: BalanceLossSizes,
  ): void;
  /**
   * Sorts the T·K slots (token t, choice j: slot t·K + j) by expert, stable: counts [E], offsets [E + 1],
   * slotOfRow [R] and its inverse rowOfSlot [R]. All I32.
   */
  route(
    counts: View,
    offsets: View,
    slotOfRow: View,
    rowOfSlot: View,
    indices: View,
    sizes: RouteSizes,
  ): void;
  /** out [R, cols] = x [T, cols] at row ⌊slotOfRow / k⌋. Any type, bit for bit. */
  permute(
    out: View,
    x: View,
    slotOfRow: View,
    sizes: { rows: number; k: number; cols: number },
  ): void;
  /**
   * out [T, cols] = Σⱼ weights[t, j] · y[rowOfSlot[t·K + j]], j ascending; plain sums without weights.
   * With `accumulate`, the sum is added to out.
   */
  unpermute(
    out: View,
    y: View,
    rowOfSlot: View,
    weights: View | null,
    sizes: { tokens: number; k: number; cols: number; accumulate?: boolean },
  ): void;
  /** Gradients of the weighted `unpermute`: dy [R, cols] and dweights [T, K], both replaced. */
  unpermuteBackward(
    dy: View,
    dweights: View,
    dout: View,
    y: View,
    weights: View,
    rowOfSlot: View,
    sizes: { tokens: number; k: number; cols: number },
  ): void;
  /** bias[e] += speed · sign(mean(counts) − counts[e]) (loss-free balancing, §2.1.2). */
  updateRouterBias(bias: View, counts: View, sizes: { experts: number; speed: number }): void;
}
