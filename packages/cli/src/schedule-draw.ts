// `baleen schedule draw`: a schedule as a picture, or several on a page that is stepped through and changed.
import {
  drawSchedule,
  type Method,
  type Schedule,
  type Timeline,
  validateSchedule,
} from '@baleen/dualpipe';
import { schedulePage } from '@baleen/dualpipe/page';
import { type Command, Option } from 'commander';

import { usageError } from './errors';
import type { Voice } from './io';
import { checkPlace, writeResult } from './output-file';
import { fact } from './report';
import {
  addSizeFlags,
  addTimeFlags,
  generated,
  isFile,
  readScheduleFile,
  refuseSizes,
  refuseTimes,
  type SizeFlags,
  shareTimes,
  simulated,
  type TimeFlags,
} from './schedule-input';
import { outError, sizesOf } from './schedule-report';
import { addCommonFlags, examplesText, shaped } from './shape';

/** Flags of `draw`. */
interface DrawFlags extends SizeFlags, TimeFlags {
  out?: string;
  html?: string;
  theme?: 'auto' | 'light' | 'dark';
  unit?: string;
}

/** Adds the subcommand. */
export function defineDraw(parent: Command, voice: Voice): void {
  const command = shaped(parent.command('draw'), voice)
    .summary('draw a schedule in time as SVG, or as a page')
    .description(
      'Draw a schedule in time: a row for each rank, a box for each computation. A trace is drawn with the\n' +
        'times that it has. A page shows several methods above each other, steps through time, explains every\n' +
        'computation, and changes sizes and times; it is one file that needs no network.',
    )
    .argument('<methods or file...>', 'methods, a schedule, or a trace; a picture has one');
  addSizeFlags(command);
  addTimeFlags(command);
  command
    .option('--out <file>', 'the picture, SVG')
    .option('--html <file>', 'the interactive page, HTML')
    .option('--unit <name>', 'unit of the times, shown at the axis of the picture')
    .addOption(
      new Option(
        '--theme <name>',
        'colours of the picture (auto: follow the viewer, as the page does)',
      ).choices(['auto', 'light', 'dark']),
    )
    .addHelpText(
      'after',
      examplesText([
        ['baleen schedule draw dualpipe --out dualpipe.svg', 'as in the report'],
        ['baleen schedule draw dualpipe --phases v3 --unit ms --out v3.svg', 'phase by phase'],
        ['baleen schedule draw trace.json --out run.svg', 'what was measured'],
        ['baleen schedule draw dualpipe 1f1b zb1p --html schedules.html', 'a page to step through'],
      ]),
    );
  addCommonFlags(command);
  command.action((words: string[], flags: DrawFlags) => {
    draw(words, flags, { command, voice });
  });
}

function draw(
  words: string[],
  flags: DrawFlags,
  { command, voice }: { command: Command; voice: Voice },
): void {
  const { out, html } = flags;
  if (out === undefined && html === undefined)
    throw usageError(
      'OUT',
      'the drawing has no place',
      'add --out schedule.svg for a picture, or --html schedule.html for a page',
      '--out',
    );
  if (out !== undefined) checkPlace('--out', out);
  if (html !== undefined) checkPlace('--html', html);
  if (out !== undefined && words.length > 1)
    throw usageError('OUT', '--out draws one schedule', 'name one, or take --html', '--out');
  for (const name of ['theme', 'unit'] as const)
    if (out === undefined && flags[name] !== undefined)
      throw usageError(
        'OUT',
        `--${name} is of the picture, and there is none`,
        `add --out, or leave --${name} out`,
        `--${name}`,
      );
  // A page has controls, which the flags set.
  if (html === undefined && words.every(isFile)) refuseSizes(command, 'a file has its sizes');
  const given = (name: 'ranks' | 'microBatches'): boolean =>
    command.getOptionValueSource(name) !== 'default';
  const found = findAll(words, flags, given('ranks') || given('microBatches'));
  if (html === undefined && found[0].timeline) refuseTimes(command, 'a trace has its times');
  // Everything is made before anything is written.
  const picture = out === undefined ? null : pictureOf(found[0], flags);
  const page = html === undefined ? null : pageOf(found, flags);
  if (out !== undefined && picture) writeResult('--out', out, picture.svg, outError);
  if (html !== undefined && page !== null) writeResult('--html', html, page, outError);
  voice.result({
    ...(picture && {
      ...{ out, ...sizesOf(found[0].schedule), ...picture.figures, bytes: picture.svg.length },
    }),
    ...(page !== null && {
      html,
      schedules: found.map(({ schedule }) => sizesOf(schedule)),
      htmlBytes: Buffer.byteLength(page),
    }),
  });
  voice.print(
    ...(out === undefined ? [] : [fact('picture', out, voice.out)]),
    ...(html === undefined ? [] : [fact('page', html, voice.out)]),
  );
}

/** A schedule, and its times where it came with some. */
interface Found {
  word: string;
  sizes: SizeFlags;
  schedule: Schedule;
  timeline: Timeline | null;
}

/** What is named. Methods beside a file have its sizes, unless flags give others. */
function findAll(words: readonly string[], flags: DrawFlags, sized: boolean): Found[] {
  const files = new Map(words.filter(isFile).map((path) => [path, readScheduleFile(path)]));
  const { ranks, microBatches } = (sized ? null : [...files.values()].at(0)?.schedule) ?? flags;
  return words.map((word) => {
    // Only one of several methods has a choice.
    const own = words.length === 1 || word === 'interleaved' ? flags.stagesPerRank : undefined;
    const sizes = { ranks, microBatches, ...(own === undefined ? {} : { stagesPerRank: own }) };
    const each = files.get(word) ?? { schedule: generated(word, sizes), timeline: null };
    validateSchedule(each.schedule, { semantics: flags.semantics });
    return { word, sizes, ...each };
  });
}

function pictureOf(
  { schedule, timeline }: Found,
  flags: DrawFlags,
): { svg: string; figures: Pick<Timeline, 'total' | 'bubbleShare'> } {
  const { theme = 'auto', unit } = flags;
  const drawn = timeline ?? simulated(schedule, flags);
  const { total, bubbleShare } = drawn;
  const svg = drawSchedule(drawn, { theme, ...(unit === undefined ? {} : { unit }) });
  return { svg, figures: { total, bubbleShare } };
}

function pageOf(found: readonly Found[], flags: DrawFlags): string {
  const files = found.filter(({ word }) => isFile(word));
  if (files.length > 1)
    throw usageError(
      'HTML',
      `a page shows one file and ${files.length} are named`,
      'name methods beside it, or make a page of each',
      files[1].word,
    );
  const { ranks, microBatches } = found[0].sizes;
  const { stagesPerRank } = flags;
  try {
    return schedulePage({
      methods: found.filter(({ word }) => !isFile(word)).map(({ word }) => word as Method),
      ...{ ranks, microBatches, ...shareTimes(flags) },
      ...(stagesPerRank === undefined ? {} : { stagesPerRank }),
      ...(files.length === 1 && {
        own: { name: files[0].word, schedule: files[0].timeline ?? files[0].schedule },
      }),
    });
  } catch (error) {
    const { code, message, hint, path } = error as Error & Record<'code' | 'hint' | 'path', string>;
    // What the page does not take is the fault of the flags.
    if (code !== 'ERR_BALEEN_SCHEDULE_PAGE') throw error;
    throw usageError('HTML', message, hint, path);
  }
}
