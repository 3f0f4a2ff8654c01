// What the schedule commands are given: a method and its sizes or a file, times of a rank's share of the model, links.
import { readFileSync } from 'node:fs';

import {
  type Costs,
  generateSchedule,
  type Link,
  type Method,
  methods,
  type PhaseTimes,
  parsePhases,
  parseSchedule,
  publishedProfile,
  readChromeTrace,
  type Schedule,
  type Simulation,
  type SimulationOptions,
  simulate,
  stageTimes,
  type Timeline,
} from '@baleen/dualpipe';
import { didYouMean } from '@baleen/trainer';
import { type Command, Option } from 'commander';

import { usageError } from './errors';
import { numberFlag } from './numbers';

/** Flags of a schedule's sizes. */
export interface SizeFlags {
  ranks: number;
  microBatches: number;
  stagesPerRank?: number;
}

/** Flags of a simulation. */
export interface TimeFlags {
  forward?: number;
  inputGrad?: number;
  weightGrad?: number;
  overlap?: number;
  phases?: string;
  bytes?: number;
  bandwidth?: number;
  latency?: number;
  semantics: 'buffered' | 'rendezvous';
}

/** Flags of what ranks hold. */
export interface HeldFlags {
  activationBytes?: number;
  waitingBytes?: number;
}

const names = Object.keys(methods) as Method[];

/** The methods, for help texts. */
export const methodNames: string = names.join(', ');

/** Adds `--ranks`, `--micro-batches` and `--stages-per-rank`. */
export function addSizeFlags(command: Command): void {
  const size = (flag: string): ((text: string) => number) =>
    numberFlag(flag, { least: 1, whole: true });
  command
    .option('--ranks <n>', 'ranks of the pipeline', size('--ranks'), 8)
    .option('--micro-batches <n>', 'micro-batches of a step', size('--micro-batches'), 20)
    .option(
      '--stages-per-rank <n>',
      'stages a rank holds; interleaved takes 2 or more',
      size('--stages-per-rank'),
    );
}

/** Adds `--semantics`. */
export function addSemantics(command: Command, standard: 'buffered' | 'rendezvous'): void {
  command.addOption(
    new Option(
      '--semantics <name>',
      'how messages hold ranks up: a rank waits until both ends are there, or sends go ahead',
    )
      .choices(['rendezvous', 'buffered'])
      .default(standard),
  );
}

/** Adds times and links. */
export function addTimeFlags(command: Command): void {
  const amount = (flag: string): ((text: string) => number) => numberFlag(flag, { least: 0 });
  command
    .option('--forward <t>', 'time of a forward, F (1)', amount('--forward'))
    .option('--input-grad <t>', 'of a gradient of the input, Bᵢ (1)', amount('--input-grad'))
    .option('--weight-grad <t>', 'of a gradient of the weights, W (1)', amount('--weight-grad'))
    .option('--overlap <t>', 'of an overlapped pair (F + Bᵢ + W)', amount('--overlap'))
    .option(
      '--phases <file>',
      'instead: times of phases as JSON (see “Phases” in the README of @baleen/dualpipe), or v3 for the published profile',
    )
    .option('--bytes <n>', 'bytes of a message between ranks', amount('--bytes'))
    .option('--bandwidth <n>', 'bytes a unit of time', numberFlag('--bandwidth', { above: 0 }))
    .option('--latency <t>', 'time until a message begins to arrive', amount('--latency'));
  addSemantics(command, 'buffered');
}

/** Adds bytes of what ranks hold. */
export function addHeldFlags(command: Command): void {
  const amount = (flag: string): ((text: string) => number) => numberFlag(flag, { least: 0 });
  command
    .option(
      '--activation-bytes <n>',
      "bytes of a micro-batch's activations in a rank's share of the model, for peak bytes",
      amount('--activation-bytes'),
    )
    .option(
      '--waiting-bytes <n>',
      'of what is kept of them for a weight gradient that waits (as many)',
      amount('--waiting-bytes'),
    );
}

/**
 * A schedule, by the name of its method.
 * @param name - typed by somebody
 * @param sizes - of the flags
 * @returns the schedule
 * @throws ERR_BALEEN_USAGE_METHOD and _SIZES
 */
export function generated(
  name: string,
  { ranks, microBatches, stagesPerRank }: SizeFlags,
): Schedule {
  const method = names.find((each) => each === name);
  if (!method)
    throw usageError(
      'METHOD',
      `there is no method ${name}`,
      didYouMean(name, names, `the methods are ${methodNames}`),
      name,
    );
  try {
    return generateSchedule(method, {
      ranks,
      microBatches,
      ...(stagesPerRank === undefined ? {} : { stagesPerRank }),
    });
  } catch (error) {
    const { code, message, hint, path } = error as Error & Record<'code' | 'hint' | 'path', string>;
    // What a method does not allow is the fault of the flags.
    if (code !== 'ERR_BALEEN_SCHEDULE_SIZES') throw error;
    throw usageError('SIZES', inFlags(message), inFlags(hint), inFlags(path));
  }
}

/** Sizes as the library calls them, by the names of their flags. */
function inFlags(text: string): string {
  return text.replace(
    /^(take )?(ranks|microBatches|stagesPerRank)\b/,
    (_, take: string | undefined, name: keyof typeof sizeFlags) =>
      `${take ?? ''}${sizeFlags[name]}`,
  );
}

const sizeFlags = {
  ranks: '--ranks',
  microBatches: '--micro-batches',
  stagesPerRank: '--stages-per-rank',
} as const;
const timeFlags = {
  forward: '--forward',
  inputGrad: '--input-grad',
  weightGrad: '--weight-grad',
  overlap: '--overlap',
} as const;
const linkFlags = { bytes: '--bytes', bandwidth: '--bandwidth', latency: '--latency' } as const;

/**
 * Refuses flags of sizes where nothing is made.
 * @param command - what was called
 * @param words - why not
 * @throws ERR_BALEEN_USAGE_SIZES
 */
export function refuseSizes(command: Command, words: string): void {
  refuse(command, sizeFlags, 'SIZES', words);
}

/**
 * Refuses flags of times and links where nothing is simulated.
 * @param command - what was called
 * @param words - why not
 * @throws ERR_BALEEN_USAGE_TIMES
 */
export function refuseTimes(command: Command, words: string): void {
  refuse(command, { ...timeFlags, phases: '--phases', ...linkFlags }, 'TIMES', words);
}

function refuse(
  command: Command,
  flags: Readonly<Record<string, string>>,
  what: string,
  words: string,
): void {
  for (const [name, flag] of Object.entries(flags))
    if ((command.getOptionValueSource(name) ?? 'default') !== 'default')
      throw usageError(what, `${flag}: ${words}`, `leave ${flag} out, or name a method`, flag);
}

/** Whether a word names a file: methods have no dot and no slash. */
export function isFile(word: string): boolean {
  return /[./\\]/.test(word);
}

/**
 * Reads a schedule, or a trace that has one.
 * @param path - a JSON file
 * @returns the schedule, and its times where the file has them
 */
export function readScheduleFile(path: string): { schedule: Schedule; timeline: Timeline | null } {
  const text = readInput(path, 'FILE');
  if (!text.includes('"traceEvents"')) return { schedule: parseSchedule(text), timeline: null };
  const timeline = readChromeTrace(text);
  return { schedule: timeline.schedule, timeline };
}

/**
 * A method's schedule, or that of a file.
 * @param word - a method or a file
 * @param sizes - of the flags
 * @returns the schedule, and its times where the file has them
 */
export function scheduleOf(
  word: string,
  sizes: SizeFlags,
): { schedule: Schedule; timeline: Timeline | null } {
  return isFile(word)
    ? readScheduleFile(word)
    : { schedule: generated(word, sizes), timeline: null };
}

function readInput(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw usageError(
      what,
      `${path} cannot be read: ${(error as Error).message}`,
      'check the path',
      path,
    );
  }
}

/**
 * Simulates a schedule with the times of the flags, which are those of one rank's share of the model, so methods with several
 * stages a rank are compared at the same model.
 * @param schedule - a valid one
 * @param flags - times, links and bytes
 * @returns the simulation
 * @throws ERR_BALEEN_USAGE_LAYERS where phases are given of layers that the schedule's stages cannot share
 */
export function simulated(schedule: Schedule, flags: TimeFlags & HeldFlags): Simulation {
  const { times, ...rest } = shareTimes(flags);
  return simulate(schedule, {
    times: timesOf(schedule, times),
    ...rest,
    ...heldOf(schedule, flags),
  });
}

/** Bytes of a stage: like times, ranks / stages of a rank's share. */
function heldOf(
  { ranks, stages }: Schedule,
  { activationBytes, waitingBytes = activationBytes }: HeldFlags,
): Pick<SimulationOptions, 'held'> {
  if (activationBytes === undefined || waitingBytes === undefined) {
    if (waitingBytes !== undefined)
      throw usageError(
        'BYTES',
        '--waiting-bytes is without --activation-bytes: it is a part of them',
        'add --activation-bytes, or leave --waiting-bytes out',
        '--waiting-bytes',
      );
    return {};
  }
  const ofStage = (value: number): number => (value * ranks) / stages;
  return { held: { activation: ofStage(activationBytes), waiting: ofStage(waitingBytes) } };
}

function timesOf(schedule: Schedule, times: Costs | PhaseTimes): Costs | PhaseTimes {
  try {
    return stageTimes(times, schedule);
  } catch (error) {
    const { message, hint } = error as Error & Record<'hint', string>;
    throw usageError(
      'LAYERS',
      message,
      `${hint} in --phases, or a method of other stages`,
      '--phases',
    );
  }
}

/**
 * Times of a rank's share of the model, links and semantics, as the page takes them.
 * @param flags - times and links
 * @returns options of a page
 */
export function shareTimes(
  flags: TimeFlags,
): Pick<SimulationOptions, 'times' | 'link' | 'semantics'> {
  const times = flags.phases === undefined ? costsOf(flags) : phasesOf(flags);
  return { times, semantics: flags.semantics, ...linkOf(flags) };
}

function costsOf({ forward = 1, inputGrad = 1, weightGrad = 1, overlap }: TimeFlags): Costs {
  return { forward, inputGrad, weightGrad, ...(overlap === undefined ? {} : { overlap }) };
}

function phasesOf(flags: TimeFlags): PhaseTimes {
  const { phases = '' } = flags;
  for (const [key, flag] of Object.entries(timeFlags))
    if (flags[key as keyof typeof timeFlags] !== undefined)
      throw usageError('PHASES', `--phases and ${flag} both give times`, 'keep one of them', flag);
  return phases === 'v3' ? publishedProfile : readPhases(phases);
}

function readPhases(path: string): PhaseTimes {
  const text = readInput(path, 'PHASES');
  try {
    return parsePhases(text);
  } catch (error) {
    const { message, hint } = error as Error & Record<'hint', string>;
    throw usageError('PHASES', `--phases ${path}: ${message}`, hint, '--phases');
  }
}

function linkOf({ bytes, bandwidth, latency }: TimeFlags): { link?: Link } {
  if (bytes === undefined && bandwidth === undefined && latency === undefined) return {};
  if ((bytes === undefined) !== (bandwidth === undefined)) {
    const [given, other] =
      bytes === undefined ? ['--bandwidth', '--bytes'] : ['--bytes', '--bandwidth'];
    throw usageError(
      'BANDWIDTH',
      `${given} is without ${other}: a message takes bytes / bandwidth`,
      `add ${other}, or leave ${given} out`,
      given,
    );
  }
  return {
    link: { bytes: bytes ?? 0, bandwidth: bandwidth ?? Infinity, latency: latency ?? 0 },
  };
}
