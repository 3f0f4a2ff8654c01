// Where a method has a stage on several ranks, each computes gradients from its own micro-batches, and before the optimizer's step
// they are added up: in DualPipe between ranks r and R − 1 − r, which hold the same two stages.
import { replicasOf, type Schedule } from './schedule';

/** What is needed of a group of ranks; a communicator of `@baleen/comm` fits. */
export interface SummingGroup<A> {
  /** Adds the arrays of all ranks in the order of ranks, and gives every rank the sum. */
  allReduce(out: A, x: A): void;
  /** Ends this rank's part. */
  close(): void;
}

/** A group that can be cut into groups; a communicator of `@baleen/comm` fits. */
export interface DivisibleGroup<A> {
  /** This rank, that of the schedule. */
  readonly rank: number;
  /** Makes groups of the ranks that give the same color; a rank that gives null is in none. */
  split(color: number | null): SummingGroup<A> | null;
}

/**
 * Adds up gradients of stages that lie on several ranks. Sums are taken in the order of ranks, so all of a stage's ranks have
 * the same bits.
 *
 * @example
 * ```ts
 * import { generateSchedule, ReplicaSums } from '@baleen/dualpipe';
 * const schedule = generateSchedule('dualpipe', { ranks: 2, microBatches: 4 });
 * // A group of its own: the other rank has the same gradients.
 * const pair = { allReduce: (out: Float64Array, x: Float64Array) => { out.set(x.map((g) => g + g)); }, close: () => undefined };
 * const sums = new ReplicaSums(schedule, { rank: 0, split: () => pair });
 * const gradients = [Float64Array.of(1, 2), Float64Array.of(3)];
 * sums.add((stage) => [gradients[stage]]);
 * console.log(gradients.join(' ')); // => 2,4 6
 * ```
 */
export class ReplicaSums<A> {
  private readonly groups: { stages: number[]; group: SummingGroup<A> }[] = [];

  /**
   * Collective: every rank of the communicator makes it.
   * @param schedule - says which stages lie where
   * @param communicator - whose ranks are those of the schedule
   */
  constructor(schedule: Schedule, communicator: DivisibleGroup<A>) {
    // Groups without a common rank are split off together.
    const rounds: { stages: number[]; ranks: number[] }[][] = [];
    replicasOf(schedule).forEach((ranks, stage) => {
      if (ranks.length < 2) return;
      const same = rounds.flat().find((set) => set.ranks.join() === ranks.join());
      if (same) {
        same.stages.push(stage);
        return;
      }
      const apart = rounds.find((sets) =>
        sets.every((set) => !set.ranks.some((rank) => ranks.includes(rank))),
      );
      if (apart) apart.push({ stages: [stage], ranks });
      else rounds.push([{ stages: [stage], ranks }]);
    });
    for (const sets of rounds) {
      const color = sets.findIndex(({ ranks }) => ranks.includes(communicator.rank));
      const group = communicator.split(color < 0 ? null : color);
      if (group) this.groups.push({ stages: sets[color].stages, group });
    }
  }

  /**
   * Adds up; blocks. Every rank calls it after its micro-batches.
   * @param gradientsOf - the gradients of a stage's parameters, in the same order and of the same sizes on its ranks; sums are
   *   written over them
   */
  add(gradientsOf: (stage: number) => Iterable<A>): void {
    for (const { stages, group } of this.groups)
      for (const stage of stages)
        for (const gradient of gradientsOf(stage)) group.allReduce(gradient, gradient);
  }

  /** Ends this rank's part of its groups. */
  close(): void {
    for (const { group } of this.groups) group.close();
  }
}
