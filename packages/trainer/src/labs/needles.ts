// Needles in a haystack, at the size of a small model: among random filler lie tokens that each hold a key and a value; a
// question is a key, and the answer is the value that lies with it, wherever that is. All keys occur once, so those that are
// not asked for distract.
//
// Key and value are one token, so that finding it takes one look back. Where they are two tokens, one after the other, a
// model must learn to look at what follows what it finds, which small ones learn late or not at all.
//
// Tokens: filler 0 … F − 1; then needles, K · V of them, the value running fastest; then K questions; then V answers.
import type { TokenWindow } from '../data/index';

/** Sizes of the task. */
export type NeedleTask = Readonly<{
  /** Keys (K): needles of a sequence, one a key. */
  keys: number;
  /** Values (V) that a needle may have. */
  values: number;
  /** Tokens that say nothing (F). */
  filler: number;
}>;

/**
 * Tokens of the task.
 * @param task - its sizes
 * @returns F + K · V + K + V
 */
export function needleVocabulary({ keys, values, filler }: NeedleTask): number {
  return filler + keys * values + keys + values;
}

/** A haystack, and where what lies. */
interface Haystack {
  ids: Int32Array;
  /** Place of each key's needle. */
  places: number[];
  /** Value of each key. */
  values: number[];
}

function haystack(
  task: NeedleTask,
  { length, within }: { length: number; within: number },
  random: () => number,
): Haystack {
  const below = (end: number): number => Math.floor(random() * end);
  const ids = Int32Array.from({ length }, () => below(task.filler));
  const free = Array.from({ length: within }, (_, place) => place);
  const places: number[] = [];
  const values: number[] = [];
  for (let key = 0; key < task.keys; key += 1) {
    const [place] = free.splice(below(free.length), 1);
    const value = below(task.values);
    ids[place] = task.filler + key * task.values + value;
    places.push(place);
    values.push(value);
  }
  return { ids, places, values };
}

function ask(
  { filler, keys, values }: NeedleTask,
  { ids, values: held }: Haystack,
  targets: Int32Array,
  { at, key, counts }: { at: number; key: number; counts: boolean },
): void {
  const questions = filler + keys * values;
  ids[at] = questions + key;
  if (counts) targets[at] = questions + keys + held[key];
}

function windowOf({ ids }: Haystack, targets: Int32Array): TokenWindow {
  const counted = targets.reduce((count, target) => count + (target < 0 ? 0 : 1), 0);
  return { document: 0, ids, targets, counted };
}

/**
 * A sequence to learn from: needles anywhere, and questions all over it, about needles that came before.
 * @param task - the task's sizes
 * @param sizes - `length` of the sequence; `asked`: share of the other places at which a key is drawn, and asked for where
 *   its needle came before
 * @param random - uniform in [0, 1)
 * @returns the sequence; only answers count
 */
export function needlesToLearn(
  task: NeedleTask,
  { length, asked }: { length: number; asked: number },
  random: () => number,
): TokenWindow {
  const stack = haystack(task, { length, within: length }, random);
  const targets = new Int32Array(length).fill(-1);
  const taken = new Set(stack.places);
  for (let at = 0; at < length; at += 1) {
    if (taken.has(at) || random() >= asked) continue;
    const key = Math.floor(random() * task.keys);
    if (stack.places[key] < at) ask(task, stack, targets, { at, key, counts: true });
  }
  return windowOf(stack, targets);
}

/**
 * A sequence to be asked about: needles anywhere before its end, where every key is asked for once, in random order.
 * @param task - the task's sizes
 * @param sizes - `length` of the sequence, above 2 K; `quarter`: 0 to 3, which quarter of the haystack a needle must lie in
 *   for its answer to count
 * @param random - uniform in [0, 1); it is drawn from equally often whatever the quarter
 * @returns the sequence; its `counted` is 0 where no needle lies in the quarter
 */
export function needlesToFind(
  task: NeedleTask,
  { length, quarter }: { length: number; quarter: number },
  random: () => number,
): TokenWindow {
  const within = length - task.keys;
  const stack = haystack(task, { length, within }, random);
  const targets = new Int32Array(length).fill(-1);
  const left = Array.from({ length: task.keys }, (_, key) => key);
  for (let at = within; at < length; at += 1) {
    const [key] = left.splice(Math.floor(random() * left.length), 1);
    const counts = Math.floor((4 * stack.places[key]) / within) === quarter;
    ask(task, stack, targets, { at, key, counts });
  }
  return windowOf(stack, targets);
}
