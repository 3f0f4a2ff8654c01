// Which drafted tokens stay (§5.4.3): speculative decoding that loses nothing (arXiv 2211.17192, algorithm 1; arXiv
// 2302.01318, algorithm 2). One pass of the main model tells the distribution after each draft; a draft is accepted as often
// as that distribution allows, and in place of the first one that is not a token is drawn from what is left of it.
//
// Legend: K drafts, V tokens of the vocabulary; p is the target's distribution, q the draft's.
import { type SizeChecks, sizeChecks } from '@baleen/kernels';

import { drawRow, noDistribution, sumOf } from './sampling';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_MTP_SIZES');

/** Drafted tokens, and what is known of them. */
export interface DraftedTokens {
  /** K tokens, each continuing the one before. */
  drafts: Int32Array;
  /**
   * q [K × V]: what each draft was drawn from; leave it out where the drafts were not drawn but chosen, as the likeliest
   * or by looking them up.
   */
  draftProbabilities?: Float32Array | null;
  /**
   * p [(K + 1) × V]: the main model's after the text, after the first draft, and so on, as `probabilities()` makes them
   * of logits. At temperature 0 each has a single token.
   */
  targetProbabilities: Float32Array;
  /** Numbers in [0, 1). */
  random: () => number;
}

/** What becomes of drafts. */
export interface Acceptance {
  /** How many drafts stay, from the first. */
  accepted: number;
  /** The token after them. */
  token: number;
}

/**
 * Decides how many drafts stay, and which token follows them. Whatever made the drafts, accepted tokens and the one after
 * are distributed as the main model's own would be. Drafts that were not drawn give the very tokens that drawing from each
 * p would have given with the same random numbers, one a token.
 *
 * A drawn draft x stays with probability min(1, p(x) / q(x)); in its place comes a token of max(0, p − q), normalised. It
 * stays with probability Σ min(p, q), which no method exceeds. A draft that was not drawn has q(x) = 1.
 * @param input - see {@link DraftedTokens}
 * @param sizes - `drafts` K, 0 and up, and `vocab` V
 * @param options - where the result goes; nothing is allocated then
 * @returns 0 … K accepted drafts and the token after them
 * @throws ERR_BALEEN_MTP_SIZES where an array is of another length than the sizes say, or a draft is no token;
 * ERR_BALEEN_MTP_DISTRIBUTION where a row that is looked at adds up to nothing, or to no finite number
 *
 * @example
 * ```ts
 * import { accept, probabilities } from '@baleen/mtp';
 * import { mulberry32 } from '@baleen/tensor';
 * // The main model's likeliest tokens are 2, 0 and 1: the first draft stays, the second does not.
 * const logits = Float32Array.of(0, 1, 5, 4, 2, 0, 1, 3, 2);
 * const targetProbabilities = probabilities(logits, { rows: 3, vocab: 3 });
 * const input = { drafts: Int32Array.of(2, 1), targetProbabilities, random: mulberry32(0) };
 * const { accepted, token } = accept(input, { drafts: 2, vocab: 3 });
 * console.log(accepted, token); // => 1 0
 * ```
 */
export function accept(
  input: DraftedTokens,
  sizes: { drafts: number; vocab: number },
  options: { out?: Acceptance } = {},
): Acceptance {
  const { drafts, draftProbabilities: q = null, targetProbabilities: p, random } = input;
  const { drafts: count, vocab } = sizes;
  const out = options.out ?? { accepted: 0, token: 0 };
  checks.whole({ vocab });
  checks.whole({ drafts: count }, 0);
  checks.length('drafts', drafts, { drafts: count });
  checks.length('targetProbabilities', p, { 'drafts + 1': count + 1, vocab });
  if (q) checks.length('draftProbabilities', q, { drafts: count, vocab });
  for (let k = 0; k < count; k += 1)
    if (!(drafts[k] >= 0 && drafts[k] < vocab))
      checks.refuse(
        'drafts',
        `draft ${k} is token ${drafts[k]} of a vocabulary of ${vocab}`,
        'drafts are token ids of the main model',
      );

  for (let k = 0; k < count; k += 1) {
    const draft = drafts[k];
    const start = k * vocab;
    if (!q) {
      const token = drawn(p, k, vocab, random());
      if (token !== draft) return settle(out, k, token);
      continue;
    }
    checkRow('targetProbabilities', p, k, vocab);
    checkRow('draftProbabilities', q, k, vocab);
    if (random() * q[start + draft] < p[start + draft]) continue;
    const token = drawRow(p, q, start, vocab, random());
    // Where p exceeds q nowhere, both are the same but for rounding.
    return settle(out, k, token < 0 ? drawn(p, k, vocab, random()) : token);
  }
  return settle(out, count, drawn(p, count, vocab, random()));
}

function settle(out: Acceptance, accepted: number, token: number): Acceptance {
  out.accepted = accepted;
  out.token = token;
  return out;
}

/** Draws from row k of p. */
function drawn(p: Float32Array, k: number, vocab: number, random: number): number {
  const token = drawRow(p, null, k * vocab, vocab, random);
  return token < 0 ? noDistribution('targetProbabilities', k, sumOf(p, k * vocab, vocab)) : token;
}

function checkRow(path: string, rows: Float32Array, k: number, vocab: number): void {
  const sum = sumOf(rows, k * vocab, vocab);
  if (!(sum > 0 && sum < Infinity)) noDistribution(path, k, sum);
}
