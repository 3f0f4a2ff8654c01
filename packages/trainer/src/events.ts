// What a training run says: one event a line in metrics.jsonl, and everything shown is derived from them.

import type { DepthScore } from './depth-scores';

/** Which kernels ran. */
export interface KernelsUsed {
  /** `native`, `reference` or `null`. */
  implementation: string;
  /** Instruction set. */
  isa: string;
  /** Threads of the pool. */
  threads: number;
}

/** An n-gram model's score on the held-out bytes. */
export interface Baseline {
  /** Order n: n − 1 bytes of context. */
  order: number;
  /** Bits per held-out byte. */
  bitsPerByte: number;
}

/** A run begins, or goes on. */
export interface StartEvent {
  /** Which event. */
  type: 'start';
  /** The run's folder, or null when nothing is written. */
  run: string | null;
  /** Preset it began from, or null. */
  preset: string | null;
  /** Inputs of the linear layers' products. */
  precision: 'fp8' | 'bf16' | 'fp32';
  /** Trained values. */
  params: number;
  /** Of them used by one token. */
  activeParams: number;
  /** Steps of the whole run. */
  steps: number;
  /** Tokens of a step (of the last, when the batch grows). */
  tokensPerStep: number;
  /** Bytes of training text. */
  trainBytes: number;
  /** Bytes of held-out text. */
  heldOutBytes: number;
  /** Tokens of the training text. */
  trainTokens: number;
  /** The tokenizer's tokens. */
  vocabSize: number;
  /** Which kernels run. */
  kernels: KernelsUsed;
  /** Step of the checkpoint it goes on from, or null. */
  resumedFrom: number | null;
  /** Byte n-grams on the same split. */
  baselines: Baseline[];
  /** When, ISO 8601. */
  time: string;
}

/** A step is done. */
export interface StepEvent {
  /** Which event. */
  type: 'step';
  /** Its number, from 1. */
  step: number;
  /** Tokens trained on so far. */
  tokens: number;
  /** Main loss, nats a token. */
  loss: number;
  /** Loss of each depth of multi-token prediction, nats a token. */
  mtpLoss: number[];
  /** Balance loss, α included. */
  balanceLoss: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  /** Learning rate. */
  learningRate: number;
  /** γ. */
  biasSpeed: number;
  /** MaxVio of this batch, mean over layers. */
  maxViolation: number;
  /** Tokens each expert of this batch got, by layer with experts. */
  loads: number[][];
  /** How long it took. */
  seconds: number;
  /** Tokens a second. */
  tokensPerSecond: number;
  /** Estimated time to the last step. */
  secondsLeft: number;
}

/** Held-out text was scored. */
export interface EvaluationEvent {
  /** Which event. */
  type: 'evaluation';
  /** After which step. */
  step: number;
  /** Nats a token. */
  loss: number;
  /** Bits a byte of text. */
  bitsPerByte: number;
  /** Share of tokens that are the main model's likeliest. */
  accuracy: number;
  /** Scores of the depths of multi-token prediction. */
  mtp: DepthScore[];
  /** Tokens scored. */
  tokens: number;
  /** How long it took. */
  seconds: number;
  /** MaxVio over all tokens scored, mean over layers. */
  maxViolation: number;
  /** Tokens each expert got, by layer with experts, context as often as it ran. */
  loads: number[][];
}

/** A checkpoint is complete. */
export interface CheckpointEvent {
  /** Which event. */
  type: 'checkpoint';
  /** Of which step. */
  step: number;
  /** Its folder. */
  path: string;
  /** Its size. */
  bytes: number;
  /** How long it took. */
  seconds: number;
}

/** The signal ended the run early. */
export interface StoppedEvent {
  /** Which event. */
  type: 'stopped';
  /** After which step. */
  step: number;
  /** Checkpoint to resume from, or null when nothing is written. */
  path: string | null;
  /** Why. */
  reason: 'signal';
}

/** The run is done. */
export interface EndEvent {
  /** Which event. */
  type: 'end';
  /** What came of it. */
  result: TrainResult;
}

/** Any event, told apart by `type`. */
export type TrainEvent =
  | StartEvent
  | StepEvent
  | EvaluationEvent
  | CheckpointEvent
  | StoppedEvent
  | EndEvent;

/** What a run comes to: the line of `train --json`. */
export interface TrainResult {
  /** The run's folder, or null when nothing was written. */
  run: string | null;
  /** Preset it began from, or null. */
  preset: string | null;
  /** Inputs of the linear layers' products. */
  precision: 'fp8' | 'bf16' | 'fp32';
  /** Trained values. */
  params: number;
  /** Of them used by one token. */
  activeParams: number;
  /** Steps done. */
  steps: number;
  /** Tokens trained on. */
  tokens: number;
  /** Passes over the training text. */
  epochs: number;
  /** Main loss, mean over the last steps (20, or all there were), nats a token; null without steps. */
  trainLoss: number | null;
  /** Held-out loss, nats a token; null when the run was stopped before its evaluation. */
  valLoss: number | null;
  /** Held-out bits per byte, likewise. */
  valBitsPerByte: number | null;
  /** Byte n-grams on the same split. */
  baselines: Baseline[];
  /** Tokens a second over this process's steps. */
  tokensPerSecond: number;
  /** Median time of this process's steps, the first two left out where there are more. */
  medianStepSeconds: number;
  /** Most bytes of intermediate memory at once. */
  peakRegionBytes: number;
  /** Most resident memory of the process. */
  peakRssBytes: number;
  /** MaxVio over the held-out text, mean over layers; null like `valLoss`. */
  maxViolation: number | null;
  /** How the model was spread. */
  layout: {
    /** Ranks. */
    ranks: 1;
    /** Pipeline stages. */
    pp: 1;
    /** Expert-parallel ranks. */
    ep: 1;
    /** Data-parallel ranks. */
    dp: 1;
  };
  /** Which kernels ran. */
  kernels: KernelsUsed;
  /** Time of this process's part of the run. */
  seconds: number;
}
