// Puts sends and receives into lists of computations, so that they cannot deadlock.
//
// The computations are run once in time, every part taking 1. A message is put at the moment its tensor is made: on the
// sender behind the computation that made it, on the receiver behind whatever began before that moment. So all lists are
// parts of one order in which each send stands beside its receive, and walking them in that order never waits: not under
// rendezvous either. Messages from one rank to another are sent in the order in which they are received.
import { run } from './engine';
import { scheduleError } from './errors';
import {
  type Action,
  type Compute,
  describeAction,
  forEachPart,
  type Message,
  Places,
  type Schedule,
} from './schedule';

/** A schedule that has only computations so far. */
export interface ComputeLists extends Omit<Schedule, 'format' | 'actions'> {
  /** Of each rank, its computations, in order. */
  computations: readonly (readonly Compute[])[];
}

/** Parts of a computation: the time it takes when every part takes 1. */
export function partCount(action: Compute): number {
  let count = 0;
  forEachPart(action, () => {
    count += 1;
  });
  return count;
}

/**
 * Makes a schedule of computations alone: adds a send and a receive wherever a stage's neighbour lies on another rank.
 * @param lists - computations, in order, of each rank
 * @returns the schedule; {@link validateSchedule} says whether it is complete
 * @throws ERR_BALEEN_SCHEDULE_DEADLOCK where a computation waits, directly or not, for one that comes after it
 *
 * @example
 * ```ts
 * import { withMessages } from '@baleen/dualpipe';
 * const cell = (kind: 'forward' | 'fullBackward', stage: number) => ({ kind, stage, microBatch: 0 }) as const;
 * const schedule = withMessages({
 *   method: 'by hand', ranks: 2, stages: 2, microBatches: 1,
 *   pipelines: [{ rankOfStage: [0, 1], microBatches: [0] }],
 *   computations: [0, 1].map((stage) => [cell('forward', stage), cell('fullBackward', stage)]),
 * });
 * console.log(schedule.actions[1].map(({ kind }) => kind).join(' ')); // => receive forward fullBackward send
 * ```
 */
export function withMessages({ computations, ...rest }: ComputeLists): Schedule {
  const lists = { format: 'baleen-schedule/1' as const, ...rest, actions: computations };
  const places = new Places(lists);
  const free = { occupied: 0, latency: 0 };
  const { start, end, reached } = run(
    lists,
    { duration: partCount, link: free, semantics: 'free' },
    places,
  );
  const stuck = computations.findIndex((list, rank) => reached[rank] < list.length);
  if (stuck >= 0) {
    const at = reached[stuck];
    throw scheduleError(
      'DEADLOCK',
      `computations[${stuck}][${at}]`,
      `computations[${stuck}][${at}], ${describeAction(computations[stuck][at])}, waits for something that never comes`,
      'let each rank compute what others wait for before it waits for them, and leave nothing out',
    );
  }
  const due = dueMessages(computations, end, places);
  return {
    ...lists,
    actions: computations.map((list, rank) => merge(list, start[rank], due[rank])),
  };
}

/** Messages of a rank, and when the tensor of each is made. */
interface Due {
  times: number[];
  messages: Message[];
}

/** The messages of each rank, by time; those of one time in the same order on both of their ranks. */
function dueMessages(
  computations: ComputeLists['computations'],
  end: readonly Float64Array[],
  { stages, microBatches, rankOf }: Places,
): Due[] {
  const all: { time: number; send: Message; receive: Message }[] = [];
  computations.forEach((list, from) => {
    list.forEach((action, position) => {
      const time = end[from][position];
      forEachPart(action, (part, { stage, microBatch }) => {
        if (part === 'weightGrad') return;
        const next = stage + (part === 'forward' ? 1 : -1);
        if (next < 0 || next >= stages) return;
        const to = rankOf[next * microBatches + microBatch];
        if (to === from) return;
        const tensor = part === 'forward' ? 'activation' : 'gradient';
        all.push({
          time,
          send: { kind: 'send', tensor, stage, microBatch, peer: to },
          receive: { kind: 'receive', tensor, stage, microBatch, peer: from },
        });
      });
    });
  });
  all.sort((a, b) => a.time - b.time);
  const due = computations.map((): Due => ({ times: [], messages: [] }));
  const add = ({ times, messages }: Due, time: number, message: Message): void => {
    times.push(time);
    messages.push(message);
  };
  for (const { time, send, receive } of all) {
    add(due[receive.peer], time, send);
    add(due[send.peer], time, receive);
  }
  return due;
}

/** Messages stand before the first computation that begins when they are due, or later. */
function merge(list: readonly Compute[], start: Float64Array, { times, messages }: Due): Action[] {
  const merged: Action[] = [];
  let next = 0;
  list.forEach((action, position) => {
    for (; next < times.length && times[next] <= start[position]; next += 1)
      merged.push(messages[next]);
    merged.push(action);
  });
  for (; next < times.length; next += 1) merged.push(messages[next]);
  return merged;
}
