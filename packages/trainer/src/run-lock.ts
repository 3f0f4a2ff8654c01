// One process trains in a run's folder at a time: a file in it names who does.
//
// A process that was killed leaves the file behind. Its number alone would not tell, for numbers are given again: when
// the process began is kept beside it, where the system says so (/proc). No time limit: a kernel may block this process
// for longer than any that is sensible.
//
// The file comes into being with its contents, as a second name of one that was written aside: no reader finds half of
// it. So one that names nobody is never taken for a lock that was left.
import { createHash, randomUUID } from 'node:crypto';
import {
  linkSync,
  lstatSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { diskError } from '@baleen/model/node';

import { makeFolder, removeEmpty } from './make-folder';

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
  /** Where its number counts: the namespace of process numbers, a container's say; null where the system has none. */
  pidNamespace: string | null;
  /** When it took the lock. */
  since: string;
}

/**
 * A process as a lock names it.
 * @param pid - of this machine and namespace
 * @returns what the lock's file holds
 */
export function holderOf(pid: number): LockHolder {
  const started = processOf(pid)?.started ?? null;
  return {
    pid,
    started,
    host: hostname(),
    pidNamespace: ownNamespace(),
    since: new Date().toISOString(),
  };
}

/**
 * Locks a run's folder for this process, and makes it where it is absent.
 * @param run - the folder
 * @returns takes the lock away again, and the folders that were made for it if they are empty; may be called twice
 * @throws `ERR_BALEEN_USAGE_RUN_LOCKED` where a process trains there, this one included, and where nobody can tell;
 * `ERR_BALEEN_USAGE_FOLDER` where there can be no folder
 */
export function lockRun(run: string): () => void {
  const first = makeRunFolder(run);
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
    if (textOf(path, run) === text) rmSync(path, { force: true });
    removeEmpty(run, first);
  };
  process.on('exit', release);
  return release;
}

/**
 * Refuses a run's folder in which a process trains. What a process left that no longer runs is no obstacle.
 * @param run - the folder; it need not exist
 * @throws `ERR_BALEEN_USAGE_RUN_LOCKED` with the folder, and the process where it is known
 */
export function checkRunLock(run: string): void {
  const path = join(run, lockName);
  const text = textOf(path, run);
  if (text !== null && !isLeft(text)) throw locked(run, path, text);
}

/**
 * Whether a process trains in a run's folder, as far as can be told.
 * @param run - the folder
 * @returns true also where another machine's or container's lock lies
 */
export function isTraining(run: string): boolean {
  try {
    checkRunLock(run);
    return false;
  } catch {
    return true;
  }
}

/**
 * Makes the file ours. One that a process left is replaced by whoever first makes the file named after it: so of two
 * that find it at once one succeeds, and neither ever removes what the other has just made.
 */
function take(path: string, text: string, run: string): void {
  while (!create(path, text)) {
    const left = textOf(path, run);
    if (left === null) continue;
    if (!isLeft(left)) throw locked(run, path, left);
    const successor = `${path}.${createHash('sha256').update(left).digest('hex').slice(0, 16)}`;
    take(successor, text, run);
    if (textOf(path, run) === left && isLeft(left)) {
      renameSync(successor, path);
      return;
    }
    rmSync(successor, { force: true });
  }
}

function locked(run: string, path: string, text: string): Error {
  const holder = parse(text);
  if (!holder) return unknown(run, path, 'does not say by which process');
  const elsewhere = !isNear(holder);
  const where =
    holder.host !== hostname()
      ? ` on ${holder.host}`
      : elsewhere
        ? ` in another container of ${holder.host}`
        : '';
  const who = `process ${holder.pid}${where} since ${holder.since}`;
  return Object.assign(new Error(`${run} is being trained by ${who}`), {
    code: 'ERR_BALEEN_USAGE_RUN_LOCKED',
    path: run,
    pid: holder.pid,
    hint: `wait for it or stop it, or train into another folder with --out; if nothing trains there${elsewhere ? ' any more' : ''}, remove ${path}`,
  });
}

/** A folder with a lock that names no process. */
function unknown(run: string, path: string, why: string, cause?: unknown): Error {
  return Object.assign(new Error(`${run} is locked, but ${path} ${why}`), {
    code: 'ERR_BALEEN_USAGE_RUN_LOCKED',
    path: run,
    hint: `if nothing trains there, remove ${path}; or train into another folder with --out`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Makes the run's folder; returns the first that was made on the way to it. */
function makeRunFolder(run: string): string | undefined {
  try {
    return makeFolder(run);
  } catch (error) {
    throw diskError(error, run);
  }
}

/** Creates the file with all of its text; false where it exists. */
function create(path: string, text: string): boolean {
  const aside = `${path}.${randomUUID()}`;
  try {
    // On disk before it has its name: after a power cut too the lock is complete or absent.
    writeFileSync(aside, text, { flag: 'wx', flush: true });
    linkSync(aside, path);
    return true;
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall !== 'link') throw diskError(error, path);
    return code !== 'EEXIST' && createInPlace(path, text);
  } finally {
    rmSync(aside, { force: true });
  }
}

/** The same where files have one name each: whoever is killed before the text is written leaves a file without. */
function createInPlace(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') rmSync(path, { force: true });
    throw diskError(error, path);
  }
}

/** What a lock's file holds; null where there is none. */
function textOf(path: string, run: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') return null;
    if (code === 'EISDIR') throw unknown(run, path, 'is a folder', error);
    if (code !== 'ENOENT') throw unknown(run, path, `cannot be read (${code})`, error);
    // A link to nowhere has a name that nobody can take, and no contents: waiting for either would never end.
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink())
      throw unknown(run, path, 'is a link to a file that does not exist', error);
    return null;
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
function isLeft(text: string): boolean {
  const holder = parse(text);
  return holder !== null && !mayRun(holder);
}

/** Whether a holder's number is one of this process's world: of another machine or container nobody here can tell. */
function isNear({ host, pidNamespace }: LockHolder): boolean {
  return host === hostname() && pidNamespace === ownNamespace();
}

function ownNamespace(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null;
  }
}

/** Whether a holder may still be running. */
function mayRun(holder: LockHolder): boolean {
  if (!isNear(holder)) return true;
  const { pid, started } = holder;
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
