// A run's configuration: one schema from which validation, help texts, flags, JSON Schema and docs all come.
import { type Method, methods } from '@baleen/dualpipe';
import type { Fp8Recipe } from '@baleen/fp8';
import type { BiasRule } from '@baleen/moe-router';
import type { MomentForm } from '@baleen/tensor';
import { z } from 'zod';

import { fp8 } from './config-fp8';
import type { LayoutConfig } from './ranks/layout';

/** A piece of the learning rate's end: a constant over a share of the run's tokens. */
export interface FinalRate {
  /** Share of the run's tokens. */
  share: number;
  /** Learning rate. */
  rate: number;
}

/** V3's schedules (§4.2), in shares of the run's tokens, so that changing `steps` scales them all. */
export interface ScheduleConfig {
  /** Warm-up from 0, constant, cosine down, constant pieces at the end. */
  learningRate: {
    /** Highest rate. */
    peak: number;
    /** Share of the linear warm-up. */
    warmupShare: number;
    /** Share at the peak after it; the cosine takes what is left before the final pieces. */
    constantShare: number;
    /** Rate the cosine ends at. */
    end: number;
    /** Constant pieces at the very end, in order. */
    finalShares: FinalRate[];
  };
  /** Loss-free balancing (§2.1.2). */
  biasSpeed: {
    /** γ. */
    speed: number;
    /** γ is 0 for this last share. */
    freezeShare: number;
  };
  /** λ of multi-token prediction (§2.2). */
  mtpWeight: {
    /** λ at first. */
    first: number;
    /** λ for the last share. */
    last: number;
    /** That share. */
    lastShare: number;
  };
  /** α of the balance loss. */
  balanceFactor: number;
}

/** How expert loads are balanced; γ and α are part of the schedule. */
export interface BalanceConfig {
  /** How the router biases follow the loads. */
  rule: BiasRule;
  /** Share of the moving average of loads that stays a step, for the rule `ema`. */
  decay: number;
  /** What the balance loss balances; a batch of several micro-batches takes a forward pass more (see docs). */
  lossOver: 'sequence' | 'batch';
}

/** The model's sizes: `ModelConfig` of @baleen/model, whose vocabulary may be left to the tokenizer. */
export interface TrainModelConfig {
  /** Tokens; null for the tokenizer's number. */
  vocabSize: number | null;
  /** Width of the stream. */
  hiddenSize: number;
  /** Decoder layers. */
  layers: number;
  /** Dense layers among them, the first. */
  denseLayers: number;
  /** Width of the dense feed-forward. */
  intermediateSize: number;
  /** Longest sequence. */
  maxSequence: number;
  /** ε of norms. */
  normEps: number;
  /** Standard deviation of initial weights. */
  initStd: number;
  /** Multi-head latent attention. */
  attention: {
    /** Heads. */
    heads: number;
    /** Width without position. */
    nopeDim: number;
    /** Rotary width. */
    ropeDim: number;
    /** Width of values. */
    valueDim: number;
    /** Rank of the query's latent, or null. */
    queryRank: number | null;
    /** Rank of the latent of keys and values. */
    kvRank: number;
    /** Base of the rotary frequencies. */
    ropeTheta: number;
    /** Context extension, or null. */
    yarn: {
      /** How many times longer the context becomes. */
      factor: number;
      /** Length trained at. */
      originalMaxSequence: number;
      /** Rotations above which a dimension stays as it is. */
      betaFast: number;
      /** Rotations below which it is interpolated fully. */
      betaSlow: number;
      /** Attention factor on the tables. */
      mscale: number;
      /** Attention factor on the scores. */
      mscaleAllDim: number;
    } | null;
  };
  /** Experts. */
  moe: {
    /** Routed experts. */
    routedExperts: number;
    /** Shared experts. */
    sharedExperts: number;
    /** Experts a token. */
    expertsPerToken: number;
    /** Groups of experts. */
    groups: number;
    /** Groups a token may reach. */
    groupsPerToken: number;
    /** How many of a group's best make its score. */
    groupBest: number;
    /** How logits become scores. */
    gate: 'sigmoid' | 'softmax';
    /** Width of an expert. */
    intermediateSize: number;
    /** Factor on gate weights. */
    routedScaling: number;
    /** Divide gate weights by their sum. */
    normalizeGates: boolean;
  };
  /** Multi-token prediction. */
  mtp: {
    /** Depths; 0 for none. */
    depth: number;
  };
}

/** Everything a run depends on. */
export interface TrainConfig {
  /** The model. */
  model: TrainModelConfig;
  /** Text and tokens. */
  data: {
    /** Text packages (`moby-dick`, `sotu`), files or folders. */
    sources: string[];
    /** Every n-th document is held out. */
    heldOutEvery: number;
    /** Attention keeps the documents that are packed into a sequence apart; V3's does not. */
    documentMask: boolean;
    /** How text becomes tokens. */
    tokenizer: {
      /** Bytes, or byte-pair encoding trained on the training documents. */
      kind: 'bytes' | 'bpe';
      /** Tokens of a BPE; null for bytes. */
      vocabSize: number | null;
    };
  };
  /** Inputs of the linear layers' products. */
  precision: 'fp8' | 'bf16' | 'fp32';
  /** The recipe of precision `fp8`; V3's with any other. */
  fp8: Fp8Recipe;
  /** Optimizer updates. */
  steps: number;
  /** Seeds weights and data order. */
  seed: number;
  /** What a step sees. */
  batch: {
    /** Tokens of a sequence. */
    sequence: number;
    /** Sequences a step. */
    sequences: number;
    /** Sequences at once. */
    microBatch: number;
    /** Sequences of the first step. */
    rampFrom: number;
    /** Share of the steps over which the batch grows. */
    rampShare: number;
    /** Sequences by which it grows at a time; null for a micro-batch. */
    rampBy: number | null;
  };
  /** AdamW. */
  optimizer: {
    /** Decay of the first moment. */
    beta1: number;
    /** Decay of the second moment. */
    beta2: number;
    /** Added to the root of the second moment. */
    epsilon: number;
    /** Decoupled weight decay. */
    weightDecay: number;
    /** Largest global gradient norm. */
    maxNorm: number;
    /** What moments are stored in. */
    moments: MomentForm;
  };
  /** Learning rate, γ, λ and α. */
  schedule: ScheduleConfig;
  /** Balance of experts. */
  balance: BalanceConfig;
  /** Held-out loss during and after the run. */
  evaluation: {
    /** Steps between evaluations; 0 for only at the end. */
    every: number;
    /** Most held-out tokens of evaluations during the run; 0 for all. */
    tokens: number;
    /** Share of a sequence that is context only. */
    stride: number;
  };
  /** Checkpoints. */
  checkpoint: {
    /** Steps between them; 0 for only at the end. */
    every: number;
    /** How many are kept. */
    keep: number;
  };
  /** Threads; 0 for every core. Ranks on one machine share them. */
  threads: number;
  /** How the run is spread over ranks. */
  layout: LayoutConfig;
}

const size = (least: number, text: string): z.ZodInt => z.int().min(least).describe(text);
const positive = (text: string): z.ZodNumber => z.number().positive().describe(text);
const share = (text: string): z.ZodNumber => z.number().min(0).max(1).describe(text);
const atLeast0 = (text: string): z.ZodNumber => z.number().min(0).describe(text);
const decay = (text: string): z.ZodNumber => z.number().min(0).lt(1).describe(text);

const yarn = z.strictObject({
  factor: z.number().gt(1).describe('how many times longer the context becomes'),
  originalMaxSequence: size(1, 'length the model was trained at'),
  betaFast: positive('rotations above which a dimension is left as it is'),
  betaSlow: positive('rotations below which a dimension is interpolated fully'),
  mscale: positive('weight of the attention factor on the rotary tables, over that on the scores'),
  mscaleAllDim: atLeast0('weight of the attention factor on the scores; 0 for none'),
});

const model = z.strictObject({
  vocabSize: size(1, 'tokens of the vocabulary; null takes the tokenizer’s number').nullable(),
  hiddenSize: size(1, 'width of the stream'),
  layers: size(1, 'decoder layers'),
  denseLayers: size(0, 'layers, from the first, whose feed-forward is dense'),
  intermediateSize: size(1, 'width of the dense feed-forward'),
  maxSequence: size(1, 'longest sequence, in tokens'),
  normEps: positive('ε of all norms'),
  initStd: positive('standard deviation of initial weights'),
  attention: z.strictObject({
    heads: size(1, 'attention heads'),
    nopeDim: size(1, 'width of a head without position'),
    ropeDim: size(1, 'width of a head’s rotary part, even'),
    valueDim: size(1, 'width of a head’s value'),
    queryRank: size(1, 'rank of the query’s latent; null for none').nullable(),
    kvRank: size(1, 'rank of the latent of keys and values'),
    ropeTheta: z.number().gt(1).describe('base of the rotary frequencies'),
    yarn: yarn
      .nullable()
      .describe(
        'extension by YaRN where maxSequence exceeds its originalMaxSequence; null for none',
      ),
  }),
  moe: z.strictObject({
    routedExperts: size(1, 'routed experts'),
    sharedExperts: size(0, 'shared experts, run as one of that many times the width'),
    expertsPerToken: size(1, 'routed experts a token is sent to'),
    groups: size(1, 'groups (nodes) the routed experts divide into'),
    groupsPerToken: size(1, 'groups a token may reach'),
    groupBest: size(1, 'how many of a group’s best make its score: 2 in V3, 1 in V2'),
    gate: z.enum(['sigmoid', 'softmax']).describe('how logits become scores: V3’s, or V2’s'),
    intermediateSize: size(1, 'width of an expert'),
    routedScaling: positive('factor on gate weights'),
    normalizeGates: z.boolean().describe('divide gate weights by their sum'),
  }),
  mtp: z.strictObject({
    depth: size(0, 'depths of multi-token prediction; 0 for none'),
  }),
});

const data = z.strictObject({
  sources: z
    .array(z.string().min(1))
    .min(1)
    .describe('text: moby-dick, sotu, or paths of files and folders'),
  heldOutEvery: size(2, 'every n-th document is held out for evaluation'),
  documentMask: z
    .boolean()
    .describe('attention keeps the documents that are packed into a sequence apart (V3: false)'),
  tokenizer: z.strictObject({
    kind: z.enum(['bytes', 'bpe']).describe('bytes, or byte-pair encoding trained on the text'),
    vocabSize: size(258, 'tokens of a BPE; null for bytes').nullable(),
  }),
});

const schedule = z.strictObject({
  learningRate: z.strictObject({
    peak: positive('highest learning rate'),
    warmupShare: share('share of the tokens over which it rises from 0'),
    constantShare: share('share at the peak after that; a cosine follows'),
    end: atLeast0('learning rate at the cosine’s end'),
    finalShares: z
      .array(z.strictObject({ share: share('share of the tokens'), rate: atLeast0('rate') }))
      .describe('constant pieces {share, rate} at the very end'),
  }),
  biasSpeed: z.strictObject({
    speed: atLeast0('γ: step of the router biases'),
    freezeShare: share('last share of the tokens in which γ is 0'),
  }),
  mtpWeight: z.strictObject({
    first: atLeast0('λ: weight of multi-token prediction at first'),
    last: atLeast0('λ for the last share'),
    lastShare: share('that share of the tokens'),
  }),
  balanceFactor: atLeast0('α of the balance loss; 0 for none'),
});

const balance = z.strictObject({
  rule: z
    .enum(['sign', 'proportional', 'ema'])
    .describe(
      'router biases move by the sign of the gap to the mean load, by the gap, or by its average',
    ),
  decay: decay('share of that average which stays a step'),
  lossOver: z
    .enum(['sequence', 'batch'])
    .describe(
      'the balance loss is taken over each sequence, or the batch: several micro-batches then take one more pass forward',
    ),
});

/** The schema of {@link TrainConfig}; every key says what it is. */
export const trainConfigSchema: z.ZodType<TrainConfig> = z.strictObject({
  model,
  data,
  precision: z
    .enum(['fp8', 'bf16', 'fp32'])
    .describe('inputs of the linear layers’ products; weights and sums are FP32'),
  fp8,
  steps: size(1, 'optimizer updates'),
  seed: z.int().describe('seeds initial weights and the order of documents'),
  batch: z.strictObject({
    sequence: size(1, 'tokens of a training sequence'),
    sequences: size(1, 'sequences of a step'),
    microBatch: size(1, 'sequences computed at once; must divide sequences'),
    rampFrom: size(1, 'sequences of the first step when the batch grows'),
    rampShare: share('share of the steps over which the batch grows; 0 for none'),
    rampBy: size(1, 'sequences by which it grows at a time; null for a micro-batch').nullable(),
  }),
  optimizer: z.strictObject({
    beta1: decay('AdamW: decay of the first moment'),
    beta2: decay('AdamW: decay of the second moment'),
    epsilon: positive('AdamW: added to the root of the second moment'),
    weightDecay: atLeast0('AdamW: decoupled weight decay of matrices'),
    maxNorm: positive('largest global gradient norm'),
    moments: z.enum(['bf16', 'fp32']).describe('AdamW: what both moments are stored in'),
  }),
  schedule,
  balance,
  evaluation: z.strictObject({
    every: size(0, 'steps between evaluations; 0 for only at the end'),
    tokens: size(0, 'most held-out tokens of evaluations during the run; 0 for all'),
    stride: z.number().min(0).lt(1).describe('share of an evaluated sequence that is context only'),
  }),
  checkpoint: z.strictObject({
    every: size(0, 'steps between checkpoints; 0 for only at the end'),
    keep: size(1, 'checkpoints kept'),
  }),
  threads: size(0, 'threads of the kernels, all ranks of a process together; 0 for every core'),
  layout: z.strictObject({
    ranks: size(1, 'ranks that train together: threads, or processes under mpirun or srun'),
    pp: size(1, 'ranks of a pipeline, each with some stages of the model; must divide ranks'),
    schedule: z
      .enum(Object.keys(methods) as [Method, ...Method[]])
      .describe('order of a pipeline’s work'),
    ep: size(
      1,
      'neighbouring ranks that hold all routed experts among them; must divide ranks / pp',
    ),
    deterministic: z
      .boolean()
      .describe('add gradients in an order that gives the same bits on any number of ranks'),
  }),
});
