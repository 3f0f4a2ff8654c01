// Proves that a schedule is right, or names the first action that is not. In this order: the pipelines fit the sizes; every
// action is where it may be and has what it needs before it on its list; nothing is missing; messages between two ranks come in
// one order on both; the lists end under the stated semantics; no rank holds more activations than it promises.
import { type Run, run, type Semantics } from './engine';
import { checkWhole, scheduleError } from './errors';
import { ListChecks, offending, unparsed } from './lists';
import { walkMemory } from './memory';
import { partCount } from './messages';
import { misfit } from './parse';
import {
  type Action,
  describeAction,
  forEachPart,
  isMessage,
  type Pipeline,
  Places,
  type Schedule,
} from './schedule';

/** What a valid schedule comes to. */
export interface ScheduleReport {
  /** Computations and messages in all lists. */
  computations: number;
  /** Messages, each sent once and received once. */
  messages: number;
  /** Most activations that each rank holds: from a forward to the end of the gradient of the input. */
  peakInFlight: number[];
  /** Most gradients of weights that wait on each rank, their operands kept. */
  peakWaiting: number[];
}

/**
 * Checks a schedule.
 *
 * Deadlock is a question of how messages hold ranks up. Under `rendezvous`, the default and the strictest, sends and
 * receives that stand next to each other are posted together and a rank goes on when both ends of all of them are there;
 * under `buffered` a send never waits, and a computation waits only for the messages it needs. What ends under the first
 * ends under the second.
 * @param schedule - any schedule; {@link parseSchedule} makes one of JSON
 * @param options - `semantics` of its messages
 * @returns what it comes to
 * @throws ERR_BALEEN_SCHEDULE_… with the path of the first offending action: `FORM` (it is none), `PIPELINES`, `PLACE` (a computation or a message
 *   on the wrong rank), `REPEATED`, `ORDER` (before something it needs), `MISSING`, `UNMATCHED` (a message without its other
 *   end), `MESSAGE_ORDER`, `DEADLOCK`, `MEMORY`
 */
export function validateSchedule(
  schedule: Schedule,
  options: { semantics?: Semantics } = {},
): ScheduleReport {
  const { semantics = 'rendezvous' } = options;
  checkListed(schedule);
  checkPipelines(schedule);
  const places = new Places(schedule);
  new ListChecks(schedule, places).check();
  checkMessageOrder(schedule, places);
  const link = { occupied: 0, latency: 0 };
  const done = run(schedule, { duration: partCount, link, semantics }, places);
  if (done.reached.some((at, rank) => at < schedule.actions[rank].length))
    throw deadlock(schedule, places, done, semantics);
  const { peakInFlight, peakWaiting } = checkMemory(schedule);
  const messages = done.transfers.length;
  const all = schedule.actions.reduce((sum, list) => sum + list.length, 0);
  return { computations: all - 2 * messages, messages, peakInFlight, peakWaiting };
}

/** Everything that is walked is a list: types say so, and values of elsewhere need not. */
function checkListed({ pipelines, actions, maxInFlight = [] }: Schedule): void {
  const listed = (path: string, value: unknown): void => {
    if (!Array.isArray(value)) throw misfit(path, value, 'is not a list', unparsed);
  };
  for (const [path, value] of Object.entries({ pipelines, actions, maxInFlight }))
    listed(path, value);
  pipelines.forEach((pipeline: Pipeline | null, p) => {
    listed(`pipelines[${p}].rankOfStage`, pipeline?.rankOfStage);
    listed(`pipelines[${p}].microBatches`, pipeline?.microBatches);
  });
  actions.forEach((list, rank) => {
    listed(`actions[${rank}]`, list);
  });
}

function checkPipelines({
  ranks,
  stages,
  microBatches,
  pipelines,
  actions,
  maxInFlight,
}: Schedule): void {
  checkWhole({ ranks, stages, microBatches });
  const fault = (path: string, message: string, hint: string): Error =>
    scheduleError('PIPELINES', path, `${path} ${message}`, hint);
  const length = (path: string, list: readonly unknown[], wanted: number, each: string): void => {
    if (list.length !== wanted)
      throw fault(path, `has ${list.length} entries, not ${wanted}`, `give one for each ${each}`);
  };
  length('actions', actions, ranks, 'rank');
  if (maxInFlight) {
    length('maxInFlight', maxInFlight, ranks, 'rank');
    maxInFlight.forEach((bound, rank) => {
      checkWhole({ [`maxInFlight[${rank}]`]: bound });
    });
  }
  const owner = new Map<number, number>();
  pipelines.forEach(({ rankOfStage, microBatches: own }, p) => {
    length(`pipelines[${p}].rankOfStage`, rankOfStage, stages, 'stage');
    rankOfStage.forEach((rank, stage) => {
      if (!Number.isInteger(rank) || rank < 0 || rank >= ranks)
        throw fault(
          `pipelines[${p}].rankOfStage[${stage}]`,
          `(${rank}) is no rank`,
          `ranks are 0 … ${ranks - 1}`,
        );
    });
    own.forEach((microBatch, i) => {
      const path = `pipelines[${p}].microBatches[${i}]`;
      if (!Number.isInteger(microBatch) || microBatch < 0 || microBatch >= microBatches)
        throw fault(
          path,
          `(${microBatch}) is no micro-batch`,
          `micro-batches are 0 … ${microBatches - 1}`,
        );
      const other = owner.get(microBatch);
      if (other !== undefined)
        throw fault(
          path,
          `(${microBatch}) is in pipeline ${other} already`,
          'each micro-batch goes through one pipeline, once',
        );
      owner.set(microBatch, p);
    });
  });
  let lost = 0;
  while (owner.has(lost)) lost += 1;
  if (lost < microBatches)
    throw fault(
      'pipelines',
      `have no micro-batch ${lost}`,
      'each micro-batch goes through one pipeline, once',
    );
}

/** Between two ranks messages are received in the order in which they are sent: links without tags need that. */
function checkMessageOrder({ ranks, actions }: Schedule, places: Places): void {
  const sent = Array.from({ length: ranks * ranks }, (): number[] => []);
  actions.forEach((list, rank) => {
    for (const action of list)
      if (action.kind === 'send') sent[rank * ranks + action.peer].push(places.ofMessage(action));
  });
  const taken = new Int32Array(ranks * ranks);
  actions.forEach((list, rank) => {
    list.forEach((action, position) => {
      if (action.kind !== 'receive') return;
      const pair = action.peer * ranks + rank;
      if (sent[pair][taken[pair]] !== places.ofMessage(action))
        throw offending(
          'MESSAGE_ORDER',
          [rank, position, action],
          `is number ${taken[pair] + 1} of what rank ${rank} receives from rank ${action.peer}, which sends another message there`,
          'receive messages of a rank in the order in which it sends them',
        );
      taken[pair] += 1;
    });
  });
}

/** Follows what stands still to what it waits for, until a rank comes up again. */
function deadlock(
  { actions }: Schedule,
  places: Places,
  { reached, transfers }: Run,
  semantics: Semantics,
): Error {
  const matched = new Set(transfers.map((transfer) => places.ofMessage(transfer)));
  const stuck = (rank: number): boolean => reached[rank] < actions[rank].length;
  let rank = actions.findIndex((_, r) => stuck(r));
  const first = rank;
  const seen: number[] = [];
  const chain: string[] = [];
  while (!seen.includes(rank)) {
    seen.push(rank);
    const action = actions[rank][reached[rank]];
    chain.push(`rank ${rank} at ${describeAction(action)}`);
    // What a rank that stands still waits for lies on another that does.
    [rank] = blockers(actions[rank], reached[rank], rank, places, matched).filter(stuck);
  }
  const position = reached[first];
  return offending(
    'DEADLOCK',
    [first, position, actions[first][position]],
    `waits for ever under ${semantics}: ${chain.join(', which waits for ')}, which waits for rank ${rank}`,
    semantics === 'rendezvous'
      ? 'post receives earlier, or check with buffered sends'
      : 'let each rank compute what others wait for before it waits for them',
  );
}

/** The ranks that what stands at a position waits for: the other ends of its batch, or where its inputs come from. */
function blockers(
  list: readonly Action[],
  position: number,
  rank: number,
  places: Places,
  matched: ReadonlySet<number>,
): number[] {
  const action = list[position];
  if (isMessage(action)) {
    const peers: number[] = [];
    for (const each of list.slice(position)) {
      if (!isMessage(each)) break;
      if (!matched.has(places.ofMessage(each))) peers.push(each.peer);
    }
    return peers;
  }
  const sources: number[] = [];
  forEachPart(action, (part, { stage, microBatch }) => {
    const source = stage + (part === 'forward' ? -1 : 1);
    const input = places.inputOf(part, { stage, microBatch });
    if (input < 0 || matched.has(input)) return;
    sources.push(places.rankOf[source * places.microBatches + microBatch]);
  });
  return sources.filter((source) => source !== rank);
}

/** What the lists hold, which no timing changes. */
function checkMemory({ actions, maxInFlight }: Schedule): {
  peakInFlight: number[];
  peakWaiting: number[];
} {
  const peakInFlight = actions.map(() => 0);
  const peakWaiting = actions.map(() => 0);
  actions.forEach((list, rank) => {
    const bound = maxInFlight?.[rank] ?? Infinity;
    walkMemory(list, ({ inFlight, waiting }, position) => {
      if (inFlight > bound)
        throw offending(
          'MEMORY',
          [rank, position, list[position]],
          `brings rank ${rank} to ${inFlight} activations; maxInFlight[${rank}] is ${bound}`,
          'go back earlier, or raise the bound',
        );
      peakInFlight[rank] = Math.max(peakInFlight[rank], inFlight);
      peakWaiting[rank] = Math.max(peakWaiting[rank], waiting);
    });
  });
  return { peakInFlight, peakWaiting };
}
