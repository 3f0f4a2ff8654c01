// A stage that sleeps instead of computing, so that a schedule of many ranks can be timed on a machine of few processors.
import { type Costs, fullCosts } from './costs';
import { scheduleError } from './errors';
import { costsOfPhases, type PhaseTimes } from './phases';
import type { CommunicationPhase, ComputePhase, Handle, Stage } from './stage';

/** How long a stage that sleeps takes, in milliseconds; how long a pair takes follows from its phases. */
export type TimedStageTimes = Omit<Costs, 'overlap'> | Omit<PhaseTimes, 'processors'>;

/** What a stage that sleeps puts out, and how it communicates. */
export interface TimedStageOptions<T> {
  /**
   * What it puts out, forward and back.
   * @param microBatch - of which micro-batch
   */
  output: (microBatch: number) => T;
  /**
   * Begins a dispatch or a combine; needed where times are given by phase. An all-to-all over `emulatedLink` of
   * `@baleen/comm`, whose bytes follow from `ms`, takes time and no processor.
   * @param ms - how long it is to take
   */
  exchange?: (ms: number) => Handle<void>;
}

/**
 * A stage that sleeps instead of computing. It blocks its thread, as compute does, so each rank needs a thread or a process of
 * its own, which may block: not the main thread of a browser.
 * @param times - see {@link TimedStageTimes}
 * @param options - see {@link TimedStageOptions}
 * @returns the stage: one phase, or four a layer
 * @throws ERR_BALEEN_SCHEDULE_COSTS for times that cannot be; ERR_BALEEN_SCHEDULE_STAGES without `exchange` where phases need it
 *
 * @example
 * ```ts
 * import { execute, generateSchedule, measuredTimeline, timedStage } from '@baleen/dualpipe';
 * const schedule = generateSchedule('1f1b', { ranks: 1, microBatches: 2 });
 * const stage = timedStage({ forward: 4, inputGrad: 4, weightGrad: 2 }, { output: () => 'nothing' });
 * const ran = await execute(schedule, 0, { stages: new Map([[0, stage]]) });
 * console.log(measuredTimeline(schedule, [ran]).total >= 20); // => true
 * ```
 */
export function timedStage<T>(times: TimedStageTimes, options: TimedStageOptions<T>): Stage<T> {
  const { output, exchange } = options;
  const compute = (forward: number, inputGrad: number, weightGrad: number): ComputePhase<T> => ({
    kind: 'compute',
    forward: (microBatch) => {
      sleep(forward);
      return output(microBatch);
    },
    inputGrad: (microBatch) => {
      sleep(inputGrad);
      return output(microBatch);
    },
    weightGrad: () => {
      sleep(weightGrad);
    },
  });
  if (!('layers' in times)) {
    const { forward, inputGrad, weightGrad } = fullCosts(times);
    return [compute(forward, inputGrad, weightGrad)];
  }
  costsOfPhases(times); // refuses what cannot be
  if (!exchange)
    throw scheduleError(
      'STAGES',
      'exchange',
      'timedStage has phases that communicate and no exchange',
      'give exchange, or times as three numbers',
    );
  const { layers, forward, inputGrad, weightGrad } = times;
  const communicate = (phase: 'dispatch' | 'combine'): CommunicationPhase<T> => ({
    kind: 'communication',
    forward: (_, value) => passing(exchange(forward[phase]), value),
    inputGrad: (_, value) => passing(exchange(inputGrad[phase]), value),
  });
  const layer = [
    compute(forward.attention, inputGrad.attention, weightGrad.attention),
    communicate('dispatch'),
    compute(forward.experts, inputGrad.experts, weightGrad.experts),
    communicate('combine'),
  ];
  return Array.from({ length: layers }, () => layer).flat();
}

/** A value that has arrived when a call has ended. */
function passing<T>(under: Handle<void>, value: T): Handle<T> {
  return {
    get done() {
      return under.done;
    },
    wait: () => {
      under.wait();
      return value;
    },
  };
}

function sleep(ms: number): void {
  // Nobody rings.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
