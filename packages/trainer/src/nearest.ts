// The name somebody probably meant: spelling distance, and the last parts of a dotted key alone.
import { closest, distance } from 'fastest-levenshtein';

/**
 * The candidate nearest to a word, if it is near enough to be meant.
 * @param word - what was typed
 * @param candidates - what exists
 * @returns the nearest candidate, or undefined
 *
 * @example
 * ```ts
 * import { nearest } from '@baleen/trainer';
 * const keys = ['steps', 'model.moe.groups'];
 * console.log(nearest('stpes', keys), nearest('groups', keys), nearest('width', keys)); // => steps model.moe.groups undefined
 * ```
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined;
  const typed = word.toLowerCase();
  // `--routedExperts` and `--moe.routedExperts` mean the key that ends so.
  const ends = candidates.filter((candidate) => lastParts(candidate, typed) === typed);
  if (ends.length > 0) return shortest(ends);
  return (
    closestOf(
      typed,
      candidates,
      candidates.map((candidate) => candidate.toLowerCase()),
    ) ??
    closestOf(
      typed,
      candidates,
      candidates.map((candidate) => lastParts(candidate, typed)),
    ) ??
    // `data.steps` means a key of that name elsewhere.
    (typed.includes('.')
      ? nearest(dashes(typed) + (typed.split('.').at(-1) ?? ''), candidates)
      : undefined)
  );
}

/** The shortest candidate of those whose form is closest to the typed word, if that is near enough. */
function closestOf(
  typed: string,
  candidates: readonly string[],
  forms: readonly string[],
): string | undefined {
  const form = closest(typed, forms);
  const far = distance(typed, form) > Math.max(2, Math.floor(typed.length * 0.34));
  return far ? undefined : shortest(candidates.filter((_, index) => forms[index] === form));
}

/** As many of a key's last dotted parts as the typed word has, in lower case, with the typed word's dashes. */
function lastParts(candidate: string, typed: string): string {
  const parts = candidate.replace(/^-+/, '').toLowerCase().split('.');
  return dashes(typed) + parts.slice(-typed.split('.').length).join('.');
}

function dashes(word: string): string {
  return /^-*/.exec(word)?.[0] ?? '';
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
