// What a training run says: one event a line in metrics.jsonl, and everything shown is derived from them.

import type { DepthScore } from './depth-scores';
import type { LayoutReport } from './ranks/layout';

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
  /** How the model is spread over ranks. */
  layout: LayoutReport;
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
  /** Seconds of that which each rank computed; the rest it spent in calls, waiting for others above all. */
  computed: number[];
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

/** A rank takes longer than the others, which wait for it; said once of each. */
export interface SlowEvent {
  /** Which event. */
  type: 'slow';
  /** After which step. */
  step: number;
  /** The rank. */
  rank: number;
  /** Seconds that it computes in a step, mean over the last ones. */
  computed: number;
  /** The median of what the others compute for as many micro-batches. */
  others: number;
}

/** Ranks were lost, and the run is begun again from its last complete checkpoint. */
export interface RestartEvent {
  /** Which event. */
  type: 'restart';
  /** How often so far, from 1. */
  restart: number;
  /** Restarts that are allowed. */
  of: number;
  /** The step it goes on after: that of the checkpoint, 0 where nothing was saved yet. */
  step: number;
  /** The last step that was done before. */
  reached: number;
  /** The ranks that were lost, as far as they are known. */
  ranks: number[];
  /** What went wrong. */
  reason: string;
  /** When, ISO 8601. */
  time: string;
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
  | SlowEvent
  | RestartEvent
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
  /** Most bytes of intermediate memory at once, of several ranks on the one that took most. */
  peakRegionBytes: number;
  /** Most resident memory of the process. */
  peakRssBytes: number;
  /** MaxVio over the held-out text, mean over layers; null like `valLoss`. */
  maxViolation: number | null;
  /** How the model was spread. */
  layout: LayoutReport;
  /** Times that the run was begun again because ranks were lost. */
  restarts: number;
  /** Share of its steps that each rank computed. */
  computed: number[];
  /** Which kernels ran. */
  kernels: KernelsUsed;
  /** Time of this process's part of the run. */
  seconds: number;
}
