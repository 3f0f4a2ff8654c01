// Routing on typed arrays, for use without tensors.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

/** How tokens choose experts. */
export interface RoutingSizes {
  /** Tokens. */
  tokens: number;
  /** Experts. */
  experts: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
  /** Groups of neighbouring experts (default 1). */
  groups?: number;
  /** Groups a token may reach (default: all). */
  groupsPerToken?: number;
  /** Factor on the gate weights (default 1). */
  scaling?: number;
  /** Divide gate weights by their sum (default true). */
  normalize?: boolean;
}

/** A routing as arrays. */
export interface TokenRouting {
  /** [tokens × expertsPerToken], best first. */
  indices: Int32Array;
  /** Gate weights in the same order. */
  weights: Float32Array;
  /** Sigmoid affinities [tokens × experts]. */
  scores: Float32Array;
  /** Tokens each expert got. */
  counts: Int32Array;
  /** First row of each expert when rows are sorted by expert, and their number. */
  offsets: Int32Array;
  /** Slot (token × expertsPerToken + choice) in each of those rows. */
  slotOfRow: Int32Array;
  /** Row of each slot. */
  rowOfSlot: Int32Array;
}

/**
 * Routes tokens as V3 does: s = σ(logits); the groups whose two best s + bias sum highest are kept; the best s + bias in
 * them are chosen; gate weights come from s alone.
 * @param logits - [tokens × experts]
 * @param sizes - see {@link RoutingSizes}
 * @param options - the bias [experts] (default none), kernels, and where the result goes
 * @returns the routing
 *
 * @example
 * ```ts
 * import { routeTokens } from '@baleen/moe-router';
 * const logits = new Float32Array([0, 2, 1, -1]);
 * const { indices, counts } = routeTokens(logits, { tokens: 1, experts: 4, expertsPerToken: 2 });
 * console.log([...indices].join(' '), '|', [...counts].join(' ')); // => 1 2 | 0 1 1 0
 * ```
 */
export function routeTokens(
  logits: Float32Array,
  sizes: RoutingSizes,
  options: { bias?: Float32Array; kernels?: Kernels; out?: TokenRouting } = {},
): TokenRouting {
  const kernels = options.kernels ?? loadKernels();
  const { tokens, experts, expertsPerToken: k, groups = 1 } = sizes;
  const { groupsPerToken = groups, scaling = 1, normalize = true } = sizes;
  checkRouting({ experts, expertsPerToken: k, groups, groupsPerToken });
  const out = options.out ?? {
    indices: new Int32Array(tokens * k),
    weights: new Float32Array(tokens * k),
    scores: new Float32Array(tokens * experts),
    counts: new Int32Array(experts),
    offsets: new Int32Array(experts + 1),
    slotOfRow: new Int32Array(tokens * k),
    rowOfSlot: new Int32Array(tokens * k),
  };
  const [scores, indices] = [viewOf(out.scores), viewOf(out.indices)];
  kernels.sigmoid(scores, viewOf(logits));
  kernels.topK(indices, scores, options.bias ? viewOf(options.bias) : null, {
    tokens,
    experts,
    k,
    groups,
    groupsKept: groupsPerToken,
  });
  kernels.gateWeights(viewOf(out.weights), scores, indices, {
    tokens,
    experts,
    k,
    scaling,
    normalize,
  });
  kernels.route(
    viewOf(out.counts),
    viewOf(out.offsets),
    viewOf(out.slotOfRow),
    viewOf(out.rowOfSlot),
    indices,
    { tokens, k, experts },
  );
  return out;
}

/**
 * One step of loss-free balancing: bias += speed · sign(mean count − count).
 * @param bias - [experts], changed in place
 * @param counts - tokens each expert got over the whole batch
 * @param speed - γ
 * @returns the bias
 */
export function updateBias(
  bias: Float32Array,
  counts: Int32Array,
  speed: number,
  options: { kernels?: Kernels } = {},
): Float32Array {
  (options.kernels ?? loadKernels()).updateRouterBias(viewOf(bias), viewOf(counts), {
    experts: bias.length,
    speed,
  });
  return bias;
}

/**
 * How far the busiest expert is above the mean: (max − mean) / mean (arXiv 2408.15664, §4.1).
 * @param counts - tokens each expert got
 * @returns 0 for perfect balance
 */
export function maxViolation(counts: ArrayLike<number>): number {
  let total = 0;
  let top = 0;
  for (const count of Array.from(counts)) {
    total += count;
    top = Math.max(top, count);
  }
  const mean = total / counts.length;
  return mean === 0 ? 0 : (top - mean) / mean;
}

/** Refuses routings that cannot be. */
function checkRouting(sizes: {
  experts: number;
  expertsPerToken: number;
  groups: number;
  groupsPerToken: number;
}): void {
  const { experts, expertsPerToken, groups, groupsPerToken } = sizes;
  const refuse = (path: string, message: string, hint: string): never => {
    throw Object.assign(new Error(message), { code: 'ERR_BALEEN_ROUTER_SIZES', path, hint });
  };
  if (experts % groups !== 0)
    refuse('groups', `groups (${groups}) does not divide experts (${experts})`, 'choose a divisor');
  if (groupsPerToken > groups || groupsPerToken < 1)
    refuse(
      'groupsPerToken',
      `groupsPerToken (${groupsPerToken}) is not in 1 … ${groups}`,
      'keep at most all groups',
    );
  const reachable = (experts / groups) * groupsPerToken;
  if (expertsPerToken > reachable || expertsPerToken < 1)
    refuse(
      'expertsPerToken',
      `expertsPerToken (${expertsPerToken}) is not in 1 … ${reachable}, the experts a token can reach`,
      'lower it or keep more groups',
    );
}
