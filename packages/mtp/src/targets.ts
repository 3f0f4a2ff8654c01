// What each depth predicts, and which positions count.

/** Sizes of a batch. */
export interface TargetSizes {
  /** Sequences. */
  batch: number;
  /** Tokens of each. */
  length: number;
}

/**
 * Targets of depth k: position i predicts token i + k + 1, and counts only if that token lies in the same document as
 * token i.
 * @param targets - next tokens [batch × length], that is token i + 1 at position i; −1 where unknown or ignored
 * @param documents - document of every input token, and of the token after it, each [batch × length]
 * @param sizes - batch and length
 * @param depth - k ≥ 1
 * @param out - [batch × (length − k)]; made if absent
 * @returns targets of the depth, −1 where a position does not count
 *
 * @example
 * ```ts
 * import { mtpTargets } from '@baleen/mtp';
 * const documents = Int32Array.of(0, 0, 1, 1);
 * const next = Int32Array.of(11, 12, 13, 14);
 * console.log([...mtpTargets(next, { inputs: documents, targets: Int32Array.of(0, 1, 1, 1) }, { batch: 1, length: 4 }, 1)].join(' ')); // => -1 -1 14
 * ```
 */
export function mtpTargets(
  targets: Int32Array,
  documents: { inputs: Int32Array; targets: Int32Array },
  sizes: TargetSizes,
  depth: number,
  out: Int32Array = new Int32Array(sizes.batch * (sizes.length - depth)),
): Int32Array {
  const { batch, length } = sizes;
  const count = length - depth;
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
    throw sizeError(
      'counted',
      `${counted.length} counts for ${targets.length} lists of targets`,
      'count the positions of the whole batch, once a list',
    );
  const positions = targets.reduce((sum, list) => sum + list.length, 0);
  const out = options.out ?? new Float32Array(positions);
  if (out.length !== positions)
    throw sizeError(
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

function sizeError(path: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_BALEEN_MTP_SIZES', path, hint });
}
