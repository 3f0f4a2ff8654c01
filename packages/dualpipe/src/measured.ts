// A schedule as it really ran: what the ranks of an execution measured, put together in the form that is simulated and drawn.
import type { Transfer } from './engine';
import { scheduleError } from './errors';
import type { Execution } from './execute';
import { Places, type Schedule } from './schedule';
import { type Timeline, timelineOf } from './timeline';

/** A schedule that ran. */
export interface MeasuredTimeline extends Timeline {
  /** Of each rank, time within computations in which it waited for communication; like `exposed` of a simulation. */
  exposed: number[];
}

/**
 * Puts together what the ranks of an execution measured. Times are milliseconds from the begin of the first computation; a
 * message begins where its sender began it and ends where its receiver saw it.
 * @param schedule - what ran
 * @param executions - what {@link execute} returned on every rank, in any order
 * @returns the schedule in time: {@link drawSchedule} and {@link toChromeTrace} take it as they take a simulation
 * @throws ERR_BALEEN_SCHEDULE_RANKS where there is not one of each rank
 */
export function measuredTimeline(
  schedule: Schedule,
  executions: readonly Execution[],
): MeasuredTimeline {
  const ranks = schedule.actions.map((_, rank) => {
    const own = executions.filter((execution) => execution.rank === rank);
    if (own.length === 1) return own[0];
    throw scheduleError(
      'RANKS',
      'executions',
      `executions has ${own.length} of rank ${rank}`,
      'give what execute returned, of every rank once',
    );
  });
  const origin = Math.min(
    ...ranks.flatMap(({ computations }) => computations.slice(0, 1).map(({ start }) => start)),
  );
  const places = new Places(schedule);
  const seen = new Map<number, number>();
  for (const { messages } of ranks)
    for (const { message, end } of messages)
      if (message.kind === 'receive') seen.set(places.ofMessage(message), end);
  const transfers = ranks.flatMap(({ rank: from, messages }) =>
    messages.flatMap(({ message, start }): Transfer[] => {
      if (message.kind !== 'send') return [];
      const { tensor, stage, microBatch, peer: to } = message;
      const end = (seen.get(places.ofMessage(message)) ?? start) - origin;
      return [{ tensor, stage, microBatch, from, to, start: start - origin, end }];
    }),
  );
  const spans = ranks.map(({ computations }) =>
    computations.map(({ start, end, ...rest }) => ({
      ...rest,
      start: start - origin,
      end: end - origin,
    })),
  );
  return {
    ...timelineOf(schedule, spans, transfers),
    exposed: ranks.map(({ exposed }) => exposed),
  };
}
