// Random schedules of every method, from sizes that the method allows.
import { randomFrom } from '../../../test/support';
import {
  generateSchedule,
  type Method,
  type MethodSizes,
  methods,
  type Schedule,
} from '../src/index';

export const names = Object.keys(methods) as Method[];

/** A whole number from `least` to `most`. */
export function drawn(random: () => number, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1));
}

/** Sizes that a method allows. */
function randomSizes(method: Method, random: () => number): MethodSizes {
  const ranks = method === 'dualpipe' ? 2 * drawn(random, 1, 4) : drawn(random, 1, 6);
  switch (method) {
    case 'dualpipe':
      return { ranks, microBatches: 2 * ranks + 2 * drawn(random, 0, 5) };
    case 'dualpipev':
      return { ranks, microBatches: 2 * ranks + drawn(random, 0, 8) };
    case 'interleaved':
      return {
        ranks,
        microBatches: ranks * drawn(random, 1, 4),
        stagesPerRank: drawn(random, 2, 4),
      };
    default:
      return { ranks, microBatches: drawn(random, 1, 16) };
  }
}

/** So many schedules, methods in turn. */
export function* randomSchedules(
  count: number,
  seed: number,
): Generator<{ method: Method; sizes: MethodSizes; schedule: Schedule; random: () => number }> {
  for (let i = 0; i < count; i += 1) {
    const random = randomFrom(seed + i);
    const method = names[i % names.length];
    const sizes = randomSizes(method, random);
    yield { method, sizes, schedule: generateSchedule(method, sizes), random };
  }
}
