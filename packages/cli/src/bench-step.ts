// `baleen bench step`: a training step against the bound that this machine's peaks set.
import { describeKernels, setThreads } from '@baleen/kernels';
import { type RecomputedPart, recomputedParts } from '@baleen/model';
import { benchStep, type ChromeTrace, didYouMean } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from './errors';
import { addConfigFlags, among } from './flags';
import { block, bytes, duration, percent, table, whole } from './format';
import type { Formatter, Voice } from './io';
import { kernelLines } from './kernel-report';
import { checkPlace, writeResult } from './output-file';
import { openProgress, paced } from './progress';
import { fact } from './report';
import { resolveSettings, type Settings, type SettingsOptions } from './settings';
import { addCommonFlags, examplesText, shaped } from './shape';

interface StepOptions extends SettingsOptions {
  /** Where the trace goes. */
  profile?: string;
  /** Parts that are not made again. */
  keep?: readonly RecomputedPart[];
}

/** Adds the subcommand. */
export function defineStep(command: Command, voice: Voice): void {
  const step = shaped(command.command('step'), voice)
    .summary('time a training step on made-up tokens')
    .description(
      'Time a training step on made-up tokens, against the bound Σ max(FLOPs / peak, bytes / copy)\n' +
        'whose peaks are measured in the same process. Every configuration key that a step depends on\n' +
        'is a flag; --steps says how many steps are timed (12 without it).',
    );
  const without = among('layout', 'data', 'evaluation', 'checkpoint');
  addConfigFlags(step, (key) => !without(key));
  step.option(
    '--profile <file>',
    "write when each phase and kernel ran, on which sizes, and the gaps between, as a trace for Chrome's about:tracing or Perfetto",
  );
  step.option(
    '--keep <parts>',
    `what backward finds kept instead of making it again: all, or some of ${recomputedParts.join(', ')}`,
    partsOf,
  );
  step.addHelpText(
    'after',
    examplesText([
      ['baleen bench step --preset small', 'the median step, its bound, and where the time goes'],
      ['baleen bench step --preset small --precision bf16 --json', 'for programs'],
      ['baleen bench step --preset tiny --profile trace.json', 'every kernel on a time line'],
      ['baleen bench step --keep norms,upProjections', 'what recomputing these saves and costs'],
    ]),
  );
  addCommonFlags(step);
  step.action(async (options: StepOptions & Readonly<Record<string, unknown>>) => {
    await measure(
      await resolveSettings(options, 'small'),
      typeof options.steps === 'number' ? options.steps : undefined,
      options,
      voice,
    );
  });
}

/** Names of parts, separated by commas. */
function partsOf(text: string): readonly RecomputedPart[] {
  if (text === 'all') return recomputedParts;
  return text.split(',').map((name) => {
    const part = recomputedParts.find((one) => one === name.trim());
    if (part) return part;
    throw usageError(
      'VALUE',
      `--keep (${name}) is nothing that is made again`,
      didYouMean(name, [...recomputedParts, 'all'], `the parts are ${recomputedParts.join(', ')}`),
      '--keep',
    );
  });
}

async function measure(
  settings: Settings,
  steps: number | undefined,
  { profile, keep = [] }: StepOptions,
  voice: Voice,
): Promise<void> {
  const { config, preset, name } = settings;
  if (profile !== undefined) checkPlace('--profile', profile);
  const { threads } = config;
  setThreads(threads);
  voice.say(`Timing steps of ${preset ?? name} in ${config.precision} on made-up tokens …`);
  const progress = await openProgress(voice);
  let result;
  let trace: ChromeTrace | null = null;
  try {
    result = await benchStep(config, {
      onProgress: paced(progress, 'timing'),
      onProfile: (made) => {
        trace = made;
      },
      keep,
      ...(steps === undefined ? {} : { steps }),
      ...(preset === null ? {} : { preset }),
    });
  } finally {
    progress.stop();
  }
  if (profile !== undefined) writeResult('--profile', profile, trace, 'ERR_BALEEN_BENCH_PROFILE');
  voice.result(result);
  if (voice.json) return;
  const { bold, cyan, dim } = voice.out;
  const { bound, ofBound, medianStepSeconds: median } = result;
  voice.print(
    '',
    bold(`Step of ${preset ?? name} · ${result.precision}`),
    '',
    fact(
      'step',
      `${duration(median)} (median) for ${whole(result.tokensPerStep)} tokens`,
      voice.out,
    ),
    fact('speed', `${whole(result.tokensPerSecond)} tokens/s`, voice.out),
    fact(
      'memory',
      `${bytes(result.activationBytes)} wait for backward, ${bytes(result.peakRegionBytes)} at most`,
      voice.out,
    ),
    fact(
      'bound',
      bound === null || ofBound === null
        ? 'unknown: only the native kernels measure this machine’s peaks'
        : `${duration(bound.seconds)}: the step reaches ${(ofBound * 100).toFixed(0)} % of what this machine could do`,
      voice.out,
    ),
  );
  kernelLines(describeKernels()).forEach((text, index) => {
    voice.print(fact(index === 0 ? 'kernels' : '', text, voice.out));
  });
  voice.print(
    '',
    `  ${bold('Where the time goes')} in a step of ${duration(result.breakdownStepSeconds)}`,
    ...breakdown(result.breakdown, result.breakdownStepSeconds, cyan, dim),
    '',
  );
  if (profile !== undefined)
    voice.print(
      `  trace  ${profile}: three steps; open it in Chrome's about:tracing or in Perfetto`,
      '',
    );
}

/** Kernels as bars of their share of a step, the small ones together. */
function breakdown(
  seconds: Readonly<Record<string, number>>,
  step: number,
  bar: Formatter,
  small: Formatter,
): string[] {
  const entries = Object.entries(seconds);
  const sum = entries.reduce((total, [, value]) => total + value, 0);
  const shown = entries.filter(([, value]) => value >= 0.01 * sum);
  const rest = entries.slice(shown.length);
  const rows: [string, number][] = [...shown];
  if (rest.length > 0)
    rows.push([`${rest.length} others`, rest.reduce((total, [, value]) => total + value, 0)]);
  rows.push(['between them', Math.max(0, step - sum)]);
  const everything = Math.max(step, sum);
  const most = Math.max(...rows.map(([, value]) => value));
  const lines = table(
    rows.map(([kernel, value]) => [kernel, duration(value), percent(value / everything)]),
    [1, 2],
  );
  const width = Math.max(...lines.map((line) => line.length));
  return rows.map(([kernel, value], index) => {
    const line = lines[index].padEnd(width);
    const own = kernel === 'between them' || kernel.endsWith(' others');
    return `    ${own ? small(line) : line}  ${bar(block(value / most, 24))}`;
  });
}
