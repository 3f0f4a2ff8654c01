// Finds things in a schedule in time: what a rank does at a moment, where a computation is, when a message arrived, what a
// rank holds.
import type { Transfer } from '../engine';
import type { MemoryStep } from '../memory';
import { type Cell, forEachPart, type Message, type Part, Places } from '../schedule';
import type { ComputeSpan, Timeline } from '../timeline';

/** A computation, and where it is. */
export interface Place {
  /** The rank. */
  rank: number;
  /** Its number among the rank's computations. */
  index: number;
  /** In time. */
  span: ComputeSpan;
}

const partNumber: Readonly<Record<Part, number>> = { forward: 0, inputGrad: 1, weightGrad: 2 };

/** The number of entries of a sorted list that are at most a value. */
export function countUpTo<T>(list: readonly T[], value: number, of: (entry: T) => number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (of(list[middle]) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

const startOf = ({ start }: ComputeSpan): number => start;
const endOf = ({ end }: ComputeSpan): number => end;
const timeOf = ({ time }: MemoryStep): number => time;

/** Looks things up in a schedule in time. */
export class Lookup {
  /** Where cells run. */
  readonly places: Places;
  /** Of each part of each cell, the number of its computation on its rank. */
  private readonly indexOf: Int32Array;
  private readonly transferOf: Int32Array;

  constructor(readonly timeline: Timeline) {
    const { schedule, ranks, transfers } = timeline;
    this.places = new Places(schedule);
    this.indexOf = new Int32Array(3 * this.places.cells).fill(-1);
    for (const { computations } of ranks)
      computations.forEach(({ action }, index) => {
        forEachPart(action, (part, cell) => {
          this.indexOf[partNumber[part] * this.places.cells + this.places.of(cell)] = index;
        });
      });
    this.transferOf = new Int32Array(2 * this.places.cells).fill(-1);
    transfers.forEach((transfer, index) => {
      this.transferOf[this.places.ofMessage(transfer)] = index;
    });
  }

  /** The computation that a part of a cell belongs to. */
  computation(part: Part, cell: Cell): Place | null {
    const { stage } = cell;
    if (stage < 0 || stage >= this.places.stages) return null;
    const id = this.places.of(cell);
    const index = this.indexOf[partNumber[part] * this.places.cells + id];
    return index < 0 ? null : this.at(this.places.rankOf[id], index);
  }

  /** A computation by its number. */
  at(rank: number, index: number): Place | null {
    const span = this.timeline.ranks.at(rank)?.computations.at(index);
    return span && index >= 0 ? { rank, index, span } : null;
  }

  /** A message on its way; null where its stages lie on one rank. */
  transfer(message: Pick<Message, 'tensor' | 'stage' | 'microBatch'>): Transfer | null {
    const index = this.transferOf[this.places.ofMessage(message)];
    return index < 0 ? null : this.timeline.transfers[index];
  }

  /** What a rank computes at a moment; null where it stands still. */
  running(rank: number, time: number): Place | null {
    const { computations } = this.timeline.ranks[rank];
    const begun = countUpTo(computations, time + this.slack, startOf);
    const place = begun === 0 ? null : this.at(rank, begun - 1);
    return place && place.span.end > time + this.slack ? place : null;
  }

  /** The first computation of a rank that begins after a moment. */
  next(rank: number, time: number): Place | null {
    const { computations } = this.timeline.ranks[rank];
    return this.at(rank, countUpTo(computations, time + this.slack, startOf));
  }

  /** The last computation of a rank that ended by a moment. */
  last(rank: number, time: number): Place | null {
    const { computations } = this.timeline.ranks[rank];
    const ended = countUpTo(computations, time + this.slack, endOf);
    return ended === 0 ? null : this.at(rank, ended - 1);
  }

  /** What a rank holds at a moment. */
  held(rank: number, time: number): Omit<MemoryStep, 'time'> {
    const { memory } = this.timeline.ranks[rank];
    const steps = countUpTo(memory, time + this.slack, timeOf);
    return steps === 0 ? { inFlight: 0, waiting: 0 } : memory[steps - 1];
  }

  /** Moments nearer than this are one: sums of times are rounded. */
  get slack(): number {
    return 1e-9 * this.timeline.total;
  }
}
