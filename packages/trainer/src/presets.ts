// The presets: complete configurations to train, or to plan with.
import { fp8Recipe } from '@baleen/fp8';

import type { TrainConfig, TrainModelConfig } from './config';

/** Names of the presets. */
export type PresetName = 'tiny' | 'small' | 'base' | 'v3-16b' | 'v3-671b';

type Recipe = Pick<TrainConfig, 'model' | 'data' | 'precision' | 'steps'> & {
  batch: Partial<TrainConfig['batch']> & Pick<TrainConfig['batch'], 'sequence' | 'sequences'>;
  peak: number;
  /** γ. V3's 0.001 has hundreds of thousands of steps to balance the experts; short runs need longer strides. */
  biasSpeed: number;
  /** λ at first (default: V3's 0.3). */
  mtpWeight?: number;
  /** Decoupled weight decay (default: V3's 0.1). */
  weightDecay?: number;
  evaluationTokens: number;
  evaluationEvery: number;
  checkpointEvery: number;
};

/** V3's hyper-parameters (§4.2) where a recipe does not say otherwise; shares are V3's tokens over 14.8 T. */
function withV3(recipe: Recipe): TrainConfig {
  const { model, data, precision, steps, batch, peak } = recipe;
  const { mtpWeight = 0.3, weightDecay = 0.1 } = recipe;
  return {
    model,
    data,
    precision,
    fp8: fp8Recipe(),
    steps,
    seed: 1,
    batch: {
      microBatch: batch.sequences,
      rampFrom: batch.sequences,
      rampShare: 0,
      rampBy: null,
      ...batch,
    },
    optimizer: {
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay,
      maxNorm: 1,
      moments: 'bf16',
    },
    schedule: {
      learningRate: {
        peak,
        warmupShare: 0.05,
        constantShare: 0.62,
        end: peak / 10,
        finalShares: [
          { share: 0.0225, rate: peak / 10 },
          { share: 0.0113, rate: (peak * 7.3) / 220 },
        ],
      },
      biasSpeed: { speed: recipe.biasSpeed, freezeShare: 0.0338 },
      mtpWeight: { first: mtpWeight, last: 0.1, lastShare: 0.3243 },
      balanceFactor: 1e-4,
    },
    balance: { rule: 'sign', decay: 0.9, lossOver: 'sequence' },
    evaluation: { every: recipe.evaluationEvery, tokens: recipe.evaluationTokens, stride: 0.5 },
    checkpoint: { every: recipe.checkpointEvery, keep: 2 },
    threads: 0,
    layout: { ranks: 1, pp: 1, schedule: 'dualpipe', ep: 1, deterministic: false },
  };
}

const common = { normEps: 1e-6, initStd: 0.02 };

/**
 * What two cores reach in a minute and a half: many small steps, for which a stronger decay and a weaker λ than V3's
 * lose least on held-out text.
 */
function tiny(): TrainConfig {
  return withV3({
    model: {
      ...common,
      vocabSize: null,
      hiddenSize: 128,
      layers: 4,
      denseLayers: 1,
      intermediateSize: 256,
      maxSequence: 128,
      attention: {
        heads: 4,
        nopeDim: 32,
        ropeDim: 16,
        valueDim: 32,
        queryRank: 64,
        kvRank: 64,
        ropeTheta: 10000,
        yarn: null,
      },
      moe: {
        routedExperts: 8,
        sharedExperts: 1,
        expertsPerToken: 2,
        groups: 4,
        groupsPerToken: 2,
        groupBest: 2,
        gate: 'sigmoid',
        intermediateSize: 48,
        routedScaling: 2.5,
        normalizeGates: true,
      },
      mtp: { depth: 1 },
    },
    data: {
      sources: ['moby-dick'],
      heldOutEvery: 10,
      documentMask: false,
      tokenizer: { kind: 'bytes', vocabSize: null },
    },
    precision: 'fp8',
    steps: 2200,
    batch: { sequence: 128, sequences: 8 },
    peak: 6e-3,
    biasSpeed: 0.01,
    mtpWeight: 0.1,
    weightDecay: 0.3,
    evaluationEvery: 500,
    evaluationTokens: 16384,
    checkpointEvery: 0,
  });
}

function small(): TrainConfig {
  return withV3({
    model: {
      ...common,
      vocabSize: null,
      hiddenSize: 256,
      layers: 6,
      denseLayers: 1,
      intermediateSize: 768,
      maxSequence: 256,
      attention: {
        heads: 8,
        nopeDim: 32,
        ropeDim: 32,
        valueDim: 32,
        queryRank: 128,
        kvRank: 128,
        ropeTheta: 10000,
        yarn: null,
      },
      moe: {
        routedExperts: 16,
        sharedExperts: 1,
        expertsPerToken: 4,
        groups: 4,
        groupsPerToken: 2,
        groupBest: 2,
        gate: 'sigmoid',
        intermediateSize: 128,
        routedScaling: 2.5,
        normalizeGates: true,
      },
      mtp: { depth: 0 },
    },
    data: {
      sources: ['sotu', 'moby-dick'],
      heldOutEvery: 10,
      documentMask: false,
      tokenizer: { kind: 'bpe', vocabSize: 4096 },
    },
    precision: 'fp8',
    steps: 1500,
    batch: { sequence: 256, sequences: 8 },
    peak: 2e-3,
    biasSpeed: 0.003,
    evaluationEvery: 250,
    evaluationTokens: 32768,
    checkpointEvery: 250,
  });
}

function base(): TrainConfig {
  return withV3({
    model: {
      ...common,
      vocabSize: null,
      hiddenSize: 512,
      layers: 7,
      denseLayers: 1,
      intermediateSize: 1536,
      maxSequence: 512,
      attention: {
        heads: 8,
        nopeDim: 64,
        ropeDim: 32,
        valueDim: 64,
        queryRank: 256,
        kvRank: 128,
        ropeTheta: 10000,
        yarn: null,
      },
      moe: {
        routedExperts: 16,
        sharedExperts: 1,
        expertsPerToken: 4,
        groups: 4,
        groupsPerToken: 2,
        groupBest: 2,
        gate: 'sigmoid',
        intermediateSize: 256,
        routedScaling: 2.5,
        normalizeGates: true,
      },
      mtp: { depth: 1 },
    },
    data: {
      sources: ['data'],
      heldOutEvery: 10,
      documentMask: false,
      tokenizer: { kind: 'bpe', vocabSize: 8192 },
    },
    precision: 'fp8',
    steps: 10000,
    batch: { sequence: 512, sequences: 32, microBatch: 8, rampFrom: 8, rampShare: 0.05 },
    peak: 1e-3,
    biasSpeed: 0.001,
    evaluationEvery: 500,
    evaluationTokens: 65536,
    checkpointEvery: 500,
  });
}

const publishedYarn = {
  factor: 40,
  originalMaxSequence: 4096,
  betaFast: 32,
  betaSlow: 1,
  mscale: 1,
  mscaleAllDim: 1,
};

const publishedAttention = {
  nopeDim: 128,
  ropeDim: 64,
  valueDim: 128,
  kvRank: 512,
  ropeTheta: 10000,
};

const published: Pick<TrainModelConfig, 'maxSequence' | 'normEps' | 'initStd'> = {
  maxSequence: 163840,
  normEps: 1e-6,
  initStd: 0.006,
};

/** V3's run in one place (§4.2): 14.8 T tokens at 4,096, batches from 3,072 to 15,360 sequences over 469 B tokens. */
function v3Run(model: TrainModelConfig, sequences: { from: number; to: number }): TrainConfig {
  const config = withV3({
    model,
    data: {
      sources: ['data'],
      heldOutEvery: 1000,
      documentMask: false,
      tokenizer: { kind: 'bpe', vocabSize: 128000 },
    },
    precision: 'fp8',
    steps: 240208,
    batch: {
      sequence: 4096,
      sequences: sequences.to,
      microBatch: 1,
      rampFrom: sequences.from,
      rampShare: 12424 / 240208,
      // Not published: two for each of 64 pipelines, as DualPipe takes them.
      rampBy: 128,
    },
    peak: 2.2e-4,
    biasSpeed: 0.001,
    evaluationEvery: 2000,
    evaluationTokens: 4194304,
    checkpointEvery: 1000,
  });
  const { learningRate } = config.schedule;
  learningRate.warmupShare = 0.0017;
  learningRate.constantShare = 0.674;
  return config;
}

/**
 * The sizes of the 16B configuration that DeepSeek publishes beside V3's. Its gate is a softmax (route scale 1, weights
 * not normalised); here it is V3's sigmoid gate with normalised weights, the only one there is. Trained
 * parameters and products are the same; weights trained with that gate are another model, which `configFromHuggingFace`
 * refuses.
 */
function v316b(): TrainConfig {
  return v3Run(
    {
      ...published,
      vocabSize: 102400,
      hiddenSize: 2048,
      layers: 27,
      denseLayers: 1,
      intermediateSize: 10944,
      attention: {
        ...publishedAttention,
        heads: 16,
        queryRank: null,
        yarn: { ...publishedYarn, mscale: 0.707, mscaleAllDim: 0.707 },
      },
      moe: {
        routedExperts: 64,
        sharedExperts: 2,
        expertsPerToken: 6,
        groups: 1,
        groupsPerToken: 1,
        groupBest: 2,
        gate: 'sigmoid',
        intermediateSize: 1408,
        routedScaling: 1,
        normalizeGates: true,
      },
      mtp: { depth: 0 },
    },
    { from: 3072, to: 15360 },
  );
}

function v3671b(): TrainConfig {
  return v3Run(
    {
      ...published,
      vocabSize: 129280,
      hiddenSize: 7168,
      layers: 61,
      denseLayers: 3,
      intermediateSize: 18432,
      attention: { ...publishedAttention, heads: 128, queryRank: 1536, yarn: publishedYarn },
      moe: {
        routedExperts: 256,
        sharedExperts: 1,
        expertsPerToken: 8,
        groups: 8,
        groupsPerToken: 4,
        groupBest: 2,
        gate: 'sigmoid',
        intermediateSize: 2048,
        routedScaling: 2.5,
        normalizeGates: true,
      },
      mtp: { depth: 1 },
    },
    { from: 3072, to: 15360 },
  );
}

/** Complete configurations; each call returns a new one. */
export const presets: Readonly<Record<PresetName, () => TrainConfig>> = {
  tiny,
  small,
  base,
  'v3-16b': v316b,
  'v3-671b': v3671b,
};

/** One line on each preset. */
export const presetDescriptions: Readonly<Record<PresetName, string>> = {
  tiny: 'about 1 M parameters on Moby-Dick’s bytes, FP8; a minute or two on two cores with AVX-512',
  small: 'about 13 M parameters on speeches and Moby-Dick, BPE of 4,096',
  base: 'about 65 M parameters on your own text (folder ./data), BPE of 8,192',
  'v3-16b':
    'the published 16B shapes with V3’s sigmoid gate (theirs is a softmax): to plan and inspect',
  'v3-671b': 'DeepSeek-V3 itself: to plan, inspect and convert',
};
