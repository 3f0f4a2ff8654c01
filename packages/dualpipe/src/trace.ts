// A schedule in time as a Chrome trace, which chrome://tracing and ui.perfetto.dev show, and back again. A rank is a process
// with lanes for computations, for what it sends and receives, and for the phases of its computations where they are known;
// what it holds is a counter. Every computation and message carries its action and its place on the rank's list, so a trace
// that anything else wrote in the same form can be read, drawn and compared.
import type { Transfer } from './engine';
import { scheduleError } from './errors';
import { parseSchedule } from './parse';
import { type Action, describeAction, isMessage, Places, type Schedule } from './schedule';
import type { Simulation } from './simulate';
import { type ComputeSpan, type Timeline, timelineOf } from './timeline';

/** An event of a trace; times are in microseconds. */
export interface TraceEvent {
  /** What is shown. */
  name: string;
  /** X is a span, C a counter, M a name. */
  ph: 'X' | 'C' | 'M';
  /** Rank. */
  pid: number;
  /** Lane. */
  tid: number;
  /** Begin. */
  ts?: number;
  /** Duration. */
  dur?: number;
  /** Kind of span. */
  cat?: string;
  /** Action and position, or what is counted. */
  args?: Record<string, unknown>;
}

/** A trace in Chrome's JSON object format. */
export interface ChromeTrace {
  /** Events. */
  traceEvents: TraceEvent[];
  /** How times are shown. */
  displayTimeUnit: 'ms';
  /** What events do not say. */
  otherData: {
    /** The schedule without its actions. */
    schedule: Omit<Schedule, 'actions'>;
    /** Microseconds of a unit of time. */
    microseconds: number;
  };
}

const lanes = ['computations', 'sends', 'receives', 'compute phases', 'communication phases'];

/**
 * Writes a schedule in time as a trace.
 * @param timeline - simulated or measured
 * @param microseconds - of a unit of time (default 1000: times are milliseconds)
 * @returns the trace; JSON.stringify makes the file
 *
 * @example
 * ```ts
 * import { generateSchedule, readChromeTrace, simulate, toChromeTrace } from '@baleen/dualpipe';
 * const schedule = generateSchedule('zb1p', { ranks: 4, microBatches: 8 });
 * const trace = toChromeTrace(simulate(schedule, { times: { forward: 1, inputGrad: 1, weightGrad: 1 } }));
 * console.log(readChromeTrace(JSON.stringify(trace)).total); // => 27
 * ```
 */
export function toChromeTrace(timeline: Timeline | Simulation, microseconds = 1000): ChromeTrace {
  const { actions, ...rest } = timeline.schedule;
  const phases = 'phases' in timeline ? timeline.phases : null;
  const events: TraceEvent[] = [];
  const span = (
    pid: number,
    tid: number,
    { start, end }: { start: number; end: number },
    event: Pick<TraceEvent, 'name' | 'cat' | 'args'>,
  ): void => {
    const ts = start * microseconds;
    events.push({ ph: 'X', pid, tid, ts, dur: (end - start) * microseconds, ...event });
  };
  timeline.ranks.forEach(({ computations, memory }, pid) => {
    events.push({ name: 'process_name', ph: 'M', pid, tid: 0, args: { name: `rank ${pid}` } });
    lanes.slice(0, phases ? 5 : 3).forEach((name, tid) => {
      events.push({ name: 'thread_name', ph: 'M', pid, tid, args: { name } });
    });
    for (const each of computations) {
      const { action, position } = each;
      span(pid, 0, each, {
        name: describeAction(action),
        cat: 'compute',
        args: { position, action },
      });
      for (const { lane, part, phase, layer, start, end } of phases?.[action.kind].spans ?? [])
        span(
          pid,
          lane === 'compute' ? 3 : 4,
          { start: each.start + start, end: each.start + end },
          { name: `${part} ${phase}, layer ${layer}`, cat: 'phase' },
        );
    }
    for (const { time, inFlight, waiting, bytes } of memory) {
      const counter = { ph: 'C', pid, tid: 0, ts: time * microseconds } as const;
      events.push({ ...counter, name: 'held', args: { inFlight, waiting } });
      if (bytes !== undefined) events.push({ ...counter, name: 'held bytes', args: { bytes } });
    }
  });
  const places = new Places(rest);
  const transferOf = new Map(
    timeline.transfers.map((transfer) => [places.ofMessage(transfer), transfer]),
  );
  actions.forEach((list, pid) => {
    list.forEach((action, position) => {
      const transfer = isMessage(action) && transferOf.get(places.ofMessage(action));
      if (transfer)
        span(pid, action.kind === 'send' ? 1 : 2, transfer, {
          name: describeAction(action),
          cat: 'message',
          args: { position, action },
        });
    });
  });
  return {
    traceEvents: events,
    displayTimeUnit: 'ms',
    otherData: { schedule: rest, microseconds },
  };
}

/**
 * Reads a trace that {@link toChromeTrace} wrote, or that a run wrote in the same form.
 * @param source - JSON text, or what it was parsed to
 * @returns the schedule, with its actions, in time
 * @throws ERR_BALEEN_SCHEDULE_TRACE for another trace, and for times that cannot be: negative, not finite, or two computations
 *   of a rank at once; ERR_BALEEN_SCHEDULE_FORM for a schedule in it that is none
 */
export function readChromeTrace(source: unknown): Timeline {
  const trace = parse(source);
  const { microseconds } = trace.otherData;
  if (!(Number.isFinite(microseconds) && microseconds > 0))
    throw traceError('otherData.microseconds', `(${shown(microseconds)}) is not a number above 0`);
  const header = trace.otherData.schedule;
  const found = trace.traceEvents.flatMap((event, i) => {
    const at = `traceEvents[${i}]`;
    if (typeof event !== 'object' || (event as unknown) === null)
      throw traceError(at, `(${shown(event)}) is no event`);
    const { action, position } = event.args ?? {};
    if (event.ph !== 'X' || action === undefined) return [];
    const { ts = NaN, dur = NaN, pid } = event;
    if (!Number.isInteger(pid) || !(pid >= 0 && pid < header.ranks))
      throw traceError(`${at}.pid`, `(${pid}) is no rank`);
    if (!Number.isInteger(position))
      throw traceError(`${at}.args.position`, `(${shown(position)}) is no place on a list`);
    if (!Number.isFinite(ts) || ts < 0)
      throw traceError(`${at}.ts`, `(${shown(event.ts)}) is no time from 0`);
    if (!Number.isFinite(dur) || dur < 0)
      throw traceError(`${at}.dur`, `(${shown(event.dur)}) is no duration from 0`);
    return [
      { i, pid, position: position as number, action: action as Action, from: ts, to: ts + dur },
    ];
  });
  const lists = Array.from({ length: header.ranks }, (_, rank) =>
    found.filter(({ pid }) => pid === rank).sort((a, b) => a.position - b.position),
  );
  const schedule = parseSchedule({
    ...header,
    actions: lists.map((list) => list.map(({ action }) => action)),
  });
  const computed = lists.map((list) =>
    list.flatMap(({ action, ...rest }, position) =>
      isMessage(action) ? [] : [{ ...rest, action, position }],
    ),
  );
  computed.forEach(checkApart);
  const spans = computed.map((list) =>
    list.map(
      ({ action, position, from, to }): ComputeSpan => ({
        ...{ action, position, start: from / microseconds, end: to / microseconds },
      }),
    ),
  );
  const transfers = lists.flatMap((list, rank) =>
    list.flatMap(({ action, from, to }): Transfer[] => {
      if (action.kind !== 'send') return [];
      const { tensor, stage, microBatch, peer } = action;
      const [start, end] = [from / microseconds, to / microseconds];
      return [{ tensor, stage, microBatch, from: rank, to: peer, start, end }];
    }),
  );
  return timelineOf(schedule, spans, transfers);
}

/** A rank computes one thing at a time, in the order of its list. A microsecond is left to those who round. */
function checkApart(list: readonly { i: number; from: number; to: number }[], rank: number): void {
  list.slice(1).forEach(({ i, from }, before) => {
    const earlier = list[before];
    if (from < earlier.to - 1 - Number.EPSILON * earlier.to)
      throw traceError(
        `traceEvents[${i}].ts`,
        `(${from}) is before the end (${earlier.to}) of traceEvents[${earlier.i}], which rank ${rank} computes before it`,
      );
  });
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function parse(source: unknown): ChromeTrace {
  let value = source;
  if (typeof source === 'string')
    try {
      value = JSON.parse(source) as unknown;
    } catch (error) {
      throw traceError('', `is not JSON: ${(error as Error).message}`);
    }
  const { traceEvents, otherData } = (value ?? {}) as Partial<ChromeTrace>;
  if (!Array.isArray(traceEvents)) throw traceError('traceEvents', 'is not a list');
  const schedule = otherData?.schedule as ChromeTrace['otherData']['schedule'] | null | undefined;
  if (typeof schedule !== 'object' || schedule === null)
    throw traceError('otherData.schedule', 'is missing');
  const { ranks } = schedule;
  if (!Number.isSafeInteger(ranks) || ranks < 1 || ranks > traceEvents.length)
    throw traceError(
      'otherData.schedule.ranks',
      `(${shown(ranks)}) is not a whole number from 1 to that of the events (${traceEvents.length})`,
    );
  return value as ChromeTrace;
}

function traceError(path: string, message: string): Error {
  return scheduleError(
    'TRACE',
    path,
    `${path || 'the trace'} ${message}`,
    'give a trace that toChromeTrace wrote, or one in its form',
  );
}
