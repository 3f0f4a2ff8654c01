// Where checkpoints lie: `checkpoints/step-N/`. A save is written to a temporary folder, flushed and renamed; the file
// COMPLETE comes last. What lacks it was interrupted: it is never read, and the next save or resume clears it away.
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';

import { writeFile } from '@baleen/model/node';

/** Marks a checkpoint whose every file is on disk. */
export const completeName = 'COMPLETE';

/** A complete checkpoint. */
export interface CheckpointFolder {
  /** Steps done. */
  step: number;
  /** Its folder. */
  path: string;
}

/**
 * The complete checkpoints of a run.
 * @param run - the run's folder
 * @returns in order of steps
 */
export function listCheckpoints(run: string): CheckpointFolder[] {
  const folder = join(run, 'checkpoints');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((name) => {
      const match = /^step-(\d+)$/.exec(name);
      return match ? [{ step: Number(match[1]), path: join(folder, name) }] : [];
    })
    .filter(({ path }) => existsSync(join(path, completeName)))
    .sort((a, b) => a.step - b.step);
}

/**
 * Clears away what interrupted saves and removals left.
 * @param run - the run's folder
 * @returns the folders removed
 */
export function clearInterrupted(run: string): string[] {
  const folder = join(run, 'checkpoints');
  if (!existsSync(folder)) return [];
  const whole = new Set(listCheckpoints(run).map(({ path }) => path));
  const left = readdirSync(folder)
    .filter((name) => /^step-\d+(\.tmp)?$/.test(name))
    .map((name) => join(folder, name))
    .filter((path) => !whole.has(path));
  for (const path of left) rmSync(path, { recursive: true, force: true });
  return left;
}

/**
 * Where a run's checkpoint lies.
 * @param run - the run's folder
 * @param step - steps done
 * @returns its folder
 */
export function checkpointPath(run: string, step: number): string {
  return join(run, 'checkpoints', `step-${step}`);
}

/**
 * Where a checkpoint is written before it is whole.
 * @param path - its folder
 * @returns the folder that becomes it
 */
export function temporaryPath(path: string): string {
  return `${path}.tmp`;
}

/**
 * Writes a checkpoint's folder so that it is complete or ignored.
 * @param run - the run's folder
 * @param step - steps done
 * @param write - writes and flushes its files into the folder given
 * @returns the folder
 */
export function commitCheckpoint(
  run: string,
  step: number,
  write: (folder: string) => void,
): string {
  const path = checkpointPath(run, step);
  const temporary = temporaryPath(path);
  rmSync(temporary, { recursive: true, force: true });
  try {
    write(temporary);
    flushFolder(temporary);
    rmSync(path, { recursive: true, force: true });
    renameSync(temporary, path);
    flushFolder(join(run, 'checkpoints'));
    writeFile(join(path, completeName), '');
    flushFolder(path);
  } catch (error) {
    // Not the folder itself: without COMPLETE it counts for nothing, and removing it could hide the error.
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
  return path;
}

/**
 * Removes the oldest checkpoints. COMPLETE goes first, so that a removal cut short leaves nothing that looks whole.
 * @param run - the run's folder
 * @param keep - how many stay
 */
export function pruneCheckpoints(run: string, keep: number): void {
  for (const { path } of listCheckpoints(run).slice(0, -keep)) {
    rmSync(join(path, completeName));
    rmSync(path, { recursive: true });
  }
}

/**
 * Size of a folder's files.
 * @param folder - without folders in it
 * @returns bytes
 */
export function folderBytes(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** Flushes a folder's list of names, where the system lets folders be flushed. */
function flushFolder(path: string): void {
  if (process.platform === 'win32') return;
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
