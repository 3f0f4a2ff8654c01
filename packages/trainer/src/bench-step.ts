// Measures training steps on made-up tokens: how fast, how close to what the machine could do, and where the time goes.
import {
  type KernelSpan,
  type Kernels,
  loadKernels,
  measurePeaks,
  profileKernels,
} from '@baleen/kernels';
import { Decoder, type RecomputedPart } from '@baleen/model';
import { initialize, mulberry32 } from '@baleen/tensor';

import { type ChromeTrace, chromeTrace, type Span } from './chrome-trace';
import type { TrainConfig } from './config';
import { boundSeconds, stepCosts } from './estimate';
import { checkOneRank } from './ranks/layout';
import { checkTrainConfig, modelConfigOf } from './resolve';
import { TrainingStep } from './step';
import type { StepBatch } from './step-tokens';

/** The line of `bench step --json`. */
export interface StepBenchmark {
  /** Preset measured, or null. */
  preset: string | null;
  /** Inputs of the linear layers' products. */
  precision: 'fp8' | 'bf16' | 'fp32';
  /** Threads of the pool. */
  threads: number;
  /** Tokens of a step. */
  tokensPerStep: number;
  /** Median time of a step: forward, backward, clipping, AdamW. */
  medianStepSeconds: number;
  /** Tokens a second at that time. */
  tokensPerSecond: number;
  /** Parts that backward found kept rather than made again. */
  keep: readonly RecomputedPart[];
  /** Intermediate bytes of a micro-batch that wait for backward when its last forward phase has ended. */
  activationBytes: number;
  /** Most intermediate bytes at once. */
  peakRegionBytes: number;
  /**
   * Time of a step whose calls took their operations at the peak or their bytes at the speed of a copy, whichever is
   * longer: what caches keep is faster. Null without native kernels.
   */
  bound: {
    /** Its length. */
    seconds: number;
  } | null;
  /** bound / median; null likewise. */
  ofBound: number | null;
  /** Seconds of a step by kernel, most first. */
  breakdown: Record<string, number>;
  /** Mean seconds of the steps that the breakdown was taken from: what kernels leave of it lies between them. */
  breakdownStepSeconds: number;
}

/** How to measure. */
export interface StepBenchmarkOptions {
  /** Steps measured (default 12); the first two are left out. */
  steps?: number;
  /** Name to report. */
  preset?: string;
  /** Parts to keep for backward rather than make again (default none): what recomputation saves and costs. */
  keep?: readonly RecomputedPart[];
  /** Kernels (default: this process's). */
  kernels?: Kernels;
  /** Told the share of all steps that are done, after each. */
  onProgress?: (share: number) => void;
  /** Given the trace of the steps that the breakdown is made of. */
  onProfile?: (trace: ChromeTrace) => void;
}

/**
 * Runs a configuration's full step on random tokens.
 * @param config - the run
 * @param options - see {@link StepBenchmarkOptions}
 * @returns time, bound and breakdown
 */
export async function benchStep(
  config: TrainConfig,
  options: StepBenchmarkOptions = {},
): Promise<StepBenchmark> {
  checkTrainConfig(config);
  checkOneRank(config.layout, 'bench step');
  const { steps = 12, preset = null, kernels = loadKernels(), keep = [] } = options;
  if (!Number.isInteger(steps) || steps < 3)
    throw Object.assign(new Error(`steps (${steps}) is not a whole number from 3 up`), {
      code: 'ERR_BALEEN_USAGE_STEPS',
      hint: 'the first two steps only warm up: measure 3 or more',
    });
  const { batch } = config;
  const parts = 3;
  let done = 0;
  const told = (): void => {
    options.onProgress?.((done += 1) / (steps + parts + 2));
  };
  const { times, activationBytes, peakRegionBytes } = await measure(
    kernels,
    config,
    keep,
    steps,
    told,
  );
  const profile = profileKernels(kernels);
  const program = { steps: new Array<Span>(), phases: new Array<Span>() };
  let profiled: number[];
  let spans: KernelSpan[];
  try {
    const noted = await measure(profile.kernels, config, keep, parts + 2, told, (step) => {
      if (step < 2) return null;
      if (step === 2) profile.start();
      return program;
    });
    profiled = noted.times;
  } finally {
    spans = profile.stop();
  }
  const breakdown = new Map<string, number>();
  for (const { kernel, begin, end } of spans)
    breakdown.set(kernel, (breakdown.get(kernel) ?? 0) + (end - begin) / parts);
  options.onProfile?.(chromeTrace(`baleen bench step ${preset ?? ''}`.trim(), program, spans));
  const medianStepSeconds = median(times.slice(2));
  const peaks = kernels.implementation === 'native' ? measurePeaks() : null;
  const bound = peaks && { seconds: boundSeconds(stepCosts(config, keep), peaks) };
  const tokensPerStep = batch.sequences * batch.sequence;
  return {
    preset,
    precision: config.precision,
    threads: kernels.threads,
    tokensPerStep,
    medianStepSeconds,
    tokensPerSecond: tokensPerStep / medianStepSeconds,
    keep,
    activationBytes,
    peakRegionBytes,
    bound,
    ofBound: bound && bound.seconds / medianStepSeconds,
    breakdown: Object.fromEntries([...breakdown].sort(([, a], [, b]) => b - a)),
    breakdownStepSeconds: profiled.slice(2).reduce((sum, value) => sum + value, 0) / parts,
  };
}

/** What steps of a new model came to. */
interface Measured {
  /** Seconds of each. */
  times: number[];
  activationBytes: number;
  peakRegionBytes: number;
}

/** Seconds of each of some steps of a new model, and its memory; `noteOf` says where a step and its phases are to be noted, if anywhere. */
async function measure(
  kernels: Kernels,
  config: TrainConfig,
  keep: readonly RecomputedPart[],
  steps: number,
  after: () => void,
  noteOf: (step: number) => { steps: Span[]; phases: Span[] } | null = () => null,
): Promise<Measured> {
  const { batch, optimizer, schedule, balance, data } = config;
  const model = new Decoder(kernels, modelConfigOf(config), config.precision, {
    fp8: config.fp8,
  });
  initialize(model, config.model.initStd, config.seed);
  const step = new TrainingStep(model, {
    batch,
    optimizer,
    balanceFactor: schedule.balanceFactor,
    balance,
    documentMask: data.documentMask,
    keep,
  });
  const tokens = randomTokens(batch.sequences * batch.sequence, model.config.vocabSize);
  const plan = {
    sequences: batch.sequences,
    learningRate: schedule.learningRate.peak,
    biasSpeed: schedule.biasSpeed.speed,
    mtpWeight: schedule.mtpWeight.first,
  };
  const times: number[] = [];
  let activationBytes = 0;
  for (let index = 0; index < steps; index += 1) {
    const note = noteOf(index);
    const begin = performance.now();
    let last = begin;
    const passed = (name: string): void => {
      const now = performance.now();
      note?.phases.push({ name, begin: last / 1000, end: now / 1000 });
      last = now;
    };
    step.load(tokens, plan.mtpWeight);
    passed('load');
    for (const name of step.pieces(plan)) {
      passed(name);
      // Later steps may be made from recordings, which take no memory anew.
      if (index === 0 && name.endsWith(' forward')) activationBytes = step.region.liveBytes;
    }
    passed('optimizer');
    await step.finish(plan.biasSpeed);
    passed('finish');
    note?.steps.push({
      name: `step ${index + 1}`,
      begin: begin / 1000,
      end: last / 1000,
      args: { tokens: batch.sequences * batch.sequence },
    });
    times.push((last - begin) / 1000);
    after();
    // Kernels block this thread: let signals and timers through.
    await new Promise(setImmediate);
  }
  return { times, activationBytes, peakRegionBytes: step.region.peakBytes };
}

/** One long document of evenly spread tokens. */
function randomTokens(count: number, vocabulary: number): StepBatch {
  const random = mulberry32(1);
  const stream = Int32Array.from({ length: count + 1 }, () => Math.floor(random() * vocabulary));
  const documents = new Int32Array(count);
  return {
    ids: stream.slice(0, count),
    targets: stream.slice(1),
    documents: { inputs: documents, targets: documents },
  };
}

/**
 * The median.
 * @param values - any number of them
 * @returns the middle one in order, or the mean of the two there; 0 of none
 */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
