// Ranks as processes that a launcher starts (mpirun, srun): each runs train-process.js of the build, and what the first one
// says comes out here. Whatever a launcher does when ranks die or hang, or does not do behind a link that is down, here it has
// an end: after the first failure it is given a few seconds, then it is killed with the ranks that run on this machine. Ranks
// elsewhere end by their own deadline.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { type ErrorReport, errorOfReport } from '@baleen/comm';

import type { TrainEvent, TrainResult } from './events';
import { Inbox, type RankMessage, type RankWork, type StopMessage } from './rank-messages';
import { isLost } from './ranks/lost';
import { holderOf, type LockHolder } from './run-lock';
import type { TrainOptions } from './session';

/** Processes run the build, whether this is the build or the sources. */
const program = fileURLToPath(new URL('../dist/train-process.js', import.meta.url));
/** What begins a line that a rank says to whoever started it. */
const mark = '{"baleen":';
/** Milliseconds that a launcher has to end by itself when a rank has failed or all have ended. */
const graceMs = 5000;
/** Milliseconds that a launcher has at least to start all ranks. */
const startMs = 60_000;
/** How launchers say how many ranks to start; it is said here. */
const counts = /^(-n|-np|--np|--ntasks)(=|$)/;

/**
 * A message as a line.
 * @param message - of a rank
 * @returns the line with its end
 */
export function lineOf(message: RankMessage): string {
  return `${mark}${JSON.stringify(message)}}\n`;
}

/** What is known of a job that a launcher runs. */
class Job {
  readonly inbox = new Inbox();
  /** How ranks failed, in the order in which that was heard of. */
  readonly failures: { rank: number; error: ErrorReport }[] = [];
  readonly exited: Promise<string>;
  /** Ranks that have begun. */
  private readonly began = new Map<number, LockHolder>();
  private readonly child: ChildProcess;
  private readonly ranks: number;
  /** The same launcher has started ranks before. */
  private readonly again: boolean;
  /** The end of what the launcher said. */
  private tail = '';
  private killing: NodeJS.Timeout | undefined;

  constructor(
    private readonly launch: readonly string[],
    { config, options: { restarts = 0 } }: RankWork,
    deadlineMs: number,
    private readonly options: Pick<TrainOptions, 'onEvaluation' | 'onLaunched'>,
  ) {
    this.ranks = config.layout.ranks;
    this.again = restarts > 0;
    const [command, ...flags] = launch;
    const what = [process.execPath, program, String(deadlineMs)];
    // A process group of its own: Ctrl-C is for us, and we tell the ranks.
    this.child = spawn(command, [...flags, '-n', String(this.ranks), ...what], {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { stdin, stdout, stderr } = this.child;
    // It may be gone before it has read all.
    stdin?.on('error', () => undefined);
    if (stdout)
      createInterface({ input: stdout }).on('line', (line) => {
        this.hear(line);
      });
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.tail = `${this.tail}${text}`.slice(-8192);
      options.onLaunched?.(text);
    });
    this.exited = new Promise((resolve) => {
      this.child.once('error', (error) => {
        resolve(`could not be started (${error.message})`);
      });
      this.child.once('exit', (code, signal) => {
        // What it said last may still be on its way, and somebody else may hold the other end.
        const done = (): void => {
          resolve(signal === null ? `ended with code ${code}` : `was ended by ${signal}`);
        };
        this.child.once('close', done);
        setTimeout(done, 1000).unref();
      });
    });
    void this.exited.then((how) => {
      this.inbox.fail(this.failure(how));
    });
    this.killing = setTimeout(
      () => {
        this.kill();
      },
      Math.max(startMs, deadlineMs),
    );
  }

  /** Whether a rank is there, or was. */
  get hasBegun(): boolean {
    return this.began.size > 0;
  }

  /** Tells the first rank something. */
  tell(message: RankWork | StopMessage): void {
    this.child.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  /** Gives the launcher a few seconds to end. */
  end(): void {
    clearTimeout(this.killing);
    this.killing = setTimeout(() => {
      this.kill();
    }, graceMs);
  }

  /** Ends the launcher, and the ranks that run on this machine. */
  kill(): void {
    const here = holderOf(process.pid);
    const stop = (pid: number): void => {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It is gone.
      }
    };
    if (this.child.pid !== undefined) stop(-this.child.pid);
    for (const { pid, host, pidNamespace, started } of this.began.values()) {
      const near = host === here.host && pidNamespace === here.pidNamespace;
      // Its number may be somebody else's by now.
      if (near && started !== null && holderOf(pid).started === started) stop(pid);
    }
  }

  /** Forgets about it, once the launcher has ended. */
  close(): void {
    clearTimeout(this.killing);
    this.child.stdin?.destroy();
    this.child.stdout?.destroy();
    this.child.stderr?.destroy();
  }

  private hear(line: string): void {
    if (!line.startsWith(mark)) {
      this.options.onLaunched?.(`${line}\n`);
      return;
    }
    const message = JSON.parse(line.slice(mark.length, -1)) as RankMessage;
    if ('share' in message) this.options.onEvaluation?.(message.share);
    else if ('began' in message) {
      const { rank, process: holder } = message.began;
      this.began.set(rank, holder);
      if (this.began.size === this.ranks) clearTimeout(this.killing);
    } else if ('failed' in message) {
      const { rank, error } = message.failed;
      this.failures.push(message.failed);
      this.options.onLaunched?.(`rank ${rank}: ${error.message}\n`);
      if (this.failures.length === 1) this.end();
    } else this.inbox.put(message);
  }

  /** Why the job ended: a rank that failed by itself, one that was waited for, whom the launcher names, or just how. */
  private failure(how: string): Error {
    const errors = this.failures.map(({ rank, error }) =>
      Object.assign(errorOfReport(error), { rank }),
    );
    const own = errors.find((error): boolean => !isLost(error)) ?? errors.at(0);
    if (own) return own;
    const command = this.launch.join(' ');
    if (!this.hasBegun && this.again)
      return Object.assign(new Error(`the launcher ${how} before a rank had begun`), {
        code: 'ERR_BALEEN_COMM_RANK_FAILED',
        jobRanks: Array.from({ length: this.ranks }, (_, rank) => rank),
        hint: 'see whether all machines can be reached',
      });
    if (!this.hasBegun)
      return Object.assign(new Error(`launch (${command}): it ${how} before a rank had begun`), {
        code: 'ERR_BALEEN_USAGE_LAUNCH',
        path: 'launch',
        hint: `see what it said: ${lastLines(this.tail) || 'nothing'}`,
      });
    // Open MPI's words, and those of Slurm.
    const named = /(?:process rank|task) (\d+)\b.*/.exec(this.tail);
    const missing = Array.from({ length: this.ranks }, (_, rank) => rank).filter(
      (rank) => !this.began.has(rank),
    );
    const died = named ? [Number(named[1])] : missing;
    const text = named
      ? `rank ${died[0]} died (${named[0].trim().replace(/\.$/, '')})`
      : missing.length > 0
        ? `ranks ${missing.join(', ')} did not begin, and the launcher ${how}`
        : `the launcher ${how}`;
    return Object.assign(new Error(text), {
      code: 'ERR_BALEEN_COMM_RANK_FAILED',
      jobRanks: died,
      hint: 'look for what that rank reported',
    });
  }
}

function lastLines(text: string): string {
  const lines = text.split('\n').filter((line) => /\w/.test(line));
  return lines.slice(-3).join(' ');
}

/**
 * Trains on `config.layout.ranks` processes, until the end or until a rank is lost.
 * @param work - what every rank is given
 * @param options - of the run: the launcher's words, its signal, its deadline, and who hears of evaluations
 * @returns events of the first rank; the generator's return value is the result
 * @throws what the rank to blame threw; `ERR_BALEEN_USAGE_LAUNCH` where the launcher starts none
 */
export async function* trainOnProcesses(
  work: RankWork,
  options: Pick<TrainOptions, 'signal' | 'onEvaluation' | 'onLaunched' | 'deadlineMs'> & {
    launch: readonly string[];
  },
): AsyncGenerator<TrainEvent, TrainResult, void> {
  const { launch, signal, deadlineMs = 300_000 } = options;
  const count = launch.find((word) => counts.test(word));
  if (launch.length === 0 || count !== undefined)
    throw Object.assign(
      new Error(`launch (${launch.join(' ')}) ${count ? `says ${count} itself` : 'is empty'}`),
      {
        code: 'ERR_BALEEN_USAGE_LAUNCH',
        path: 'launch',
        hint: 'give the launcher and its flags, such as mpirun --hostfile hosts; layout.ranks is how many it starts',
      },
    );
  const job = new Job(launch, work, deadlineMs, options);
  const stop = (): void => {
    job.tell({ stop: true });
  };
  signal?.addEventListener('abort', stop);
  let ended = false;
  try {
    job.tell(work);
    if (signal?.aborted) stop();
    for (;;) {
      const message = await job.inbox.take();
      if ('event' in message) yield message.event;
      else if ('result' in message) {
        job.end();
        await job.exited;
        ended = true;
        return message.result;
      }
    }
  } catch (error) {
    // Machines that cannot be reached yet may be later.
    if (isLost(error) && !job.hasBegun)
      await sleep(deadlineMs, null, signal ? { signal } : {}).catch(() => null);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
    // Whoever takes no more events wants no more training.
    if (!ended) job.kill();
    await job.exited;
    job.close();
  }
}
