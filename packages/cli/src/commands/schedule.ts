// `baleen schedule`: pipeline schedules as data: made, proven, run in time, drawn.
import {
  methods,
  type Schedule,
  scheduleSchema,
  simulate,
  toChromeTrace,
  validateSchedule,
} from '@baleen/dualpipe';
import type { Command } from 'commander';

import { usageError } from '../errors';
import { bytes, percent, whole, wrap } from '../format';
import type { Voice } from '../io';
import { checkPlace, writeResult } from '../output-file';
import { fact } from '../report';
import { defineDraw } from '../schedule-draw';
import {
  addHeldFlags,
  addSemantics,
  addSizeFlags,
  addTimeFlags,
  generated,
  type HeldFlags,
  isFile,
  methodNames,
  readScheduleFile,
  refuseSizes,
  type SizeFlags,
  scheduleOf,
  simulated,
  type TimeFlags,
} from '../schedule-input';
import {
  comparisonLines,
  outError,
  range,
  type SimulationSummary,
  short,
  sizesOf,
  sketchLines,
  summaryOf,
} from '../schedule-report';
import { addCommonFlags, examplesText, shaped } from '../shape';

/** Adds the subcommands. */
export function define(command: Command, voice: Voice): void {
  command.description(
    'Pipeline schedules as data: what each rank does, in order.\n' + `Methods: ${methodNames}.`,
  );
  // Also before the subcommand, and when it is missing.
  addCommonFlags(command);
  defineGenerate(command, voice);
  defineCheck(command, voice);
  defineSimulate(command, voice);
  defineDraw(command, voice);
  defineSchema(command, voice);
}

function defineGenerate(parent: Command, voice: Voice): void {
  const command = shaped(parent.command('generate'), voice)
    .summary('make a schedule')
    .description('Make a schedule by a method, prove it, and sketch it at unit times.')
    .argument('<method>', methodNames);
  addSizeFlags(command);
  command.option('--out <file>', 'write the schedule as JSON').addHelpText(
    'after',
    examplesText([
      ['baleen schedule generate dualpipe', '8 ranks, 20 micro-batches, as in the report'],
      ['baleen schedule generate zb1p --ranks 4 --micro-batches 8 --out zb1p.json', 'kept'],
      ['baleen schedule generate 1f1b --json', 'the schedule itself, for programs'],
    ]),
  );
  addCommonFlags(command);
  command.action((method: string, flags: SizeFlags & { out?: string }) => {
    const { out } = flags;
    if (out !== undefined) checkPlace('--out', out);
    const schedule = generated(method, flags);
    const report = validateSchedule(schedule);
    if (out !== undefined) writeResult('--out', out, schedule, outError);
    voice.result(out === undefined ? schedule : { out, ...sizesOf(schedule), ...report });
    const unit = simulate(schedule, { times: { forward: 1, inputGrad: 1, weightGrad: 1 } });
    const { colors, width } = page(voice);
    voice.print(
      colors.bold(titleOf(schedule)),
      '',
      ...sketchLines(unit, width, colors),
      '',
      ...reportLines(report, voice),
      ...(out === undefined ? [] : [fact('file', out, colors)]),
    );
  });
}

function defineCheck(parent: Command, voice: Voice): void {
  const command = shaped(parent.command('check'), voice)
    .summary('prove a schedule, or name its first wrong action')
    .description(
      'Prove that a schedule does every stage of every micro-batch once, that every send has its receive,\n' +
        'that it cannot deadlock, and that it holds no more than it promises; or exit with 1 and name the\n' +
        'first action that is wrong.',
    )
    .argument('<file>', 'a schedule, or a trace of one');
  addSemantics(command, 'rendezvous');
  command.addHelpText(
    'after',
    examplesText([
      ['baleen schedule check mine.json', 'under the strictest rule'],
      ['baleen schedule check mine.json --semantics buffered', 'where sends never wait'],
    ]),
  );
  addCommonFlags(command);
  command.action((file: string, { semantics }: Pick<TimeFlags, 'semantics'>) => {
    const { schedule } = readScheduleFile(file);
    const report = validateSchedule(schedule, { semantics });
    voice.result({ valid: true, semantics, ...sizesOf(schedule), ...report });
    const { colors } = page(voice);
    voice.print(
      `${colors.green('valid')}  ${titleOf(schedule)}, under ${semantics}`,
      ...reportLines(report, voice),
    );
  });
}

function defineSimulate(parent: Command, voice: Voice): void {
  const command = shaped(parent.command('simulate'), voice)
    .summary('run a schedule in time, or compare methods')
    .description(
      'Run a schedule in time: total, idle time of each rank, activations held, and the published formula\n' +
        'beside it, in brackets where it is not exact. Without a method all that allow the sizes are compared.\n' +
        "Times are those of a rank's share of the model, 1/ranks of it; a stage takes ranks/stages of them.",
    )
    .argument('[method or file]', 'a method, a schedule, or a trace');
  addSizeFlags(command);
  addTimeFlags(command);
  addHeldFlags(command);
  command
    .option('--out <file>', 'write the simulation as a trace for chrome://tracing or Perfetto')
    .addHelpText(
      'after',
      examplesText([
        ['baleen schedule simulate --ranks 8 --micro-batches 20', 'methods side by side'],
        ['baleen schedule simulate dualpipe --overlap 2.5', 'one of them'],
        ['baleen schedule simulate dualpipe --phases v3', 'with the published profile’s times'],
        [
          'baleen schedule simulate --activation-bytes 3e9',
          'with the most bytes that a rank holds',
        ],
        ['baleen schedule simulate mine.json --out trace.json', 'your own, on a time line'],
      ]),
    );
  addCommonFlags(command);
  command.action((word: string | undefined, flags: SimulateFlags) => {
    if (word !== undefined && isFile(word)) refuseSizes(command, 'a file has its sizes');
    if (word === undefined) compare(flags, voice);
    else show(word, flags, voice);
  });
}

function defineSchema(parent: Command, voice: Voice): void {
  const command = shaped(parent.command('schema'), voice)
    .summary('print the JSON Schema of schedules')
    .description(
      'Print the JSON Schema (2020-12) of schedules, for editors and other programs. It says what a schedule looks like;\n' +
        'whether it is right, `check` proves.',
    )
    .addHelpText(
      'after',
      examplesText([['baleen schedule schema > schedule.schema.json', 'for an editor']]),
    );
  addCommonFlags(command);
  command.action(() => {
    voice.result(scheduleSchema);
    voice.print(JSON.stringify(scheduleSchema, null, 2));
  });
}

type SimulateFlags = SizeFlags & TimeFlags & HeldFlags & { out?: string };

/** One schedule in time. */
function show(word: string, flags: SimulateFlags, voice: Voice): void {
  const { out } = flags;
  if (out !== undefined) checkPlace('--out', out);
  const { schedule } = scheduleOf(word, flags);
  validateSchedule(schedule, { semantics: flags.semantics });
  const simulation = simulated(schedule, flags);
  const summary = summaryOf(simulation, flags.semantics);
  if (out !== undefined) writeResult('--out', out, toChromeTrace(simulation), outError);
  voice.result(summary);
  const { colors, width } = page(voice);
  const { closedForm: form, total, bubbleShare, idle, exposed, peakInFlight, peakBytes } = summary;
  const waits = Math.max(...exposed) > 0;
  voice.print(
    colors.bold(titleOf(schedule)),
    '',
    ...sketchLines(simulation, width, colors),
    '',
    fact('total', short(total), colors),
    fact('idle', `${range(idle)}, ${percent(bubbleShare)} on average`, colors),
    ...(form
      ? [
          fact('formula', `${short(form.bubble)} = ${form.formula}, B = Bᵢ + W`, colors),
          ...wrap(
            `${form.holds ? 'exact' : 'not exact'} here; exact for the method's own lists if messages are buffered and take no time, and: ${form.condition}`,
            width - 14,
          ).map((line) => fact('', line, colors)),
        ]
      : []),
    ...(waits
      ? [fact('exposed', `${range(exposed)} of communication within computations`, colors)]
      : []),
    fact('held', `${range(peakInFlight)} activations of a stage and a micro-batch`, colors),
    ...(peakBytes ? [fact('peak bytes', range(peakBytes, bytes), colors)] : []),
    ...(out === undefined ? [] : [fact('trace', out, colors)]),
  );
}

/** All methods that allow the sizes. */
function compare(flags: SimulateFlags, voice: Voice): void {
  if (flags.out !== undefined)
    throw usageError('OUT', '--out takes one schedule', 'name a method', '--out');
  const rows: SimulationSummary[] = [];
  const refused: { method: string; reason: string; hint: string }[] = [];
  for (const method of Object.keys(methods)) {
    const { stagesPerRank, ...sizes } = flags;
    const own = method === 'interleaved' && stagesPerRank !== undefined ? flags : sizes;
    try {
      rows.push(summaryOf(simulated(generated(method, own), flags), flags.semantics));
    } catch (error) {
      const { code, message, hint } = error as Error & Record<'code' | 'hint', string>;
      // What is wrong for every method is wrong with the flags.
      if (code !== 'ERR_BALEEN_USAGE_SIZES' && code !== 'ERR_BALEEN_USAGE_LAYERS') throw error;
      refused.push({ method, reason: message, hint });
    }
  }
  voice.result({ schedules: rows, refused });
  const { colors } = page(voice);
  voice.print(
    colors.bold(`${flags.ranks} ranks, ${flags.microBatches} micro-batches`),
    '',
    ...comparisonLines(rows, colors),
    ...refused.map(
      ({ method, reason, hint }) => `  ${colors.dim(`${method}: ${reason}: ${hint}`)}`,
    ),
    '',
    colors.dim(
      "  formula: the published one, in brackets where it is not exact; held: in ranks' shares of",
    ),
    colors.dim('  the model, of one micro-batch; copies of each parameter'),
  );
}

function page(voice: Voice): { colors: Voice['out']; width: number } {
  return { colors: voice.out, width: Math.min(voice.io.stdout.columns ?? 100, 160) };
}

function titleOf({ method, ranks, stages, microBatches }: Schedule): string {
  return `${method}: ${ranks} ranks, ${stages} stages, ${microBatches} micro-batches`;
}

function reportLines(report: ReturnType<typeof validateSchedule>, { out }: Voice): string[] {
  const { computations, messages, peakInFlight, peakWaiting } = report;
  return [
    fact('actions', `${whole(computations)} computations, ${whole(messages)} messages`, out),
    fact(
      'held',
      `${range(peakInFlight)} activations, ${range(peakWaiting)} waiting weight gradients`,
      out,
    ),
  ];
}
