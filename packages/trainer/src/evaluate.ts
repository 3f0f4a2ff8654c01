// Evaluation: the loss of held-out text, every token of every document predicted once, in nats a token and bits a byte.
//
// Windows of one length run together without padding, and a row's result does not depend on the rows beside it, so the
// numbers are the same for any number of windows at once.
import type { Decoder } from '@baleen/model';
import { maxViolation } from '@baleen/moe-router';
import {
  type ComputePhase,
  emptyTensor,
  Region,
  Run,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';

import {
  heldOutWindows,
  someWindows,
  type TextDocument,
  type TokenBatch,
  type Tokenizer,
  type TokenWindow,
  windowBatches,
} from './data/index';
import { mean } from './step';

/** A model's score on text. */
export interface Evaluation {
  /** Nats a token. */
  loss: number;
  /** Bits a byte of text. */
  bitsPerByte: number;
  /** Tokens predicted. */
  tokens: number;
  /** Bytes they stand for. */
  bytes: number;
  /** MaxVio over all tokens run (context counts as often as it ran), mean over layers; 0 without experts. */
  maxViolation: number;
  /** Tokens each expert got, by layer with experts, likewise. */
  loads: number[][];
}

/** How to run windows. */
export interface WindowRunOptions {
  /** Windows at once (default 8); results do not depend on it. */
  sequences?: number;
  /** Intermediate memory to use (default: its own). */
  region?: Region;
  /** Stops between batches by throwing its reason. */
  signal?: AbortSignal;
  /** Told the share of the windows that are done, after each batch. */
  onProgress?: (share: number) => void;
}

/** How to evaluate. */
export interface EvaluateOptions extends WindowRunOptions {
  /** Tokens of a window (default: the model's longest, at most 1,024). */
  sequence?: number;
  /** Share of a window that is context only (default 0.5). */
  stride?: number;
  /** Most tokens to predict, spread over all documents; 0 for all (default). */
  tokens?: number;
}

/**
 * Scores text.
 * @param model - the decoder
 * @param tokenizer - its tokenizer
 * @param documents - the text
 * @param options - see {@link EvaluateOptions}
 * @returns the score
 * @throws `ERR_BALEEN_DATA_EMPTY` for text without tokens
 */
export async function evaluate(
  model: Decoder,
  tokenizer: Tokenizer,
  documents: readonly TextDocument[],
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { sequence = Math.min(model.config.maxSequence, 1024), stride = 0.5, tokens = 0 } = options;
  if (sequence > model.config.maxSequence)
    throw Object.assign(
      new Error(
        `windows of ${sequence} tokens exceed config.maxSequence (${model.config.maxSequence})`,
      ),
      { code: 'ERR_BALEEN_USAGE_SEQUENCE', hint: 'use shorter windows' },
    );
  const ids = documents.map(({ text }) => tokenizer.encode(text));
  const windows = heldOutWindows(ids, { documentEnd: tokenizer.documentEnd, sequence, stride });
  return runWindows(model, tokenizer, someWindows(windows, tokens), options);
}

/**
 * Scores windows.
 * @param model - the decoder
 * @param tokenizer - knows how many bytes a token stands for
 * @param windows - what to run
 * @param options - see {@link WindowRunOptions}
 * @returns the score
 */
export async function runWindows(
  model: Decoder,
  tokenizer: Pick<Tokenizer, 'bytesOf'>,
  windows: readonly TokenWindow[],
  options: WindowRunOptions = {},
): Promise<Evaluation> {
  const { sequences = 8, region = new Region(model.kernels, 'evaluation') } = options;
  const { signal, onProgress } = options;
  if (windows.length === 0)
    throw Object.assign(new Error('there is no text to evaluate'), {
      code: 'ERR_BALEEN_DATA_EMPTY',
      hint: 'give text with at least one byte',
    });
  const phases = model.lossPhases({ mainOnly: true });
  const loads = new Loads(model, region);
  let nats = 0;
  let tokens = 0;
  let bytes = 0;
  let done = 0;
  try {
    for (const batch of windowBatches(windows, sequences)) {
      signal?.throwIfAborted();
      const losses = await runBatch(region, phases, batch, loads);
      batch.targets.forEach((target, i) => {
        if (target < 0) return;
        nats += losses[i];
        tokens += 1;
        bytes += tokenizer.bytesOf(target);
      });
      done += batch.sequences;
      onProgress?.(done / windows.length);
      // Kernels block this thread: let signals and timers through.
      await new Promise(setImmediate);
    }
    const perExpert = await loads.read();
    return {
      loss: nats / tokens,
      bitsPerByte: nats / Math.LN2 / bytes,
      tokens,
      bytes,
      maxViolation: mean(perExpert.map(maxViolation)),
      loads: perExpert,
    };
  } finally {
    loads.release();
  }
}

/** Losses of a batch's positions. */
async function runBatch(
  region: Region,
  phases: readonly ComputePhase[],
  batch: TokenBatch,
  loads: Loads,
): Promise<Float32Array> {
  const { sequences, sequence } = batch;
  const ids = tensorFrom(region, [sequences, sequence], batch.ids);
  const targets = tensorFrom(region, [sequences * sequence], batch.targets);
  const run = new Run(region, { grad: false });
  try {
    let losses = targets;
    loads.restart();
    phases.forEach((phase, p) => {
      const output = run.forward(phase, p === 0 ? { ids, targets } : undefined);
      if ('offsets' in output) loads.add(output.offsets as Tensor);
      if ('losses' in output) losses = output.losses as Tensor;
    });
    return (await losses.read()) as Float32Array;
  } finally {
    run.finish();
    ids.block.release();
    targets.block.release();
  }
}

/** Counts how many tokens each expert got, layer by layer, without reading back. */
class Loads {
  /** Sums of offsets [E + 1] of each layer with experts: as counts add up, so do their running sums. */
  private readonly sums: Tensor[];
  private next = 0;

  constructor(
    private readonly model: Decoder,
    region: Region,
  ) {
    const { routedExperts } = model.config.moe;
    this.sums = model.layers
      .filter(({ router }) => router !== null)
      .map(() => emptyTensor(region, [routedExperts + 1], 'i32'));
    for (const sum of this.sums) model.kernels.fill(sum, 0);
  }

  /** A batch begins: the next offsets are the first layer's. */
  restart(): void {
    this.next = 0;
  }

  /** Adds a layer's offsets. */
  add(offsets: Tensor): void {
    const sum = this.sums[this.next++];
    this.model.kernels.add(sum, sum, offsets);
  }

  /** Counts by layer. */
  async read(): Promise<number[][]> {
    const loads: number[][] = [];
    for (const sum of this.sums) {
      const offsets = await sum.read();
      loads.push(Array.from(offsets.subarray(1), (end, e) => end - offsets[e]));
    }
    return loads;
  }

  release(): void {
    for (const sum of this.sums) sum.block.release();
  }
}
