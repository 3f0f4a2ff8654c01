// Where a run goes: a new folder, never one that already holds a run.
import { mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative } from 'node:path';

import { checkRunLock, isRunLock, makeFolder } from '@baleen/trainer';

import { usageError } from './errors';

/**
 * Claims a new run folder, so that two runs that start together do not share one.
 * @param name - such as the preset's name
 * @param root - folder of the runs
 * @returns `runs/<name>-<n>`, created, with the smallest n above those that exist
 */
export function claimRunFolder(name: string, root = 'runs'): string {
  makeFolder(root);
  let number =
    1 +
    readdirSync(root)
      .filter((entry) => entry.startsWith(`${name}-`))
      .map((entry) => Number(entry.slice(name.length + 1)))
      .filter((value) => Number.isInteger(value))
      .reduce((most, value) => Math.max(most, value), 0);
  for (;;) {
    const folder = join(root, `${name}-${number}`);
    try {
      mkdirSync(folder);
      return folder;
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error;
      number += 1;
    }
  }
}

/**
 * Gives a claimed folder back if nothing was written to it.
 * @param folder - what {@link claimRunFolder} returned
 */
export function releaseRunFolder(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It holds something, or is gone: both are fine.
  }
}

/**
 * Refuses a folder that would be overwritten, or in which a process trains.
 * @param folder - what `--out` names
 * @param command - how this command is typed here
 */
export function checkOut(folder: string, command: string): void {
  let entries: string[];
  try {
    if (!statSync(folder).isDirectory())
      throw usageError('OUT', `--out ${folder} is a file`, 'name a folder', folder);
    checkRunLock(folder);
    entries = readdirSync(folder).filter((name) => !isRunLock(name));
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw error;
  }
  if (entries.length === 0) return;
  const run = entries.includes('checkpoints') || entries.includes('metrics.jsonl');
  throw usageError(
    'OUT',
    `--out ${folder} ${run ? 'already holds a run' : 'is not empty'}`,
    run
      ? `continue it with \`${command} train --resume ${folder}\`, or name a new folder`
      : 'name a new or empty folder',
    folder,
  );
}

/**
 * The run a path belongs to: the path itself, or the run folder around `checkpoints/step-N`.
 * @param path - a run folder or one of its checkpoints
 * @returns the run folder
 */
export function runOf(path: string): string {
  const parent = dirname(path);
  return basename(parent) === 'checkpoints' ? dirname(parent) : path;
}

/**
 * A path as it is typed in the current folder.
 * @param path - any path
 * @returns relative when it lies below the current folder
 */
export function shown(path: string): string {
  const near = relative(process.cwd(), path);
  return near === '' || near.startsWith('..') || isAbsolute(near) ? path : near;
}
