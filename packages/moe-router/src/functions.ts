// Routing on typed arrays, for use without tensors.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import { checkLength, checkOneOf, checkPlaces, checkRouting, checkWhole } from './checks';
import { backThroughGate, type Gate, gates, scoreLogits } from './gate';

/** How tokens choose experts by their scores. */
export interface ChoiceOptions {
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
  /** How many of a group's best make its score (default 2, which is V3's K_r / M; 1 in V2). */
  groupBest?: number;
}

/** How tokens choose experts, and what their gates weigh. */
export interface RoutingSizes extends ChoiceOptions {
  /** How logits become scores: V3's sigmoid (default) or V2's softmax. */
  gate?: Gate;
  /** Factor on the gate weights (default 1). */
  scaling?: number;
  /** Divide gate weights by their sum (default true). */
  normalize?: boolean;
}

/**
 * Chooses experts by scores that are there already: the choice of {@link routeTokens} alone.
 * @param scores - affinities without bias [tokens × experts]
 * @param sizes - see {@link ChoiceOptions}
 * @param options - the bias [experts] (default none), kernels, and where the result goes
 * @returns [tokens × expertsPerToken], best first, ties to the lower expert
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes and lengths do not agree
 */
export function chooseExperts(
  scores: Float32Array,
  sizes: ChoiceOptions,
  options: { bias?: Float32Array; kernels?: Kernels; out?: Int32Array } = {},
): Int32Array {
  const { tokens, experts, expertsPerToken: k, groups = 1 } = sizes;
  const { groupsPerToken = groups, groupBest = 2 } = sizes;
  checkWhole({ tokens }, 0);
  checkWhole({ experts, expertsPerToken: k, groups, groupsPerToken, groupBest }, 1);
  checkRouting({ experts, expertsPerToken: k, groups, groupsPerToken });
  checkLength('scores', scores, { tokens, experts });
  if (options.bias) checkLength('bias', options.bias, { experts });
  const out = options.out ?? new Int32Array(tokens * k);
  checkLength('out', out, { tokens, expertsPerToken: k });
  (options.kernels ?? loadKernels()).topK(
    viewOf(out),
    viewOf(scores),
    options.bias ? viewOf(options.bias) : null,
    { tokens, experts, k, groups, groupsKept: groupsPerToken, groupBest },
  );
  return out;
}

/** A routing as arrays. */
export interface TokenRouting {
  /** [tokens × expertsPerToken], best first. */
  indices: Int32Array;
  /** Gate weights in the same order. */
  weights: Float32Array;
  /** Affinities [tokens × experts], without bias. */
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
 * Routes tokens as V3 does: s = σ(logits), or their softmax; the groups whose two best s + bias sum highest are kept; the
 * best s + bias in them are chosen, ties to the lower expert; gate weights come from s alone. All in FP32.
 * @param logits - [tokens × experts]
 * @param sizes - see {@link RoutingSizes}
 * @param options - the bias [experts] (default none), kernels, and where the result goes
 * @returns the routing
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes and lengths do not agree
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
  const { tokens, experts, expertsPerToken: k, gate = 'sigmoid' } = sizes;
  const { scaling = 1, normalize = true } = sizes;
  checkWhole({ tokens }, 0);
  checkWhole({ experts, expertsPerToken: k }, 1);
  checkOneOf('gate', gate, gates);
  checkLength('logits', logits, { tokens, experts });
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
  checkLength('out.scores', out.scores, { tokens, experts });
  scoreLogits(kernels, gate, scores, viewOf(logits), { rows: tokens, cols: experts });
  const { bias } = options;
  chooseExperts(out.scores, sizes, { kernels, out: out.indices, ...(bias && { bias }) });
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

/** Gradients of {@link routeTokens}. */
export interface RoutingGradients {
  /** Of the logits [tokens × experts]. */
  dlogits: Float32Array;
  /** Of the affinities [tokens × experts], on the way to the logits'. */
  dscores: Float32Array;
}

/**
 * Gradients of {@link routeTokens}: through the gate weights and the gate to the logits. The choice and the bias have
 * none.
 * @param dweights - gradient of the gate weights [tokens × expertsPerToken], from `unpermuteTokensBackward`
 * @param routing - what `routeTokens` returned
 * @param sizes - the same
 * @param options - a further gradient of the scores, such as the balance loss's [tokens × experts] (default none);
 *   kernels; and where the gradients go
 * @returns gradients of logits and scores
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes, lengths and indices do not agree
 */
export function routeTokensBackward(
  dweights: Float32Array,
  routing: Pick<TokenRouting, 'scores' | 'indices'>,
  sizes: RoutingSizes,
  options: { dscores?: Float32Array; kernels?: Kernels; out?: RoutingGradients } = {},
): RoutingGradients {
  const kernels = options.kernels ?? loadKernels();
  const { tokens, experts, expertsPerToken, scaling = 1, normalize = true } = sizes;
  const { gate = 'sigmoid' } = sizes;
  checkWhole({ tokens }, 0);
  checkWhole({ experts, expertsPerToken }, 1);
  const [perExpert, perSlot] = [
    { tokens, experts },
    { tokens, expertsPerToken },
  ];
  checkLength('dweights', dweights, perSlot);
  checkLength('scores', routing.scores, perExpert);
  checkLength('indices', routing.indices, perSlot);
  checkPlaces('indices', routing.indices, experts);
  if (options.dscores) checkLength('dscores', options.dscores, perExpert);
  const out = options.out ?? {
    dlogits: new Float32Array(tokens * experts),
    dscores: new Float32Array(tokens * experts),
  };
  checkLength('out.dlogits', out.dlogits, perExpert);
  checkLength('out.dscores', out.dscores, perExpert);
  const [scores, dscores] = [viewOf(routing.scores), viewOf(out.dscores)];
  // The kernel adds to the scores' gradient; the caller's may already stand where it goes.
  if (!options.dscores) kernels.fill(dscores, 0);
  else if (options.dscores !== out.dscores) kernels.copy(dscores, viewOf(options.dscores));
  kernels.gateWeightsBackward(dscores, viewOf(dweights), scores, viewOf(routing.indices), {
    tokens,
    experts,
    k: expertsPerToken,
    scaling,
    normalize,
  });
  backThroughGate(kernels, gate, viewOf(out.dlogits), dscores, scores, {
    rows: tokens,
    cols: experts,
  });
  return out;
}
