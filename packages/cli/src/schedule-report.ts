// Schedules as people read them: a sketch of what each rank does when, and tables.
import {
  type ClosedForm,
  type Compute,
  closedForm,
  type Schedule,
  type Simulation,
  type Timeline,
} from '@baleen/dualpipe';

import { bytes, percent, table } from './format';
import type { Colors, Formatter } from './io';

/** Code of the error where a result cannot be written. */
export const outError = 'ERR_BALEEN_SCHEDULE_OUT';

/** What a schedule is of, for `--json`. */
export function sizesOf({ method, ranks, stages, microBatches }: Schedule): object {
  return { method, ranks, stages, microBatches };
}

/** Letters of the sketch: one column each, so Bᵢ is I, and B, which the formulas have for a full backward, is none. */
const letters: Readonly<Record<Compute['kind'], string>> = {
  forward: 'F',
  inputGrad: 'I',
  weightGrad: 'W',
  fullBackward: 'D',
  overlap: 'X',
};

/** What the letters mean. */
const legend =
  'F forward, I input gradient (Bᵢ), W weight gradient, D both, X overlapped F and D, · idle';

/**
 * A sketch of a schedule in time: a line for each rank, in which a column is a slice of time, marked by what the rank does
 * in its middle.
 * @param timeline - simulated or measured
 * @param width - columns of the terminal
 * @param colors - of the stream it goes to
 * @returns its lines, and the legend
 */
export function sketchLines({ ranks, total }: Timeline, width: number, colors: Colors): string[] {
  const label = `rank ${ranks.length - 1}`.length + 2;
  const room = Math.max(20, width - label - 2);
  // One or two columns for the shortest computation, if the terminal has them: then its letters are spread evenly.
  const shortest = ranks
    .flatMap(({ computations }) => computations.map(({ start, end }) => end - start))
    .reduce((least, each) => (each > 0 ? Math.min(least, each) : least), Infinity);
  const each = Math.min(2, Math.floor((room * shortest) / total));
  const columns = each >= 1 ? Math.ceil((each * total) / shortest) : room;
  const slice = total / columns;
  const paint: Readonly<Record<string, Formatter>> = {
    F: colors.yellow,
    I: colors.green,
    D: colors.green,
    W: colors.blue,
    X: colors.magenta,
    '·': colors.dim,
  };
  const lines = ranks.map(({ computations }, rank) => {
    let next = 0;
    const marks = Array.from({ length: columns }, (_, column) => {
      const time = (column + 0.5) * slice;
      while (next < computations.length && computations[next].end <= time) next += 1;
      const span = computations.at(next);
      return span && span.start <= time ? letters[span.action.kind] : '·';
    });
    const runs = marks.join('').match(/(.)\1*/g) ?? [];
    return `  ${colors.dim(`rank ${rank}`.padEnd(label))}${runs.map((run) => paint[run[0]](run)).join('')}`;
  });
  return [...lines, '', colors.dim(`  ${legend}`)];
}

/** What a simulation comes to, for `--json`. */
export interface SimulationSummary {
  /** The method. */
  method: string;
  /** Ranks. */
  ranks: number;
  /** Stages. */
  stages: number;
  /** Micro-batches. */
  microBatches: number;
  /** Until the last rank is done. */
  total: number;
  /** Mean share in which ranks stand still. */
  bubbleShare: number;
  /** Of each rank, time in which it stands still. */
  idle: number[];
  /** Of each rank, most activations. */
  peakInFlight: number[];
  /** Of each rank, most bytes; null where it is not known how many an activation has. */
  peakBytes: number[] | null;
  /** Of each rank, time in which its compute waits for communication within computations. */
  exposed: number[];
  /** The published formula. */
  closedForm: ClosedForm | null;
}

/**
 * Sums a simulation up.
 * @param simulation - what ran
 * @param semantics - how messages held ranks up
 * @returns its figures, with the published formula
 */
export function summaryOf(
  simulation: Simulation,
  semantics: 'buffered' | 'rendezvous',
): SimulationSummary {
  const { schedule, total, bubbleShare, ranks, exposed, peakBytes, costs, transfers } = simulation;
  const form = closedForm(schedule, costs);
  // The formulas know nothing of messages.
  const free = semantics === 'buffered' && transfers.every(({ start, end }) => start === end);
  const { method, stages, microBatches } = schedule;
  return {
    method,
    ranks: schedule.ranks,
    stages,
    microBatches,
    total,
    bubbleShare,
    idle: ranks.map(({ idle }) => idle),
    peakInFlight: ranks.map(({ peakInFlight }) => peakInFlight),
    peakBytes: ranks.some(({ memory }) => memory.some(({ bytes }) => bytes !== undefined))
      ? peakBytes
      : null,
    exposed,
    closedForm: form && { ...form, holds: form.holds && free },
  };
}

/** A figure of a table. */
export function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

/**
 * Summaries side by side.
 * @param rows - of several methods
 * @param colors - of the stream it goes to
 * @returns a heading and one line each
 */
export function comparisonLines(rows: readonly SimulationSummary[], colors: Colors): string[] {
  const sized = rows.some(({ peakBytes }) => peakBytes);
  const lines = table(
    [
      [
        ...['', 'total', 'bubble', 'idle', 'formula', 'held'],
        ...(sized ? ['peak bytes'] : []),
        'copies',
      ],
      ...rows.map((row) => [
        row.method,
        short(row.total),
        percent(row.bubbleShare),
        range(row.idle),
        formulaText(row.closedForm),
        short(Math.max(...row.peakInFlight) * (row.ranks / row.stages)),
        ...(row.peakBytes ? [bytes(Math.max(...row.peakBytes))] : []),
        String(row.closedForm?.copies ?? 1),
      ]),
    ],
    sized ? [1, 2, 3, 4, 5, 6, 7] : [1, 2, 3, 4, 5, 6],
  );
  return lines.map((line, index) => `  ${index === 0 ? colors.dim(line) : line}`);
}

/** The least and the most of a list. */
export function range(
  values: readonly number[],
  figure: (value: number) => string = short,
): string {
  const [least, most] = [figure(Math.min(...values)), figure(Math.max(...values))];
  return least === most ? least : `${least} to ${most}`;
}

function formulaText(form: ClosedForm | null): string {
  if (!form) return '';
  return form.holds ? short(form.bubble) : `(${short(form.bubble)})`;
}
