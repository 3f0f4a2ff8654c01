// The contract of dense compute: every kernel that training needs, with its shapes and its arithmetic.
// Three implementations stand behind it: `reference` (readable TypeScript), `native` (C++ SIMD) and `null` (shapes only).
//
// Legend of sizes: m, n, k of a product; T tokens (rows); E experts; K experts a token; R = T·K routed rows;
// H hidden width; V vocabulary. All matrices are row-major and contiguous unless strides are given.
//
// Rules that hold for all of them:
// - Outputs come first, sizes last. `accumulate` adds the finished result to what the output holds (one addition
//   an element), so that two contributions give the same bits in either order.
// - A row's result never depends on how many rows are beside it, nor any result on the number of threads.
// - FP32 memory, FP32 accumulation. Matrix products of BF16 or FP8 operands have one exact definition (see `gemm`)
//   and are bit-identical everywhere, as are casts, (de)quantisation, permutation and top-k.
import type { Operand, ScaledView, Storage, View } from './storage';

/** Sizes of `gemm`: c [m, n] = op(a) [m, k] · op(b) [k, n]. */
export interface GemmSizes {
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
export interface GroupedGemmSizes {
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
export interface GroupedGemmWeightSizes {
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

/** How blocks are quantised. */
export interface QuantizeSizes {
  /** Rows of the matrix. */
  rows: number;
  /** Columns of the matrix. */
  cols: number;
  /** Round scales up to powers of two. */
  powerOfTwo?: boolean;
  /**
   * Row groups [groups + 1]: blocks of 128 rows start anew at every group's first row (128×1 only). Group g's scale
   * rows then follow those of the groups before it: g's first is Σ_{h<g} ⌈rows of h / 128⌉.
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

/** Sizes of `attention`. */
export interface AttentionSizes {
  /** Sequences. */
  batch: number;
  /** Query rows of each sequence. */
  queries: number;
  /** Key rows of each sequence, at least `queries`. Query i sees keys 0 … keys − queries + i. */
  keys: number;
  /** Heads. */
  heads: number;
  /** Width of queries and keys. */
  queryWidth: number;
  /** Width of values and output. */
  valueWidth: number;
  /** Factor on the scores before the softmax. */
  scale: number;
}

/** Sizes of `linearCrossEntropy`. */
export interface CrossEntropySizes {
  /** Rows (positions). */
  rows: number;
  /** Width of x. */
  hidden: number;
  /** Vocabulary. */
  vocab: number;
}

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

/** Kernel calls that were made once, with all their arguments. */
export interface Recording {
  /** Makes them again, in order, on the same memory. */
  replay(): void;
}

/** Dense compute. Calls enqueue work on the views given; `flush` waits for it. */
export interface Kernels {
  /** Which implementation this is. */
  readonly implementation: 'reference' | 'native' | 'null';
  /** Instruction set in use (`avx512bf16`, `avx512`, `avx2`, `baseline`), `javascript` or `none`. */
  readonly isa: string;
  /** Threads the pool uses now. */
  readonly threads: number;
  /** Makes zeroed storage. */
  createStorage(byteLength: number): Storage;
  /** Waits until everything enqueued has run. */
  flush(): void;
  /**
   * Runs `body` and keeps the kernel calls it makes, with the memory they name, so that they can be made again without
   * the program that made them. Only where calls have a cost worth saving; recordings do not nest.
   */
  record?: ((body: () => void) => Recording) | undefined;

  // — memory —
  /** out = value, everywhere. */
  fill(out: View, value: number): void;
  /** out = x, same type and size, bit for bit. */
  copy(out: View, x: View): void;
  /** out = x between FP32 and BF16, to nearest even. */
  cast(out: View, x: View): void;
  /** Copies (or adds) a strided matrix. FP32 or BF16 input, FP32 or BF16 output (cast to nearest even). */
  copyStrided(out: View, x: View, sizes: CopyStridedSizes): void;
  /** out = a + b, FP32 or both I32; out may be a or b. */
  add(out: View, a: View, b: View): void;
  /** out = factor · x, FP32; out may be x. */
  scale(out: View, x: View, factor: number): void;

  // — matrix products —
  /**
   * c = op(a) · op(b), c FP32. a and b are both FP32, both BF16 or both scaled FP8.
   *
   * BF16 and FP8 have one exact result: k is cut into blocks of 128; inside a block products are added to a zeroed
   * FP32 accumulator one by one in ascending k, each addition rounded; then `sum = fl(sum + fl(acc · s))` over blocks
   * in ascending order from sum = 0, with s = fl(scaleA · scaleB) for FP8 and no multiplication for BF16. With
   * `accumulate`, c = fl(c + sum). Subnormal accumulators may be flushed.
   * FP8 scale blocks span 128 along k in both operands, and 1 or 128 across.
   */
  gemm(c: View, a: Operand, b: Operand, sizes: GemmSizes): void;
  /**
   * Rows offsets[g] … offsets[g+1] of c [rows, n] = the same rows of a [rows, k] · op(b[g]), for every group.
   * b is stacked [groups, …]; scales of a stacked FP8 b are stacked likewise. Empty groups are fine.
   */
  groupedGemm(c: View, a: Operand, b: Operand, offsets: View, sizes: GroupedGemmSizes): void;
  /**
   * c[g] [m, n] = a[rows of g]ᵀ · b[rows of g], stacked [groups, m, n]: the weight gradients of experts. Sums run over
   * the group's rows in blocks of 128 that start at the group's first row. FP8 operands are 128×1 with grouped scale
   * rows (see `QuantizeSizes.offsets`).
   */
  groupedGemmWeight(
    c: View,
    a: Operand,
    b: Operand,
    offsets: View,
    sizes: GroupedGemmWeightSizes,
  ): void;

  // — FP8 —
  /**
   * Quantises FP32 x block by block: scale = fl(max(amax, 1e-4) / 448) (rounded up to a power of two on request), code =
   * nearest-even E4M3 of fl(x / scale), saturated at ±448. NaN gives NaN codes. Blocks as `out` says.
   */
  quantize(out: ScaledView, x: View, sizes: QuantizeSizes): void;
  /**
   * `quantize` into rowwise (1×128) and columnwise (128×1) in one reading of x, to the bit as two calls would: what the
   * two products of a gradient need. Row groups in `sizes` concern columnwise alone.
   */
  quantizeBoth(rowwise: ScaledView, columnwise: ScaledView, x: View, sizes: QuantizeSizes): void;
  /** Decodes x to FP32, fl(value · scale) each, and quantises that into `out`: 1×128 → 128×1 for weight gradients. */
  requantize(out: ScaledView, x: ScaledView, sizes: QuantizeSizes): void;
  /** out [rows, cols] = fl(value · scale), FP32, or rounded on to BF16. */
  dequantize(out: View, x: ScaledView, sizes: { rows: number; cols: number }): void;

  // — normalisation, activation, rotary embedding —
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

  // — attention —
  /**
   * Causal attention. q [batch, queries, heads, queryWidth], k [batch, keys, heads, queryWidth],
   * v [batch, keys, heads, valueWidth], out [batch, queries, heads, valueWidth] FP32,
   * lse [batch, heads, queries] FP32 = log Σ exp(scale · q·k). q, k, v are all FP32 or all BF16 (then probabilities are
   * rounded to BF16 before they meet v).
   */
  attention(out: View, lse: View, q: View, k: View, v: View, sizes: AttentionSizes): void;
  /** Gradients of `attention`, all FP32 and replaced. With BF16 q, k, v the inner products take BF16 operands. */
  attentionBackward(
    dq: View,
    dk: View,
    dv: View,
    dout: View,
    q: View,
    k: View,
    v: View,
    out: View,
    lse: View,
    sizes: AttentionSizes,
  ): void;

  // — embedding and loss —
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

  // — routing —
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

  // — optimizer and reductions —
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
   * AdamW on FP32 parameters with BF16 moments (nearest even): g = grad · factor[0]; m, v updated and stored in BF16,
   * the update computed from the unrounded ones. Does nothing where finite[0] is 0.
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
