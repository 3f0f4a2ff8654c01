// A run's folder: config.json (resolved, with origins), metrics.jsonl (one event a line), its checkpoints, and while a
// process trains in it the lock.
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

import { diskError, writeFile } from '@baleen/model/node';

import { readTrainerState } from './checkpoint';
import { clearInterrupted, completeName, listCheckpoints } from './checkpoint-files';
import type { TrainConfig } from './config';
import type { TrainEvent } from './events';
import { isRunLock, isTraining } from './run-lock';

const configName = 'config.json';
const metricsName = 'metrics.jsonl';

/** config.json of a run. */
export interface RunConfig {
  /** Preset it began from, or null. */
  preset: string | null;
  /** The resolved configuration. */
  config: TrainConfig;
  /** Where each dotted key's value came from. */
  origins: Record<string, string>;
}

/** What a path to resume from, evaluate or generate with turned out to be. */
export interface FoundRun {
  /** The run's folder, or null for a checkpoint that lies alone or a Hugging Face folder. */
  run: string | null;
  /** The folder with the weights: for a run its newest complete checkpoint. */
  checkpoint: string;
  /** Steps done; 0 for weights that do not say. */
  step: number;
  /** Its configuration, or null for a Hugging Face folder. */
  config: TrainConfig | null;
  /** Preset it began from, or null. */
  preset: string | null;
  /** Origins of the configuration's values; empty where they are not known. */
  origins: Record<string, string>;
}

function absent(path: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), {
    code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
    path,
    hint,
  });
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw Object.assign(new Error(`${path} is not JSON: ${(error as Error).message}`), {
      code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
      path,
      hint: 'mend it, or use another run',
    });
  }
}

/** Whether a folder is a run's: its config.json holds a configuration with origins. */
function runConfigOf(folder: string): RunConfig | null {
  const path = join(folder, configName);
  if (!existsSync(path)) return null;
  const json = readJson(path) as Partial<RunConfig>;
  return json.config && json.origins ? (json as RunConfig) : null;
}

/**
 * Finds out what a path is: a run's folder, a checkpoint's, or a Hugging Face folder.
 * @param path - any of them
 * @returns see {@link FoundRun}
 * @throws `ERR_BALEEN_CHECKPOINT_ABSENT` where there are no weights
 */
export function findRun(path: string): FoundRun {
  const folder = resolve(path);
  if (!existsSync(folder))
    throw absent(path, `${path} does not exist`, 'give a run, a checkpoint or a weights folder');
  const own = runConfigOf(folder);
  if (own) {
    const newest = listCheckpoints(folder).at(-1);
    if (!newest)
      throw absent(
        path,
        `${path} holds no complete checkpoint`,
        isTraining(folder)
          ? 'a process trains there and has not saved yet: wait for its end, or have runs save on their way with --checkpoint.every'
          : 'the run ended before its first save: train it again',
      );
    return { run: folder, checkpoint: newest.path, step: newest.step, ...own };
  }
  const state = readTrainerState(folder);
  if (!state) {
    if (!existsSync(join(folder, configName)))
      throw absent(
        path,
        `${path} holds no ${configName}`,
        'give a run, a checkpoint or a weights folder',
      );
    return { run: null, checkpoint: folder, step: 0, config: null, preset: null, origins: {} };
  }
  if (/^step-\d+(\.tmp)?$/.test(basename(folder)) && !existsSync(join(folder, completeName)))
    throw absent(
      path,
      `${path} was not saved to its end`,
      'resume from the run’s folder: it takes the newest complete checkpoint',
    );
  const above = dirname(dirname(folder));
  const around = basename(dirname(folder)) === 'checkpoints' ? runConfigOf(above) : null;
  return {
    run: around ? above : null,
    checkpoint: folder,
    step: state.step,
    config: state.config,
    preset: state.preset,
    origins: around?.origins ?? {},
  };
}

/**
 * Refuses a folder that holds something beside the lock.
 * @param run - the folder, locked
 * @throws `ERR_BALEEN_USAGE_RUN_EXISTS`
 */
export function checkEmpty(run: string): void {
  if (readdirSync(run).every(isRunLock)) return;
  throw Object.assign(new Error(`${run} exists already`), {
    code: 'ERR_BALEEN_USAGE_RUN_EXISTS',
    path: run,
    hint: 'choose another folder with --out, or go on with --resume',
  });
}

/**
 * Makes an empty folder a run's, with its config.json complete or not there.
 * @param run - the folder, locked
 * @param contents - what config.json says
 * @throws `ERR_BALEEN_USAGE_RUN_EXISTS` where something came into it meanwhile
 */
export function createRun(run: string, contents: RunConfig): void {
  checkEmpty(run);
  writeRunConfig(run, contents);
}

/**
 * Makes a run ready to go on from one of its checkpoints: clears away interrupted saves, cuts metrics.jsonl back to the
 * checkpoint's step and writes the configuration it goes on with.
 * @param run - the folder
 * @param step - the checkpoint's
 * @param contents - what config.json says from now on
 */
export function reopenRun(run: string, step: number, contents: RunConfig): void {
  clearInterrupted(run);
  if (existsSync(join(run, metricsName))) rewriteMetrics(run, step);
  writeRunConfig(run, contents);
}

/**
 * Cuts metrics.jsonl back to the step that a run goes on after.
 * @param run - the folder, in which nobody writes
 * @param step - of the checkpoint, 0 for the beginning
 * @param more - events behind what stays
 */
export function rewriteMetrics(run: string, step: number, ...more: TrainEvent[]): void {
  const kept = readMetrics(run).filter((event) => isBefore(event, step));
  const lines = [...kept, ...more].map((event) => `${JSON.stringify(event)}\n`);
  writeFile(join(run, metricsName), lines.join(''));
}

function isBefore(event: TrainEvent, step: number): boolean {
  if (event.type === 'start') return (event.resumedFrom ?? 0) <= step;
  return event.type !== 'end' && event.type !== 'stopped' && event.step <= step;
}

function writeRunConfig(run: string, contents: RunConfig): void {
  writeFile(join(run, configName), `${JSON.stringify(contents, null, 2)}\n`);
}

/**
 * Reads a run's events. A last line that was cut off is left out.
 * @param run - the folder
 * @returns its events, in order
 */
export function readMetrics(run: string): TrainEvent[] {
  const path = join(run, metricsName);
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  // What stands behind the last line end is empty, or a line that was never finished.
  return lines.slice(0, -1).map((line, index) => {
    try {
      return JSON.parse(line) as TrainEvent;
    } catch (error) {
      throw Object.assign(
        new Error(`${path}: line ${index + 1} is not JSON (${(error as Error).message})`),
        {
          code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
          path,
          hint: 'remove that line: the checkpoints do not depend on it',
        },
      );
    }
  });
}

/** Appends events to metrics.jsonl. */
export class MetricsWriter {
  private readonly fd: number;
  private readonly path: string;

  /** @param run - the folder */
  constructor(run: string) {
    this.path = join(run, metricsName);
    this.fd = openSync(this.path, 'a');
  }

  /**
   * Appends an event as one line.
   * @param event - the event
   * @throws `ERR_BALEEN_IO_DISK_FULL`
   */
  append(event: TrainEvent): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.fd, bytes, done);
      // A checkpoint must not outlive the events before it.
      if (event.type !== 'step') fsyncSync(this.fd);
    } catch (error) {
      throw diskError(error, this.path);
    }
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.fd);
  }
}
