// The name somebody probably meant: spelling distance, and the last part of a dotted key alone.
import { closest, distance } from 'fastest-levenshtein';

/**
 * The candidate nearest to a word, if it is near enough to be meant.
 * @param word - what was typed
 * @param candidates - what exists
 * @returns the nearest candidate, or undefined
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined;
  const typed = word.toLowerCase();
  // `--routedExperts` and `--moe.routedExperts` mean the key that ends so.
  const ends = candidates.filter((candidate) => lastParts(candidate, typed) === typed);
  if (ends.length > 0) return shortest(ends);
  const best = closest(typed, candidates);
  if (near(typed, best)) return best;
  const parts = candidates.map((candidate) => lastParts(candidate, typed));
  const part = closest(typed, parts);
  if (!near(typed, part)) return undefined;
  return shortest(candidates.filter((_, index) => parts[index] === part));
}

/** As many of a key's last dotted parts as the typed word has, in lower case, dashes dropped. */
function lastParts(candidate: string, typed: string): string {
  const dashes = /^-*/.exec(typed)?.[0] ?? '';
  const parts = candidate.replace(/^-+/, '').toLowerCase().split('.');
  return dashes + parts.slice(-typed.split('.').length).join('.');
}

function near(a: string, b: string): boolean {
  return distance(a.toLowerCase(), b.toLowerCase()) <= Math.max(2, Math.floor(a.length * 0.34));
}

function shortest(words: readonly string[]): string | undefined {
  return [...words].sort((a, b) => a.length - b.length)[0];
}

/**
 * A hint that names the nearest candidate, or says where all of them are listed.
 * @param word - what was typed
 * @param candidates - what exists
 * @param otherwise - the hint when nothing is near
 * @returns the hint
 */
export function didYouMean(word: string, candidates: readonly string[], otherwise: string): string {
  const name = nearest(word, candidates);
  return name === undefined ? otherwise : `did you mean ${name}?`;
}
