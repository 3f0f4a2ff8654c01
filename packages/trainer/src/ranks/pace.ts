// Which rank the others wait for: what each computes in a step, and who takes longer than the rest for as much work.
import type { Communicator } from '@baleen/comm';

import { median } from '../bench-step';
import type { SlowEvent } from '../events';
import { mean } from '../step';

/** Steps that a rank is judged by. */
const window = 20;
/** A rank is slow that takes so many times as long as the median of the others. */
const factor = 1.5;

/**
 * What every rank computed in a step.
 * @param communicator - all ranks; collective
 * @param own - seconds of this rank
 * @returns seconds, by rank
 */
export function gatherFigures(communicator: Communicator, own: number): number[] {
  const all = new Float64Array(communicator.size);
  communicator.allGather(all, Float64Array.of(own));
  return [...all];
}

/** Judges ranks by their last steps. */
export class Pace {
  private readonly steps: { computed: readonly number[]; pace: readonly number[] }[] = [];
  private readonly named = new Set<number>();

  /**
   * Takes a step.
   * @param step - its number
   * @param computed - seconds that each rank computed in it
   * @param microBatches - that each rank had
   * @returns a rank that turns out to be slow and was not named before, or null
   */
  add(
    step: number,
    computed: readonly number[],
    microBatches: readonly number[],
  ): SlowEvent | null {
    const pace = computed.map((seconds, rank) => seconds / Math.max(1, microBatches[rank]));
    this.steps.push({ computed, pace });
    if (this.steps.length > window) this.steps.shift();
    if (this.steps.length < window || computed.length === 1) return null;
    const means = pace.map((_, rank) => mean(this.steps.map((each) => each.pace[rank])));
    const slowest = means.indexOf(Math.max(...means));
    const others = median(means.filter((_, rank) => rank !== slowest));
    if (means[slowest] < factor * others || this.named.has(slowest)) return null;
    this.named.add(slowest);
    return {
      type: 'slow',
      step,
      rank: slowest,
      computed: mean(this.steps.map((each) => each.computed[slowest])),
      others: others * Math.max(1, microBatches[slowest]),
    };
  }
}
