// The balance loss on typed arrays (§2.1.2, eq. 17–20): over each sequence, small, against one that sends all its tokens to
// few experts; or over the batch (§4.5.3).
//
// f of a batch is known only when all of it was routed. A batch that is computed in micro-batches, or on several ranks, needs
// its counts first: a forward pass that counts, and then the losses of the parts add up to that of the whole. Adding up counts
// while the micro-batches go by would be cheaper, but the first would then be balanced by itself alone, and the loss would
// depend on how the batch is cut.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import { checkLength, checkRouting, checkWhole } from './checks';

/** Sizes of the balance loss. */
export interface BalanceSizes {
  /** Sequences. */
  sequences: number;
  /** Tokens of each. */
  sequenceLength: number;
  /** Experts. */
  experts: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
  /** What each sequence's Σᵢ fᵢPᵢ is multiplied by: α over the sequences of the whole batch (default 1 / sequences). */
  factor?: number;
}

/** The balance loss as arrays. */
export interface SequenceBalance {
  /** factor · Σ over sequences of Σᵢ fᵢPᵢ, one number; 1 for each sequence in perfect balance, times the factor. */
  loss: Float32Array;
  /** Its gradient by the scores [tokens, experts]; `routeTokensBackward` takes it on to the logits. */
  dscores: Float32Array;
  /** The experts that scores alone choose, without bias or groups: what f counts [tokens, expertsPerToken]. */
  indices: Int32Array;
}

/**
 * The sequence-wise balance loss and its gradient. In each sequence fᵢ = experts / (expertsPerToken · length) · (how often i
 * is among a token's best scores), and Pᵢ = the mean of sᵢ / Σⱼ sⱼ. f counts what scores alone would choose, not what the
 * bias made of it, and is a constant to the gradient. One sequence of all tokens is the loss over a batch.
 * @param scores - sigmoid affinities [sequences · sequenceLength, experts], sequence by sequence, as `routeTokens` returns them
 * @param sizes - see {@link BalanceSizes}
 * @param options - `counts`: how often each expert is among the best scores of a token in the whole batch, of which these
 *   are a part [experts] (default: each sequence has its own); kernels (default: `loadKernels()`); and where the result goes
 *   (replaced)
 * @returns loss, gradient and the choice of these tokens
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { sequenceBalanceLoss } from '@baleen/moe-router';
 * const scores = new Float32Array([0.75, 0.25, 0.75, 0.25]); // both tokens prefer the first expert
 * const sizes = { sequences: 1, sequenceLength: 2, experts: 2, expertsPerToken: 1 };
 * console.log(sequenceBalanceLoss(scores, sizes).loss[0]); // => 1.5
 * ```
 */
export function sequenceBalanceLoss(
  scores: Float32Array,
  sizes: BalanceSizes,
  options: { counts?: Int32Array; kernels?: Kernels; out?: SequenceBalance } = {},
): SequenceBalance {
  const { sequences, sequenceLength, experts, expertsPerToken } = sizes;
  const { factor = 1 / sequences } = sizes;
  checkWhole({ sequences, sequenceLength, experts, expertsPerToken }, 1);
  checkRouting({ experts, expertsPerToken, groups: 1, groupsPerToken: 1 });
  checkLength('scores', scores, { sequences, sequenceLength, experts });
  const { counts } = options;
  if (counts) checkLength('counts', counts, { experts });
  const tokens = sequences * sequenceLength;
  const out = options.out ?? {
    loss: new Float32Array(1),
    dscores: new Float32Array(tokens * experts),
    indices: new Int32Array(tokens * expertsPerToken),
  };
  checkLength('out.loss', out.loss, { '1': 1 });
  checkLength('out.dscores', out.dscores, { sequences, sequenceLength, experts });
  checkLength('out.indices', out.indices, { sequences, sequenceLength, expertsPerToken });
  const kernels = options.kernels ?? loadKernels();
  const [loss, dscores, indices] = [viewOf(out.loss), viewOf(out.dscores), viewOf(out.indices)];
  const k = expertsPerToken;
  kernels.topK(indices, viewOf(scores), null, { tokens, experts, k, groups: 1, groupsKept: 1 });
  // The kernel adds: micro-batches of a training step share one loss.
  kernels.fill(loss, 0);
  kernels.fill(dscores, 0);
  const [own, whole] = counts ? [null, viewOf(counts)] : [indices, null];
  kernels.balanceLoss(loss, dscores, viewOf(scores), own, whole, {
    sequences,
    sequenceLength,
    experts,
    k,
    factor,
  });
  return out;
}
