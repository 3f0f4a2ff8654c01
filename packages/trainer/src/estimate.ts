// What a run will take, before it runs: its step goes once through the null backend, which knows every shape and no value.
// Memory is exact (the trainer asks for the same blocks in the same order); time is a bound from the machine's peaks.
import { generateSchedule } from '@baleen/dualpipe';
import { type KernelCost, measurePeaks, nullKernels } from '@baleen/kernels';
import {
  countParameters,
  cutStages,
  Decoder,
  type ModelConfig,
  type RecomputedPart,
} from '@baleen/model';

import type { TrainConfig } from './config';
import { rankEstimate, type SentEstimate } from './estimate-layout';
import { pipelineBytes } from './ranks/stage-memory';
import { checkTrainConfig, modelConfigOf } from './resolve';
import { planOf } from './schedule';
import { TrainingStep } from './step';

/** Memory of a run, in bytes; of several ranks, that of the one that holds most. */
export interface MemoryEstimate {
  /** FP32 master weights. */
  parameters: number;
  /** FP32 gradients. */
  gradients: number;
  /** AdamW's moments. */
  optimizer: number;
  /** BF16 and FP8 forms of weights, rotary tables. */
  caches: number;
  /** Router biases and counts. */
  state: number;
  /** The step's tokens, targets and sums, and what gradients of several ranks travel and are added up in. */
  inputs: number;
  /**
   * Most intermediate memory at once: `peakRegionBytes` of a run, in a pipeline of the rank that takes most, whose micro-batches
   * under way are counted as its schedule has them. Rows of experts that are spread over ranks are taken to come evenly, and
   * come on top while they travel.
   */
  region: number;
  /** All of these. */
  total: number;
}

/** What a run will take. */
export interface Estimate {
  /** Trained values. */
  params: number;
  /** Of them used by one token. */
  activeParams: number;
  /** Tokens of a full step. */
  tokensPerStep: number;
  /** Tokens of the run. */
  tokens: number;
  /** Operations of a full step's products, recomputation included. */
  flopsPerStep: number;
  /** Memory of a rank. */
  bytes: MemoryEstimate;
  /** What a rank sends to others in a full step, in bytes; tokens are taken to choose experts evenly. */
  sent: SentEstimate;
  /**
   * Time of a full step at this machine's peaks: Σ max(FLOPs / peak, bytes / copy) over its kernel calls, as if all came
   * from memory; what caches keep is faster. Null without native kernels, which measure the peaks.
   */
  secondsPerStep: number | null;
}

/** Peaks of a machine: GFLOP/s, GFLOP/s and GB/s. */
export interface Peaks {
  /** FP32 multiply-adds. */
  fp32: number;
  /** BF16 dot products. */
  bf16Dot: number;
  /** Bytes read plus bytes written by a copy. */
  copy: number;
}

/** A step's kernel calls: those of one micro-batch, and those once a step. */
export interface StepCosts {
  /** Micro-batches of a full step. */
  microBatches: number;
  /** Calls of one. */
  microBatch: KernelCost[];
  /** Calls once a step. */
  update: KernelCost[];
}

/**
 * A run's model and step on the null backend: shapes and memory, no values.
 * @param config - the run
 * @param onCall - told what every kernel call costs
 * @param keep - parts that are kept for backward rather than made again
 * @returns both, before the first step
 */
export function stepOfShapes(
  config: TrainConfig,
  onCall?: (cost: KernelCost) => void,
  keep: readonly RecomputedPart[] = [],
): { model: Decoder; step: TrainingStep } {
  checkTrainConfig(config);
  const kernels = nullKernels(onCall && { onCall });
  const { batch, optimizer, precision, fp8, schedule, balance, data } = config;
  const model = new Decoder(kernels, modelConfigOf(config), precision, { fp8 });
  const { balanceFactor } = schedule;
  const { documentMask } = data;
  const settings = { batch, optimizer, balanceFactor, balance, documentMask, keep };
  return { model, step: new TrainingStep(model, settings) };
}

/** Builds the run on the null backend and sends a step's worth of work through it. */
function dryRun(
  config: TrainConfig,
  keep?: readonly RecomputedPart[],
): { model: Decoder; step: TrainingStep; costs: StepCosts; countingBytes: number } {
  let calls: KernelCost[] = [];
  const taken = (): KernelCost[] => {
    const list = calls;
    calls = [];
    return list;
  };
  const { batch, optimizer } = config;
  const { model, step } = stepOfShapes(config, (cost) => calls.push(cost), keep);
  let countingBytes = 0;
  let first: KernelCost[] | null = null;
  const oneMicroBatch = (): KernelCost[] => {
    step.countMicroBatch(0, batch.sequences);
    // Nothing else was in this memory yet.
    if (first === null) countingBytes = step.region.peakBytes;
    step.microBatch(0, batch.sequences);
    return taken();
  };
  // The first micro-batch also makes the weights' other forms: once a step, as the update does.
  first = oneMicroBatch();
  const microBatch = oneMicroBatch();
  const forms = difference(first, microBatch);
  step.optimizer.update(step.optimizer.norm, { ...optimizer, learningRate: 1 });
  for (const router of model.routers) router.updateBias(0);
  const update = [...forms, ...taken()];
  return {
    model,
    step,
    countingBytes,
    costs: { microBatches: batch.sequences / batch.microBatch, microBatch, update },
  };
}

/** The calls of `longer` that are not in `shorter`, which is a part of it in the same order. */
function difference(longer: KernelCost[], shorter: KernelCost[]): KernelCost[] {
  let next = 0;
  return longer.filter((cost) => {
    const other = shorter[next] as KernelCost | undefined;
    const same =
      other?.kernel === cost.kernel && other.flops === cost.flops && other.bytes === cost.bytes;
    if (same) next += 1;
    return !same;
  });
}

/**
 * The kernel calls of a full step.
 * @param config - the run
 * @param keep - parts that are kept for backward rather than made again (default none)
 * @returns their costs
 */
export function stepCosts(config: TrainConfig, keep?: readonly RecomputedPart[]): StepCosts {
  return dryRun(config, keep).costs;
}

/**
 * The time of a step at a machine's peaks: every call takes its operations at the peak, or its bytes at the speed of a
 * copy, whichever is longer.
 * @param costs - the step's calls
 * @param peaks - the machine's
 * @returns seconds
 */
export function boundSeconds(costs: StepCosts, peaks: Peaks): number {
  const seconds = (list: readonly KernelCost[]): number =>
    list.reduce((sum, { flops, bytes, unit }) => {
      const peak = unit === 'bf16' ? peaks.bf16Dot : peaks.fp32;
      return sum + Math.max(flops / (peak * 1e9), bytes / (peaks.copy * 1e9));
    }, 0);
  return costs.microBatches * seconds(costs.microBatch) + seconds(costs.update);
}

/** Memory of the micro-batches under way in a pipeline: of the rank that takes most. */
function stageRegions(
  { layout, batch }: TrainConfig,
  model: ModelConfig,
  step: TrainingStep,
): number {
  const microBatches = Math.ceil((batch.sequences * layout.pp) / (batch.microBatch * layout.ranks));
  const schedule = generateSchedule(layout.schedule, { ranks: layout.pp, microBatches });
  const stages = cutStages(model, schedule.stages);
  const known = new Map<boolean, number[]>();
  const bytesOf = (deferring: boolean): number[] => {
    const bytes = known.get(deferring) ?? step.passageBytes(stages, deferring);
    known.set(deferring, bytes);
    return bytes;
  };
  return pipelineBytes(schedule, bytesOf, layout);
}

/**
 * Estimates a run.
 * @param config - the run
 * @param options - `peaks`: this machine's (default: measured, which takes a second), or null to leave time out
 * @returns parameters, operations, memory and a bound on time
 */
export function estimate(config: TrainConfig, options: { peaks?: Peaks | null } = {}): Estimate {
  const { peaks = measurePeaks() } = options;
  const { model, step, costs, countingBytes } = dryRun(config);
  const { pools } = model;
  const alone = {
    parameters: pools.parameters.liveBytes,
    gradients: pools.gradients.liveBytes,
    optimizer: step.optimizer.region.liveBytes,
    caches: pools.caches.liveBytes,
    state: pools.state.liveBytes,
    inputs: step.fixed.liveBytes,
    region:
      config.layout.pp === 1
        ? step.region.peakBytes
        : countingBytes + stageRegions(config, model.config, step),
  };
  const { memory, sent } = rankEstimate(config, model, alone.caches);
  const { staging, ...held } = memory;
  // On one rank what the pools hold is exact, with all that lies between their blocks.
  const parts =
    config.layout.ranks === 1 && !config.layout.deterministic
      ? alone
      : { ...alone, ...held, inputs: alone.inputs + staging };
  const flops = (list: readonly KernelCost[]): number =>
    list.reduce((sum, cost) => sum + cost.flops, 0);
  const counts = countParameters(model.config);
  return {
    params: counts.trained,
    activeParams: counts.active,
    tokensPerStep: config.batch.sequences * config.batch.sequence,
    tokens: planOf(config).totalTokens,
    flopsPerStep: costs.microBatches * flops(costs.microBatch) + flops(costs.update),
    sent,
    bytes: { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) },
    secondsPerStep: peaks && boundSeconds(costs, peaks),
  };
}
