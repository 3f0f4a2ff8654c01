// A way out of where the local search ends: some experts change places at random, and the search begins anew. Random numbers
// come from a fixed seed: the same loads give the same placement.
import { mulberry32 } from '@baleen/tensor';

import { type Effort, improve, type NodeLayout, Search } from './improve';

/** Searches after the first, unless a caller says otherwise. */
export const defaultTries = 30;
/** Times as many where the load is one that can perhaps be avoided. */
const patience = 20;
/** Random changes before a search. */
const changes = 3;
/** Times that a random change is drawn, for it may not be allowed. */
const draws = 10;

/**
 * Searches from the layout as it is, then from the best one shaken, again and again.
 * @param layout - changed in place
 * @param effort - see {@link Effort}; and `above`: while the load is above it, `patience` times as many tries (default: never)
 * @param tries - searches after the first
 * @returns the busiest device's load
 */
export function improveShaken(
  layout: NodeLayout,
  effort: Effort & { target: number; above?: number },
  tries: number,
): number {
  const { target, above = Infinity } = effort;
  let best = improve(layout, effort);
  const random = mulberry32(0);
  for (let i = 0; best > target && i < (best > above ? patience : 1) * tries; i += 1) {
    const trial = { ...layout, slots: layout.slots.slice() };
    shake(trial, random);
    const top = improve(trial, effort);
    if (top >= best) continue;
    best = top;
    layout.slots.set(trial.slots);
  }
  return best;
}

/**
 * Changes the busiest device and a few others.
 * @param layout - changed in place
 * @param random - numbers in [0, 1)
 */
export function shake(layout: NodeLayout, random: () => number): void {
  const search = new Search(layout);
  const { slots, devices } = layout;
  const below = (count: number): number => Math.floor(random() * count);
  for (let change = 0; change < changes; change += 1) {
    const device = change === 0 ? search.busiest() : below(devices);
    for (let draw = 0; draw < draws; draw += 1) {
      const at = device * search.capacity + below(search.capacity);
      const other = below(slots.length);
      const [mine, theirs, there] = [slots[at], slots[other], search.deviceOf(other)];
      if (there === device || search.has(there, mine)) continue;
      if (random() < 0.5) {
        if (search.has(device, theirs)) continue;
        search.apply({ at, expert: theirs, other });
      } else {
        if (search.holders[theirs].length === 1) continue;
        search.apply({ at: other, expert: mine, other: -1 });
      }
      break;
    }
  }
}
