// The door of @baleen/comm/threads: ranks as threads of this process, over shared memory.
import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';

import { describeKernels, setThreads } from '@baleen/kernels';

import { type ErrorReport, errorOfReport } from './error-report';
import { commError } from './errors';
import { startWorker } from './start-worker';
import { Bells } from './threads/bells';
import { Ends, rankState } from './threads/job';
import { GroupMemory } from './threads/memory';
import type { RankData, RankReport } from './threads/report';
import type { JobMemory } from './threads/thread';

export type { Communicator } from './communicator';

/** Options of {@link threads}. */
export interface ThreadsOptions {
  /** Milliseconds that a call waits for other ranks where it says nothing (default 300,000). */
  deadlineMs?: number;
  /** Milliseconds that the other ranks have to end after one has failed, before they are stopped (default 2,000). */
  graceMs?: number;
  /** Stops the job. */
  signal?: AbortSignal;
}

/** Looks at a word before a thread sleeps: worth it only where the others have processors of their own. */
const spins = 2000;
const spinsCrowded = 50;

/** Errors of ranks that are the consequence of what another did. */
const consequences = new Set(
  ['RANK_FAILED', 'DEADLINE', 'ABORTED'].map((what) => `ERR_BALEEN_COMM_${what}`),
);

/**
 * Runs a module on several ranks, each a worker thread of this process. The module's default export is called on each
 * with the rank's communicator, on which calls go through shared memory, and `args`; it may be async. What lies in a
 * `SharedArrayBuffer` is read by the others where it is; ordinary arrays are copied through shared memory.
 *
 * The kernels' thread pool shrinks to each rank's share while the job runs. When a rank throws or exits, the others'
 * calls that wait for it throw ERR_BALEEN_COMM_RANK_FAILED, and after `graceMs` what still runs is stopped.
 * @param ranks - how many, 1 to 256
 * @param module - what to run: JavaScript, `new URL('./work.js', import.meta.url)`
 * @param args - given to each rank, as a structured clone; shared memory in it stays shared
 * @param options - see {@link ThreadsOptions}
 * @returns what each rank returned, by rank
 * @throws ERR_BALEEN_COMM_OPTIONS where an argument is wrong; what the first rank to blame threw, with its `rank`,
 * and as `cause` of an ERR_BALEEN_COMM_RANK_FAILED where it has no code of ours; ERR_BALEEN_COMM_ABORTED where the signal stopped it
 *
 * @example
 * ```ts
 * import { threads } from '@baleen/comm/threads';
 * const source = `export default (communicator, first) => {
 *   const sum = new Float32Array(1);
 *   communicator.allReduce(sum, Float32Array.of(first + communicator.rank));
 *   return sum[0];
 * }`;
 * const module = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
 * console.log((await threads<number>(3, module, 10)).join(' ')); // => 33 33 33
 * ```
 */
export async function threads<Result = unknown>(
  ranks: number,
  module: URL | string,
  args?: unknown,
  options: ThreadsOptions = {},
): Promise<Result[]> {
  const { deadlineMs = 300_000, graceMs = 2000, signal } = options;
  checkNumber('ranks', ranks, Number.isInteger(ranks) && ranks >= 1 && ranks <= 256, '1 to 256');
  checkNumber('deadlineMs', deadlineMs, deadlineMs >= 0, 'milliseconds');
  checkNumber('graceMs', graceMs, graceMs >= 0, 'milliseconds');
  if (signal?.aborted) throw stopped();
  const job: JobMemory = {
    ranks,
    channel: `baleen-comm-${globalThis.crypto.randomUUID()}`,
    bells: Bells.memory(2 * ranks),
    ends: Ends.memory(ranks),
    world: GroupMemory.make(ranks),
    spins: ranks <= availableParallelism() ? spins : spinsCrowded,
    deadlineMs,
  };
  const before = describeKernels().threads;
  setThreads(Math.max(1, Math.floor(before / ranks)));
  try {
    return (await run(job, String(module), args, graceMs, signal)) as Result[];
  } finally {
    setThreads(before);
  }
}

/** Runs the ranks of a job to their ends. */
function run(
  job: JobMemory,
  url: string,
  args: unknown,
  graceMs: number,
  signal: AbortSignal | undefined,
): Promise<unknown[]> {
  const { ranks } = job;
  const ends = new Ends(job.ends, ranks);
  const bells = new Bells(job.bells, 0, 0);
  const reports: (RankReport | undefined)[] = Array.from({ length: ranks });
  /** Ranks that failed, in the order in which that was heard of. */
  const failures: { rank: number; error: ErrorReport }[] = [];
  return new Promise((resolve, reject) => {
    let running = ranks;
    let grace: NodeJS.Timeout | undefined;
    const stop = (): void => {
      for (const worker of workers) void worker.terminate();
    };
    const abort = (): void => {
      stop();
    };
    const fail = (rank: number, error: ErrorReport): void => {
      failures.push({ rank, error });
      grace ??= setTimeout(stop, graceMs);
    };
    const start = (rank: number): Worker => {
      const workerData: RankData = { job, rank, url, args };
      const worker = startWorker('rank', workerData);
      worker.on('message', (report: RankReport) => {
        reports[rank] = report;
        if ('error' in report) fail(rank, report.error);
      });
      let thrown: unknown;
      worker.on('error', (error) => {
        thrown = error;
      });
      worker.on('exit', (code) => {
        if (!reports[rank]) {
          const text =
            thrown === undefined
              ? `exited with code ${code} before its work was done`
              : `died of “${thrown instanceof Error ? thrown.message : 'something unknown'}”`;
          ends.set(rank, rankState.failed, text);
          for (let thread = 0; thread < 2 * ranks; thread += 1) bells.ring(thread);
          // One that was stopped because of another is not to blame.
          if (!signal?.aborted && failures.length === 0)
            fail(rank, failedRank(rank, text, thrown instanceof Error ? thrown.stack : undefined));
        }
        running -= 1;
        if (running > 0) return;
        clearTimeout(grace);
        signal?.removeEventListener('abort', abort);
        if (signal?.aborted) reject(stopped());
        else if (failures.length > 0) reject(toBlame(failures));
        else resolve(reports.map((report) => (report as { result: unknown }).result));
      });
      return worker;
    };
    signal?.addEventListener('abort', abort, { once: true });
    const workers = Array.from({ length: ranks }, (_, rank) => start(rank));
  });
}

/** The error of the job: that of the first rank that failed by itself, and where there is none the first. */
function toBlame(failures: readonly { rank: number; error: ErrorReport }[]): Error {
  const { rank, error } =
    failures.find(({ error: { code } }) => !consequences.has(code ?? '')) ?? failures[0];
  const cause = errorOfReport(error);
  if (!error.code?.startsWith('ERR_BALEEN_'))
    return Object.assign(errorOfReport(failedRank(rank, `threw “${error.message}”`, undefined)), {
      cause,
    });
  return Object.assign(cause, { rank });
}

function failedRank(rank: number, text: string, stack: string | undefined): ErrorReport {
  const message = `rank ${rank} ${text}`;
  return {
    name: 'Error',
    message,
    stack: stack ?? message,
    code: 'ERR_BALEEN_COMM_RANK_FAILED',
    hint: 'the job ends with its first rank that fails; see `cause` for what it threw',
    ranks: [rank],
    jobRanks: [rank],
  };
}

function stopped(): Error {
  return commError(
    'ABORTED',
    'threads: the job was stopped by its signal',
    'start it again with a signal that was not raised',
  );
}

function checkNumber(path: string, value: number, fits: boolean, what: string): void {
  if (!fits)
    throw commError('OPTIONS', `threads: ${path} (${value}) is not ${what}`, `give ${what}`, {
      path,
    });
}
