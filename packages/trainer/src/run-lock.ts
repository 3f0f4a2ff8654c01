// One process trains in a run's folder at a time: a file in it names who does.
//
// A process that was killed leaves the file behind. Its number alone would not tell, for numbers are given again: when
// the process began is kept beside it, where the system says so (/proc). No time limit: a kernel may block this process
// for longer than any that is sensible.
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

import { diskError } from '@baleen/model/node';

const lockName = 'train.lock';

/**
 * Whether a file in a run's folder is its lock, and not part of the run.
 * @param name - the file's
 * @returns true for `train.lock`, and for what a process leaves that is killed while it takes a lock over
 */
export function isRunLock(name: string): boolean {
  return name === lockName || name.startsWith(`${lockName}.`);
}

/** Who trains in a folder. */
export interface LockHolder {
  /** Process number. */
  pid: number;
  /** Identity of the process beside its number: boot and start; null where the system does not say. */
  started: string | null;
  /** Machine. */
  host: string;
  /** When it took the lock. */
  since: string;
}

/** Seconds after which a file that names nobody was left by a process that ended while it wrote it. */
const longestWrite = 10;

/**
 * A process as a lock names it.
 * @param pid - of this machine
 * @returns what the lock's file holds
 */
export function holderOf(pid: number): LockHolder {
  const started = processOf(pid)?.started ?? null;
  return { pid, started, host: hostname(), since: new Date().toISOString() };
}

/**
 * Locks a run's folder for this process, and makes it where it is absent.
 * @param run - the folder
 * @returns takes the lock away again, and the folders that were made for it if they are empty; may be called twice
 * @throws `ERR_BALEEN_USAGE_RUN_LOCKED` where a process trains there, this one included;
 * `ERR_BALEEN_USAGE_RUN_EXISTS` where a file lies there
 */
export function lockRun(run: string): () => void {
  const first = makeFolder(run);
  const path = join(run, lockName);
  const text = `${JSON.stringify(holderOf(process.pid))}\n`;
  try {
    take(path, text, run);
  } catch (error) {
    removeEmpty(run, first);
    throw error;
  }
  const release = (): void => {
    process.off('exit', release);
    if (textOf(path) === text) rmSync(path, { force: true });
    removeEmpty(run, first);
  };
  process.on('exit', release);
  return release;
}

/**
 * Refuses a run's folder in which a process trains. What a process left that no longer runs is no obstacle.
 * @param run - the folder; it need not exist
 * @throws `ERR_BALEEN_USAGE_RUN_LOCKED` with the process and the folder
 */
export function checkRunLock(run: string): void {
  const path = join(run, lockName);
  const text = textOf(path);
  if (text !== null && !isLeft(path, text)) throw locked(run, path, text);
}

/**
 * Makes the file ours. One that a process left is replaced by whoever first makes the file named after it: so of two
 * that find it at once one succeeds, and neither ever removes what the other has just made.
 */
function take(path: string, text: string, run: string): void {
  while (!create(path, text)) {
    const left = textOf(path);
    if (left === null) continue;
    if (!isLeft(path, left)) throw locked(run, path, left);
    const successor = `${path}.${createHash('sha256').update(left).digest('hex').slice(0, 16)}`;
    take(successor, text, run);
    if (textOf(path) === left && isLeft(path, left)) {
      renameSync(successor, path);
      return;
    }
    rmSync(successor, { force: true });
  }
}

function locked(run: string, path: string, text: string): Error {
  const holder = parse(text);
  const elsewhere = holder !== null && holder.host !== hostname();
  const who = holder === null ? 'another process' : `process ${holder.pid}`;
  const where = elsewhere ? ` on ${holder.host}` : '';
  const since = holder === null ? '' : ` since ${holder.since}`;
  return Object.assign(new Error(`${run} is being trained by ${who}${where}${since}`), {
    code: 'ERR_BALEEN_USAGE_RUN_LOCKED',
    path: run,
    ...(holder ? { pid: holder.pid } : {}),
    hint: `wait for it or stop it, or train into another folder with --out; if nothing trains there${elsewhere ? ' any more' : ''}, remove ${path}`,
  });
}

/** Makes a folder; returns the first that was missing on the way to it. */
function makeFolder(run: string): string | undefined {
  try {
    return mkdirSync(run, { recursive: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw diskError(error, run);
    throw Object.assign(new Error(`${run} is a file`), {
      code: 'ERR_BALEEN_USAGE_RUN_EXISTS',
      path: run,
      hint: 'name a folder with --out',
    });
  }
}

/** Creates the file with its text; false where it exists. */
function create(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') rmSync(path, { force: true });
    throw diskError(error, path);
  }
}

/** Removes a folder and those above it up to the first that was made, as far as they are empty. */
function removeEmpty(folder: string, first: string | undefined): void {
  if (first === undefined) return;
  try {
    for (let at = folder; at.length >= first.length; at = dirname(at)) rmdirSync(at);
  } catch {
    // It holds something.
  }
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}

function parse(text: string): LockHolder | null {
  try {
    const holder = JSON.parse(text) as Partial<LockHolder>;
    return Number.isSafeInteger(holder.pid) && typeof holder.host === 'string'
      ? (holder as LockHolder)
      : null;
  } catch {
    return null;
  }
}

/** Whether a lock was left by a process that no longer runs. */
function isLeft(path: string, text: string): boolean {
  const holder = parse(text);
  if (holder) return !mayRun(holder);
  const written = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return written !== undefined && Date.now() - written > longestWrite * 1000;
}

/** Whether a holder may still be running; of another machine nobody here can tell. */
function mayRun({ pid, started, host }: LockHolder): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, as somebody else.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const found = processOf(pid);
  return !found || (found.runs && (started === null || found.started === started));
}

/** What Linux says of a process: whether it runs, and which boot and tick it began in. */
function processOf(pid: number): { runs: boolean; started: string } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    // "pid (name) state …": the name may hold anything. The 22nd field is the start.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // Z and X: ended, but whoever started it has not asked how.
    return { runs: !['Z', 'X'].includes(fields[0]), started: `${boot} ${fields[19]}` };
  } catch {
    return null;
  }
}
