// Measures generation token by token over long contexts: attention in the absorbed form beside the expanded one. What lies in
// the caches is made up, for reading a prompt takes longer than everything measured.
import { type Kernels, loadKernels } from '@baleen/kernels';
import {
  advance,
  CachePools,
  Decoder,
  type GenerateOptions,
  type SamplingOptions,
  Sequence,
  type SequenceCaches,
} from '@baleen/model';
import { initialize, mulberry32, Region, tensorFrom } from '@baleen/tensor';

import { median } from './bench-step';
import type { TrainConfig } from './config';
import { checkOneRank } from './ranks/layout';
import { checkTrainConfig, modelConfigOf } from './resolve';

/** One measurement. */
export interface DecodeResult {
  /** Tokens cached of each sequence when it begins. */
  context: number;
  /** Sequences. */
  batch: number;
  /** How new tokens attend to cached ones. */
  form: 'absorbed' | 'expanded';
  /** Median time of a pass, which makes a token of each sequence. */
  medianStepSeconds: number;
  /** Tokens a second at that time, of all sequences. */
  tokensPerSecond: number;
  /** Bytes of all caches when it begins, in whole pages of 64 tokens. */
  cacheBytes: number;
}

/** The line of `bench decode --json`. */
export interface DecodeBenchmark {
  /** Preset measured, or null. */
  preset: string | null;
  /** Inputs of the linear layers' products. */
  precision: 'fp8' | 'bf16' | 'fp32';
  /** What cached latents take. */
  cache: 'fp32' | 'bf16' | 'fp8';
  /** Threads of the pool. */
  threads: number;
  /** Results, in the order measured. */
  cases: DecodeResult[];
}

/** Most passes before those measured. */
const mostToWarmUp = 1000;

/** How to measure. */
export interface DecodeBenchmarkOptions {
  /** Lengths of the context (default 1,024, 4,096 and 16,384). */
  contexts?: readonly number[];
  /** Numbers of sequences (default 1 and 8). */
  batches?: readonly number[];
  /** Passes measured (default 12). */
  steps?: number;
  /**
   * Seconds of passes before the first measured of each form (default 2, at most 1,000 passes; before the others two passes):
   * JavaScript is compiled while it runs, and a pass over a short context takes two to three times as long until it is.
   */
  warmUp?: number;
  /** What cached latents take (default: FP32 where the model computes in it, else BF16). */
  cache?: NonNullable<GenerateOptions['cache']>;
  /** Name to report. */
  preset?: string;
  /** Kernels (default: this process's). */
  kernels?: Kernels;
  /** Told the share of all passes that are done, after each. */
  onProgress?: (share: number) => void;
}

/**
 * Runs a configuration's model, with random weights and positions for the longest context.
 * @param config - the run
 * @param options - see {@link DecodeBenchmarkOptions}
 * @returns times
 * @throws ERR_BALEEN_USAGE_DECODE for contexts, batches or steps that are no whole numbers from 1
 */
export async function benchDecode(
  config: TrainConfig,
  options: DecodeBenchmarkOptions = {},
): Promise<DecodeBenchmark> {
  checkTrainConfig(config);
  checkOneRank(config.layout, 'bench decode');
  const { contexts = [1024, 4096, 16384], batches = [1, 8], steps = 12 } = options;
  const { preset = null, kernels = loadKernels(), warmUp = 2 } = options;
  checkCounts({ contexts, batches, steps: [steps] });
  const { precision } = config;
  const cache = options.cache ?? (precision === 'fp32' ? 'fp32' : 'bf16');
  const passes = Math.max(mostToWarmUp, steps);
  const sizes = { ...modelConfigOf(config), maxSequence: Math.max(...contexts) + passes + 1 };
  const model = new Decoder(kernels, { ...sizes, mtp: { depth: 0 } }, precision, {
    fp8: config.fp8,
  });
  initialize(model, config.model.initStd, config.seed);
  const cases: DecodeResult[] = [];
  const forms = ['absorbed', 'expanded'] as const;
  const total = contexts.length * batches.length * forms.length * steps;
  let done = 0;
  const warmed = new Set<string>();
  for (const context of contexts)
    for (const batch of batches) {
      const region = new Region(kernels, 'caches');
      const capacities = new Array<number>(batch).fill(context + passes);
      const pools = new CachePools(model, region, { capacities, format: cache });
      for (const form of forms) {
        const own = { maxTokens: passes, attention: form };
        let cacheBytes = 0;
        // Kernels block this thread: let signals and timers through between passes.
        const timed = async (enough: (times: readonly number[]) => boolean): Promise<number[]> => {
          const sequences = capacities.map((_, seed) => begin(model, pools, context, seed, own));
          cacheBytes = pools.usedBytes;
          const times: number[] = [];
          while (!enough(times)) {
            const start = performance.now();
            advance(model, region, sequences);
            times.push((performance.now() - start) / 1000);
            await new Promise(setImmediate);
          }
          for (const sequence of sequences) sequence.release();
          return times;
        };
        const until = warmed.has(form) ? 0 : performance.now() + 1000 * warmUp;
        warmed.add(form);
        await timed(
          ({ length }) => length >= mostToWarmUp || (length >= 2 && performance.now() >= until),
        );
        const times = await timed(({ length }) => {
          if (length > 0) options.onProgress?.((done += 1) / total);
          return length === steps;
        });
        const medianStepSeconds = median(times);
        cases.push({
          context,
          batch,
          form,
          medianStepSeconds,
          tokensPerSecond: batch / medianStepSeconds,
          cacheBytes,
        });
      }
      pools.release();
    }
  return { preset, precision, cache, threads: kernels.threads, cases };
}

/** A sequence whose cache holds a made-up context; its next pass reads one token. */
function begin(
  model: Decoder,
  pools: CachePools,
  context: number,
  seed: number,
  options: SamplingOptions,
): Sequence {
  const random = mulberry32(seed);
  const tokens = Int32Array.from({ length: context + 1 }, () =>
    Math.floor(random() * model.config.vocabSize),
  );
  const caches = pools.sequence(0);
  caches.main.append(context);
  fill(model, caches, random);
  return new Sequence(model, caches, tokens, options);
}

/** Normed latents have a mean square of one. */
function fill({ kernels, layers }: Decoder, { main }: SequenceCaches, random: () => number): void {
  const { pool, length } = main;
  const { kvRank: rank, ropeDim: rope, pages, pageSize } = pool;
  const region = new Region(kernels, 'made up');
  const values = (width: number): Float32Array =>
    Float32Array.from({ length: length * width }, () => Math.sqrt(3) * (2 * random() - 1));
  const latent = tensorFrom(region, [length, rank], values(rank));
  const rotary = tensorFrom(region, [length, rope], values(rope));
  const places = Int32Array.from({ length }, (_, token) => main.slot(token));
  const slots = tensorFrom(region, [length], places);
  const sizes = { tokens: length, capacity: pages * pageSize, rank, rope };
  for (let layer = 0; layer < layers.length; layer += 1)
    kernels.writeLatents(pool.layer(layer), latent, rotary, slots, sizes);
  kernels.flush();
}

function checkCounts(lists: Readonly<Record<string, readonly number[]>>): void {
  for (const [path, list] of Object.entries(lists)) {
    const bad = list.find((count) => !Number.isInteger(count) || count < 1);
    if (bad === undefined && list.length > 0) continue;
    throw Object.assign(new Error(`${path} (${list.join(', ')}) are not whole numbers from 1`), {
      code: 'ERR_BALEEN_USAGE_DECODE',
      path,
      hint: 'name at least one, each from 1',
    });
  }
}
