// Drills: a rank that dies, hangs or falls behind in a step of one's choice, to see what becomes of a run.
import { isMainThread } from 'node:worker_threads';

/** What is to go wrong, and where. */
export interface Fault {
  /** The rank ends without a word, does nothing any more, or takes three times as long from then on. */
  kind: 'kill' | 'hang' | 'slow';
  /** Which, from 0. */
  rank: number;
  /** In which step, from 1: in the middle of it. */
  step: number;
}

function refuse(message: string, hint: string): never {
  throw Object.assign(new Error(message), {
    code: 'ERR_BALEEN_USAGE_INJECT',
    path: 'inject',
    hint,
  });
}

/**
 * Reads a fault.
 * @param text - such as `kill-rank=1@step=10`; also `hang-rank` and `slow-rank`
 * @returns what it says
 * @throws `ERR_BALEEN_USAGE_INJECT`
 */
export function faultOf(text: string): Fault {
  const found = /^(kill|hang|slow)-rank=(\d+)@step=(\d+)$/.exec(text);
  if (!found)
    refuse(`inject (${text}) is no fault`, 'write kill-rank=1@step=10, or hang-rank or slow-rank');
  const [, kind, rank, step] = found;
  return { kind: kind as Fault['kind'], rank: Number(rank), step: Number(step) };
}

/**
 * Refuses faults that would never come.
 * @param faults - what is to go wrong
 * @param ranks - of the run
 * @param steps - of the run
 * @throws `ERR_BALEEN_USAGE_INJECT`
 */
export function checkFaults(faults: readonly Fault[], ranks: number, steps: number): void {
  for (const { kind, rank, step } of faults) {
    const name = `inject (${kind}-rank=${rank}@step=${step})`;
    if (rank >= ranks)
      refuse(`${name}: there is no rank ${rank}, of ${ranks}`, `choose a rank below ${ranks}`);
    if (step < 1 || step > steps)
      refuse(`${name}: there is no step ${step}, of ${steps}`, `choose a step from 1 to ${steps}`);
  }
}

/** Carries out what is to go wrong on one rank. */
export class Drill {
  private readonly faults: readonly Fault[];

  /**
   * @param faults - those of all ranks
   * @param rank - this one
   */
  constructor(faults: readonly Fault[], rank: number) {
    this.faults = faults.filter((fault) => fault.rank === rank);
  }

  /**
   * To be called in the middle of a step.
   * @param step - from 1
   */
  within(step: number): void {
    for (const fault of this.faults)
      if (fault.step === step && fault.kind === 'kill') die();
      else if (fault.step === step && fault.kind === 'hang') sleep(Infinity);
  }

  /**
   * To be called when a step's own work is done.
   * @param step - from 1
   * @param seconds - that it took
   */
  after(step: number, seconds: number): void {
    if (this.faults.some((fault) => fault.kind === 'slow' && fault.step <= step))
      sleep(2000 * seconds);
  }
}

/** As the system ends a process: nothing is closed, nobody is told. A thread cannot be ended so, but it can leave. */
function die(): void {
  if (isMainThread) process.kill(process.pid, 'SIGKILL');
  process.exit(137);
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
