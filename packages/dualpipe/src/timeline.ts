// A schedule in time, simulated or measured: what each rank did when, how long it stood still, what it held.
import type { Transfer } from './engine';
import { type HeldBytes, type MemoryStep, walkMemory } from './memory';
import type { Compute, Schedule } from './schedule';

/** A computation in time. */
export interface ComputeSpan {
  /** What is computed. */
  action: Compute;
  /** Where it stands on its rank's list. */
  position: number;
  /** Begin. */
  start: number;
  /** End. */
  end: number;
}

/** A rank in time. */
export interface RankTimeline {
  /** Computations, one after the other. */
  computations: ComputeSpan[];
  /** Time in which it computes, communication within computations included. */
  busy: number;
  /** The rest. */
  idle: number;
  /** What it holds, from moment to moment. */
  memory: MemoryStep[];
  /** Most activations. */
  peakInFlight: number;
}

/** A schedule in time. */
export interface Timeline {
  /** What ran. */
  schedule: Schedule;
  /** Until the last rank is done. */
  total: number;
  /** Ranks. */
  ranks: RankTimeline[];
  /** Messages between ranks. */
  transfers: Transfer[];
  /** Mean share of the total in which ranks stand still: the bubble. */
  bubbleShare: number;
}

/** Adds up a number of each entry. */
export function sum<T>(list: readonly T[], of: (entry: T) => number): number {
  return list.reduce((total, entry) => total + of(entry), 0);
}

/** Puts together what is known of each rank. */
export function timelineOf(
  schedule: Schedule,
  spans: readonly ComputeSpan[][],
  transfers: Transfer[],
  held?: HeldBytes,
): Timeline {
  const total = Math.max(0, ...spans.flatMap((list) => list.slice(-1).map(({ end }) => end)));
  const ranks = spans.map((computations, rank): RankTimeline => {
    const busy = sum(computations, ({ start, end }) => end - start);
    const at = new Map(computations.map((span) => [span.position, span]));
    const memory: MemoryStep[] = [];
    walkMemory(
      schedule.actions[rank],
      (step, position, side) => {
        memory.push({ time: at.get(position)?.[side] ?? total, ...step });
      },
      held,
    );
    const peakInFlight = Math.max(0, ...memory.map(({ inFlight }) => inFlight));
    return { computations, busy, idle: total - busy, memory, peakInFlight };
  });
  const idle = sum(ranks, (rank) => rank.idle);
  const bubbleShare = total === 0 ? 0 : idle / (total * ranks.length);
  return { schedule, total, ranks, transfers, bubbleShare };
}
