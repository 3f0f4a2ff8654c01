// What a run came to, for people: bits per byte on the n-gram ladder, experts, speed, a sample, what to try next.
import type { KernelsReport } from '@baleen/kernels';
import type { StartEvent, TrainResult } from '@baleen/trainer';

import { balance, bytes, count, duration, quote, whole, wrap } from './format';
import type { Colors } from './io';
import { kernelLines } from './kernel-report';
import { ladder, place } from './ladder';

/** Text that the model wrote. */
export interface Sample {
  /** Held-out text it was given. */
  prompt: string;
  /** What it wrote after that. */
  text: string;
}

/** What the report is made from. */
export interface ReportInput {
  /** The run's result. */
  result: TrainResult;
  /** How it began. */
  start: StartEvent;
  /** Why these kernels. */
  kernels: KernelsReport;
  /** What the model wrote, or null. */
  sample: Sample | null;
  /** What to type next, each with what it does. */
  next: readonly (readonly [string, string])[];
  /** Of stdout. */
  colors: Colors;
  /** Columns. */
  width: number;
}

/**
 * The report at the end of a run.
 * @param input - the run and what surrounds it
 * @returns its lines
 */
export function report(input: ReportInput): string[] {
  const { result, start, colors, width } = input;
  const { bold, dim } = colors;
  const title = [
    'Baleen',
    result.preset ?? 'own configuration',
    result.precision,
    `${stepsOf(input)} in ${duration(result.seconds)}`,
  ].join(' · ');
  const lines = ['', bold(title), ''];
  if (result.valBitsPerByte !== null) {
    const where = place(result.baselines, result.valBitsPerByte);
    lines.push(
      `  ${bold(`${result.valBitsPerByte.toFixed(3)} bits per byte`)} on ${bytes(start.heldOutBytes)} of held-out text` +
        (where === '' ? '' : `, ${where}`),
      '',
      ...ladder(result.baselines, result.valBitsPerByte, colors, width),
      '',
    );
    if (result.baselines.length > 0)
      lines.push(
        dim(
          '  order n: an n-gram model, which counts what follows n − 1 bytes in the same training',
        ),
        dim('  text. Fewer bits are better.'),
        '',
      );
  }
  lines.push(...facts(input));
  if (input.sample) lines.push('', ...sampleLines(input.sample, colors, width));
  if (input.next.length > 0) lines.push('', `  ${bold('Next')}`, ...nextLines(input.next, colors));
  lines.push('');
  return lines;
}

/** The steps that this process did. */
function stepsOf({ result: { steps }, start: { resumedFrom } }: ReportInput): string {
  if (resumedFrom === null) return `${whole(steps)} steps`;
  return resumedFrom === steps
    ? `the measurement after step ${whole(steps)}`
    : `steps ${whole(resumedFrom + 1)} to ${whole(steps)}`;
}

function facts({ result, start, kernels, colors }: ReportInput): string[] {
  const rows: [string, string][] = [];
  if (result.maxViolation !== null)
    rows.push([
      'experts',
      `the busiest has ${balance(result.maxViolation)} over an even share (MaxVio ${result.maxViolation.toFixed(3)}, held-out text)`,
    ]);
  if (start.resumedFrom !== result.steps)
    rows.push([
      'speed',
      `${whole(result.tokensPerSecond)} tokens/s; ${duration(result.medianStepSeconds)} a step of ${whole(start.tokensPerStep)} tokens (median)`,
    ]);
  rows.push(
    [
      'seen',
      `${count(result.tokens)} tokens, ${result.epochs.toFixed(2)} times the training text (${bytes(start.trainBytes)})`,
    ],
    [
      'model',
      `${count(result.params)} parameters, ${count(result.activeParams)} active for a token`,
    ],
    [
      'memory',
      `${bytes(result.peakRegionBytes)} between forward and backward at most, ${bytes(result.peakRssBytes)} of process`,
    ],
  );
  const lines = rows.map(([name, text]) => fact(name, text, colors));
  kernelLines(kernels).forEach((text, index) => {
    lines.push(fact(index === 0 ? 'kernels' : '', text, colors));
  });
  const ranks = ranksText(result);
  if (ranks !== '') lines.push(fact('ranks', ranks, colors));
  if (result.run !== null) lines.push(fact('run', result.run, colors));
  return lines;
}

/** How a run is spread, what its ranks did, and how often it was begun again. */
function ranksText({ layout, computed, restarts }: TrainResult): string {
  const shares = computed.map((share) => Math.round(100 * share));
  const range = [...new Set([Math.min(...shares), Math.max(...shares)])].join(' to ');
  const parts = [
    ...(layout.ranks === 1 ? [] : [layoutText(layout)]),
    ...(layout.ranks === 1 || shares.length === 0 ? [] : [`computing ${range} % of the time`]),
    ...(restarts === 0 ? [] : [`begun again ${restarts === 1 ? 'once' : `${restarts} times`}`]),
  ];
  return parts.join('; ');
}

/**
 * How a run is spread, in words.
 * @param layout - its ranks
 * @returns such as `4, in 2 groups that have all experts`
 */
export function layoutText({ ranks, pp, ep, dp, schedule }: TrainResult['layout']): string {
  const parts = [String(ranks)];
  if (pp > 1) {
    const copies = ranks / pp;
    parts.push(
      copies === 1
        ? `a pipeline by ${schedule ?? ''}`
        : `in ${copies} pipelines of ${pp} by ${schedule ?? ''}`,
    );
  }
  if (ep === 1) {
    if (pp === 1) parts.push('each with all experts');
  } else if (dp === 1)
    parts.push(pp === 1 ? 'experts spread over them' : 'experts spread over the pipelines');
  else parts.push(`in ${dp} groups of ${pp * ep} that have all experts`);
  return parts.join(', ');
}

/**
 * A named fact of a report.
 * @param name - its name, at most 9 letters
 * @param text - what there is to say
 * @param colors - of the stream it goes to
 * @returns its line
 */
export function fact(name: string, text: string, colors: Colors): string {
  return `  ${colors.dim(name.padEnd(9))} ${text}`;
}

function sampleLines({ prompt, text }: Sample, colors: Colors, width: number): string[] {
  const lines = wrap(prompt + text, Math.min(width, 84) - 4);
  // The prompt is marked where it stands: it may end within a line.
  let left = prompt.length;
  const marked = lines.map((line) => {
    const own = Math.max(0, Math.min(line.length, left));
    left -= line.length + 1;
    return `    ${own > 0 ? colors.dim(line.slice(0, own)) : ''}${line.slice(own)}`;
  });
  return [
    `  ${colors.bold('Sample')} ${colors.dim(`after ${quote(prompt)}, from held-out text`)}`,
    ...marked,
  ];
}

function nextLines(next: ReportInput['next'], { cyan, dim }: Colors): string[] {
  const width = Math.max(...next.map(([, what]) => what.length));
  return next.map(([command, what]) => `    ${dim(what.padEnd(width))}  ${cyan(command)}`);
}
