// How many drafts stay: counted pass by pass, told as rates.

/** What became of drafts, added up over passes of the main model. */
export interface DraftCounts {
  /** Passes over at least one draft. */
  passes: number;
  /** Tokens that these passes gave: the drafts that stayed, and one more each. */
  tokens: number;
  /** Drafts by their position behind the text, the first one's first. */
  drafted: number[];
  /** How many of them stayed. */
  accepted: number[];
}

/** The same as shares. */
export interface DraftRates {
  /** Share of all drafts that stayed; null without drafts. */
  rate: number | null;
  /** Share by position: a draft counts as not staying where one before it did not. */
  byPosition: number[];
  /** Tokens a pass gave, 1 and up; null without drafts. */
  tokensPerPass: number | null;
}

/** Counts of nothing yet. */
export function draftCounts(): DraftCounts {
  return { passes: 0, tokens: 0, drafted: [], accepted: [] };
}

/**
 * Counts a pass.
 * @param counts - added to; a pass without drafts leaves them as they are
 * @param drafts - how many there were
 * @param accepted - how many stayed
 */
export function countDrafts(counts: DraftCounts, drafts: number, accepted: number): void {
  if (drafts === 0) return;
  counts.passes += 1;
  counts.tokens += accepted + 1;
  for (let k = 0; k < drafts; k += 1) {
    counts.drafted[k] = (counts.drafted[k] ?? 0) + 1;
    counts.accepted[k] = (counts.accepted[k] ?? 0) + (k < accepted ? 1 : 0);
  }
}

/**
 * Counts as rates.
 * @param counts - see {@link DraftCounts}
 * @returns see {@link DraftRates}
 *
 * @example
 * ```ts
 * import { countDrafts, draftCounts, draftRates } from '@baleen/mtp';
 * const counts = draftCounts();
 * for (const accepted of [2, 0, 1, 2]) countDrafts(counts, 2, accepted);
 * const { rate, byPosition, tokensPerPass } = draftRates(counts);
 * console.log(rate, byPosition.join(' '), tokensPerPass); // => 0.625 0.75 0.5 2.25
 * ```
 */
export function draftRates(counts: DraftCounts): DraftRates {
  const { passes, tokens, drafted, accepted } = counts;
  const sum = (list: readonly number[]): number => list.reduce((total, count) => total + count, 0);
  return {
    rate: passes === 0 ? null : sum(accepted) / sum(drafted),
    byPosition: drafted.map((count, k) => accepted[k] / count),
    tokensPerPass: passes === 0 ? null : tokens / passes,
  };
}
