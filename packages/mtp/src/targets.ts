// What each depth predicts, and which positions count.
import { type SizeChecks, sizeChecks } from '@baleen/kernels';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_MTP_SIZES');
const { refuse } = checks;

/** Sizes of a batch, and which depth is meant. */
export interface TargetSizes {
  /** Sequences. */
  batch: number;
  /** Tokens of each. */
  length: number;
  /** k, from 1 to length − 1. */
  depth: number;
}

/**
 * Targets of depth k: position i predicts token i + k + 1, and counts only if that token lies in the same document as
 * token i.
 * @param targets - next tokens [batch × length], that is token i + 1 at position i; −1 where unknown or ignored
 * @param documents - document of every input token, and of the token after it, each [batch × length]
 * @param sizes - batch, length and depth
 * @param options - where the targets go [batch × (length − k)]; nothing is allocated then
 * @returns targets of the depth, −1 where a position does not count
 * @throws ERR_BALEEN_MTP_SIZES where no position of a sequence has a target at the depth, or a list or `out` is of
 * another length than the sizes say
 *
 * @example
 * ```ts
 * import { mtpTargets } from '@baleen/mtp';
 * const documents = { inputs: Int32Array.of(0, 0, 1, 1), targets: Int32Array.of(0, 1, 1, 1) };
 * const next = Int32Array.of(11, 12, 13, 14);
 * console.log([...mtpTargets(next, documents, { batch: 1, length: 4, depth: 1 })].join(' ')); // => -1 -1 14
 * ```
 */
export function mtpTargets(
  targets: Int32Array,
  documents: { inputs: Int32Array; targets: Int32Array },
  sizes: TargetSizes,
  options: { out?: Int32Array } = {},
): Int32Array {
  const { batch, length, depth } = sizes;
  if (!(Number.isInteger(depth) && depth >= 1 && depth < length))
    refuse(
      'depth',
      `depth ${depth} of sequences of ${length} tokens`,
      'name a whole number from 1 to the length less 1, or make the sequences longer',
    );
  const tokens = batch * length;
  const lists = {
    targets,
    'documents.inputs': documents.inputs,
    'documents.targets': documents.targets,
  };
  for (const [path, list] of Object.entries(lists))
    if (list.length !== tokens)
      refuse(
        path,
        `${path} holds ${list.length} values, expected ${tokens}: ${batch} sequences of ${length} tokens`,
        'give one value to each token of the batch; a subarray serves',
      );
  const count = length - depth;
  const out = options.out ?? new Int32Array(batch * count);
  if (out.length !== batch * count)
    refuse(
      'out',
      `out holds ${out.length} values, expected ${batch * count}`,
      'give one place to each position that has a target; a subarray serves',
    );
  for (let b = 0; b < batch; b += 1)
    for (let i = 0; i < count; i += 1) {
      const own = b * length + i;
      const later = own + depth;
      const same = documents.inputs[own] === documents.targets[later];
      out[b * count + i] = same ? (targets[later] ?? -1) : -1;
    }
  return out;
}

/**
 * Weight of every position in the total loss: 1 / (counted positions) for the main model, λ / D / (counted positions)
 * for each depth, over the whole batch and not the micro-batch.
 * @param targets - one list a depth, the main model's first; −1 does not count
 * @param counted - counted positions of the whole batch, one a list
 * @param lambda - λ
 * @param options - where the weights go [positions of all lists]; nothing is allocated then
 * @returns one weight a position, lists behind each other
 * @throws ERR_BALEEN_MTP_SIZES where a list has no count, or `out` is of another length than the lists together
 *
 * @example
 * ```ts
 * import { lossWeights } from '@baleen/mtp';
 * const main = Int32Array.of(11, 12, 13, 14);
 * const depth = Int32Array.of(12, -1, 14);
 * console.log([...lossWeights([main, depth], [4, 2], 0.5)].join(' ')); // => 0.25 0.25 0.25 0.25 0.25 0 0.25
 * ```
 */
export function lossWeights(
  targets: readonly Int32Array[],
  counted: readonly number[],
  lambda: number,
  options: { out?: Float32Array } = {},
): Float32Array {
  if (counted.length !== targets.length)
    refuse(
      'counted',
      `${counted.length} counts for ${targets.length} lists of targets`,
      'count the positions of the whole batch, once a list',
    );
  const positions = targets.reduce((sum, list) => sum + list.length, 0);
  const out = options.out ?? new Float32Array(positions);
  if (out.length !== positions)
    refuse(
      'out',
      `out holds ${out.length} values, expected ${positions}`,
      'give one place to each position of all lists; a subarray serves',
    );
  let start = 0;
  targets.forEach((list, depth) => {
    const share = depth === 0 ? 1 : lambda / (targets.length - 1);
    const weight = share / Math.max(1, counted[depth] ?? 0);
    for (let i = 0; i < list.length; i += 1) out[start + i] = (list[i] ?? -1) < 0 ? 0 : weight;
    start += list.length;
  });
  return out;
}
