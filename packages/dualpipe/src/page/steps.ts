// The moments at which something begins or the last rank ends, over all rows: the steps that the page goes in.
import type { Timeline } from '../timeline';

/** Moments, in order. */
export class Steps {
  private readonly times: Float64Array;
  private readonly slack: number;

  constructor(timelines: readonly Timeline[]) {
    const total = Math.max(0, ...timelines.map((timeline) => timeline.total));
    this.slack = 1e-9 * total;
    const all = new Set<number>([0, total]);
    for (const { ranks } of timelines)
      for (const { computations } of ranks) for (const { start } of computations) all.add(start);
    const sorted = Float64Array.from(all).sort();
    // Sums of the same times in another order differ in their last digits.
    this.times = sorted.filter((time, i) => i === 0 || time - sorted[i - 1] > this.slack);
  }

  /**
   * The moment after one, or the one before.
   * @param time - a moment
   * @param direction - 1 for after, −1 for before
   * @returns the moment; null at the end
   */
  from(time: number, direction: 1 | -1): number | null {
    let [low, high] = [0, this.times.length];
    const bound = direction === 1 ? time + this.slack : time - this.slack;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (direction === 1 ? this.times[middle] <= bound : this.times[middle] < bound)
        low = middle + 1;
      else high = middle;
    }
    return this.times.at(direction === 1 ? low : low - 1) === undefined ||
      (direction === -1 && low === 0)
      ? null
      : this.times[direction === 1 ? low : low - 1];
  }
}
