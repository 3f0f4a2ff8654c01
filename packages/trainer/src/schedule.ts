// V3's schedules (§4.2) as pure functions of how far a run is: `done` is the share of the run's tokens, the step asked
// about included, so that the first step does not have rate 0 and the last one has exactly 1.
import type { ScheduleConfig, TrainConfig } from './config';

/**
 * Sequences of a step: linear from `rampFrom` to `sequences` over `rampShare` of the steps,, by `rampBy` at a time.
 * @param batch - the batch's configuration
 * @param steps - steps of the run
 * @param step - from 0
 * @returns sequences
 */
export function batchAt(batch: TrainConfig['batch'], steps: number, step: number): number {
  const { sequences, rampFrom, rampShare, rampBy, microBatch } = batch;
  const ramp = rampShare * steps;
  if (step >= ramp) return sequences;
  const grown = ((sequences - rampFrom) * step) / ramp;
  const by = rampBy ?? microBatch;
  return rampFrom + Math.floor(grown / by) * by;
}

/**
 * Learning rate: linear from 0 to the peak, constant, cosine to the end, then the final constant pieces.
 * @param rates - the schedule
 * @param done - share of the run's tokens, in (0, 1]
 * @returns the rate
 */
export function learningRateAt(rates: ScheduleConfig['learningRate'], done: number): number {
  const { peak, warmupShare, constantShare, end, finalShares } = rates;
  if (done < warmupShare) return (peak * done) / warmupShare;
  const cosineFrom = warmupShare + constantShare;
  const cosineTo = 1 - finalShares.reduce((sum, { share }) => sum + share, 0);
  if (done <= cosineFrom) return peak;
  if (done <= cosineTo) {
    const turn = (done - cosineFrom) / (cosineTo - cosineFrom);
    return end + 0.5 * (peak - end) * (1 + Math.cos(Math.PI * turn));
  }
  let border = cosineTo;
  for (const { share, rate } of finalShares) {
    border += share;
    if (done <= border) return rate;
  }
  return finalShares.at(-1)?.rate ?? end;
}

/**
 * γ of loss-free balancing: constant, then 0 for the last share.
 * @param bias - the schedule
 * @param done - share of the run's tokens
 * @returns γ
 */
export function biasSpeedAt(bias: ScheduleConfig['biasSpeed'], done: number): number {
  return done > 1 - bias.freezeShare ? 0 : bias.speed;
}

/**
 * λ of multi-token prediction.
 * @param weight - the schedule
 * @param done - share of the run's tokens
 * @returns λ
 */
export function mtpWeightAt(weight: ScheduleConfig['mtpWeight'], done: number): number {
  return done > 1 - weight.lastShare ? weight.last : weight.first;
}

/** What a step runs with. */
export interface StepPlan {
  /** Sequences. */
  sequences: number;
  /** Learning rate. */
  learningRate: number;
  /** γ. */
  biasSpeed: number;
  /** λ. */
  mtpWeight: number;
}

/** A run's steps. */
export interface RunPlan {
  /** Tokens of all steps. */
  readonly totalTokens: number;
  /** Tokens of the steps before one, from 0. */
  tokensBefore(step: number): number;
  /** What a step, from 0, runs with. */
  at(step: number): StepPlan;
}

/**
 * The plan of a run.
 * @param config - batch, steps and schedules
 * @returns what every step runs with
 */
export function planOf(config: Pick<TrainConfig, 'batch' | 'steps' | 'schedule'>): RunPlan {
  const { batch, steps, schedule } = config;
  const before = new Float64Array(steps + 1);
  for (let step = 0; step < steps; step += 1)
    before[step + 1] = before[step] + batchAt(batch, steps, step) * batch.sequence;
  const totalTokens = before[steps];
  return {
    totalTokens,
    tokensBefore: (step) => before[step],
    at: (step) => {
      const done = before[step + 1] / totalTokens;
      return {
        sequences: batchAt(batch, steps, step),
        learningRate: learningRateAt(schedule.learningRate, done),
        biasSpeed: biasSpeedAt(schedule.biasSpeed, done),
        mtpWeight: mtpWeightAt(schedule.mtpWeight, done),
      };
    },
  };
}
