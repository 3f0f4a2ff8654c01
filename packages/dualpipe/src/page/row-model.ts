// A row of the page as data: its method's schedule, made, proven and run in time with the numbers of the controls; or why not.
import { type ClosedForm, closedFormOf } from '../closed-forms';
import type { Semantics } from '../engine';
import { scheduleError } from '../errors';
import { generateSchedule, isGenerated, type Method, methods } from '../methods/index';
import type { Schedule } from '../schedule';
import { stageTimes } from '../share';
import { type Simulation, simulate } from '../simulate';
import type { Timeline } from '../timeline';
import { type ScheduleReport, validateSchedule } from '../validate';
import { sizeFields } from './fields';
import { ownRow, type PageState, phasesOf, titles } from './state';

/** A schedule that a page is made with. */
export interface OwnSchedule {
  /** How it is called. */
  name: string;
  /** A schedule, which the page simulates; or one in time, which is shown as it is. */
  schedule: Schedule | Timeline;
}

/** A formula beside what was simulated. */
export interface Comparison extends ClosedForm {
  /** The rank that the formula speaks of. */
  rank: number;
  /** How long that rank stands still. */
  simulated: number;
  /** Whether they are equal. */
  equal: boolean;
}

/** A row that could be made. */
export interface MadeRow {
  /** A method, or {@link ownRow}. */
  id: string;
  /** In words. */
  title: string;
  /** In a sentence. */
  description: string;
  /** What ran. */
  schedule: Schedule;
  /** When. */
  timeline: Timeline | Simulation;
  /** What the validator found. */
  report: ScheduleReport;
  /** The published formula; null for a method without any. */
  form: Comparison | null;
}

/** A row that could not. */
export interface RefusedRow {
  /** A method, or {@link ownRow}. */
  id: string;
  /** In words. */
  title: string;
  /** What is wrong. */
  message: string;
  /** The remedy. */
  hint: string;
  /** The field that must change, a value that would do, and all that are named in words. */
  remedy: { field: string; value: number; words: string } | null;
}

/** A row. */
export type Row = MadeRow | RefusedRow;

/** Cells of all stages and micro-batches that the page draws at most. */
const mostCells = 40_000;

const fieldNames: Readonly<Record<string, string>> = {
  ranks: 'ranks',
  microBatches: 'micro-batches',
  stagesPerRank: 'stages-per-rank',
};

/** Whether a row could be made. */
export function isMade(row: Row): row is MadeRow {
  return 'timeline' in row;
}

/** What a row depends on, so that it's made again only when that changes. */
export function keyOf(id: string, { values, timing, semantics }: PageState): string {
  return JSON.stringify([id, values, timing, semantics]);
}

/** Makes a row. */
export function makeRow(id: string, state: PageState, own: OwnSchedule | null): Row {
  const title = id === ownRow ? (own?.name ?? 'Own schedule') : titles[id as Method];
  try {
    if (id === ownRow) {
      if (!own) throw scheduleError('METHOD', 'methods', 'the page has no schedule of its own', '');
      return ownRowOf(title, state, own);
    }
    const schedule = knownSchedule(id as Method, state);
    const { description, source } = methods[id as Method];
    return simulated({ id, title, description: `${description} (${source})` }, schedule, state);
  } catch (error) {
    const { message, hint, path } = error as Error & { hint?: string; path?: string };
    return { id, title, message, hint: hint ?? '', remedy: remedyOf(path, hint) };
  }
}

/** Schedules that were made last, and what was found of them: other times leave all of it as it is. */
const made = new Map<string, Schedule>();
const usual = new WeakMap<Schedule, boolean>();
const reports = new WeakMap<Schedule, Partial<Record<Semantics, ScheduleReport>>>();
const mostMade = 12;

function knownSchedule(method: Method, state: PageState): Schedule {
  const { values } = state;
  const key = [method, ...sizeFields.map(({ name }) => values[name])].join();
  const schedule = made.get(key) ?? scheduleOf(method, state);
  made.delete(key);
  made.set(key, schedule);
  for (const oldest of [...made.keys()].slice(0, -mostMade)) made.delete(oldest);
  return schedule;
}

function reportOf(schedule: Schedule, semantics: Semantics): ScheduleReport {
  const known = reports.get(schedule) ?? {};
  const report = known[semantics] ?? validateSchedule(schedule, { semantics });
  reports.set(schedule, { ...known, [semantics]: report });
  return report;
}

function isUsual(schedule: Schedule): boolean {
  const found = usual.get(schedule) ?? isGenerated(schedule);
  usual.set(schedule, found);
  return found;
}

function scheduleOf(method: Method, { values }: PageState): Schedule {
  const ranks = values.ranks ?? 0;
  const microBatches = values['micro-batches'] ?? 0;
  const stagesPerRank =
    method === 'interleaved' ? (values['stages-per-rank'] ?? 2) : methods[method].stagesPerRank;
  const cells = ranks * stagesPerRank * microBatches;
  if (cells > mostCells)
    throw scheduleError(
      'SIZES',
      'microBatches',
      `${ranks * stagesPerRank} stages of ${microBatches} micro-batches are more than this page draws smoothly`,
      `take microBatches ${Math.floor(mostCells / (ranks * stagesPerRank))}`,
    );
  return generateSchedule(method, {
    ranks,
    microBatches,
    ...(method === 'interleaved' ? { stagesPerRank } : {}),
  });
}

function ownRowOf(title: string, state: PageState, { schedule }: OwnSchedule): Row {
  const what = { id: ownRow, title };
  if ('actions' in schedule)
    return simulated(
      { ...what, description: 'of its own sizes, with the times above' },
      schedule,
      state,
    );
  return {
    ...what,
    description: 'with the times it came with: the numbers above do not change it',
    schedule: schedule.schedule,
    timeline: schedule,
    report: validateSchedule(schedule.schedule, { semantics: 'buffered' }),
    form: null,
  };
}

/** Runs a schedule with the times of the controls, which are those of a rank's share of the model. */
function simulated(
  what: Pick<MadeRow, 'id' | 'title' | 'description'>,
  schedule: Schedule,
  { values, timing, semantics }: PageState,
): MadeRow {
  const report = reportOf(schedule, semantics);
  const overlap = values.overlap === null ? {} : { overlap: values.overlap };
  const four = {
    forward: values.forward ?? 0,
    inputGrad: values['input-grad'] ?? 0,
    weightGrad: values['weight-grad'] ?? 0,
    ...overlap,
  };
  const times = stageTimes(timing === 'phases' ? phasesOf(values) : four, schedule);
  const link = { bytes: values.sending ?? 0, bandwidth: 1, latency: values.latency ?? 0 };
  const timeline = simulate(schedule, { times, semantics, link });
  const form = closedFormOf(schedule, timeline.costs, () => isUsual(schedule));
  const free = semantics === 'buffered' && link.bytes === 0 && link.latency === 0;
  return {
    ...what,
    schedule,
    timeline,
    report,
    form: form && comparisonOf({ ...form, holds: form.holds && free }, timeline),
  };
}

/** The formulas of DualPipe and DualPipeV are of the middle ranks; in the others all ranks are alike. */
function comparisonOf(form: ClosedForm, { schedule, ranks }: Simulation): Comparison {
  const { method } = schedule;
  const middle =
    method === 'dualpipe' ? ranks.length / 2 : method === 'dualpipev' ? ranks.length - 1 : 0;
  const simulated = ranks[middle].idle;
  const equal = Math.abs(simulated - form.bubble) <= 1e-9 * Math.max(1, ranks[middle].busy);
  return { ...form, rank: middle, simulated, equal };
}

/** Hints of sizes name a size and a value that would do. */
function remedyOf(path: string | undefined, hint: string | undefined): RefusedRow['remedy'] {
  const found = /^take (ranks|microBatches|stagesPerRank|layers) ((\d+).*)$/.exec(hint ?? '');
  if (!found || path !== found[1]) return null;
  const [, name, words, value] = found;
  return { field: fieldNames[name] ?? name, value: Number(value), words };
}
