// Evaluation: the loss of held-out text, every token of every document predicted once, in nats a token and bits a byte.
//
// Windows of one length run together without padding, and a row's result does not depend on the rows beside it, so the
// numbers are the same for any number of windows at once.
import type { Decoder } from '@baleen/model';
import { maxViolation } from '@baleen/moe-router';
import { type Bundle, emptyTensor, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';

import {
  heldOutWindows,
  someWindows,
  type TextDocument,
  type TokenBatch,
  type Tokenizer,
  type TokenWindow,
  windowBatches,
} from './data/index';
import { type DepthScore, DepthScores, listsOf } from './depth-scores';
import { mean } from './step';

/** A model's score on text. */
export interface Evaluation {
  /** Nats a token. */
  loss: number;
  /** Bits a byte of text. */
  bitsPerByte: number;
  /** Share of tokens that are the main model's likeliest. */
  accuracy: number;
  /** Scores of the depths of multi-token prediction, the first one's first. */
  mtp: DepthScore[];
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
  /** Watches the routers. */
  routing?: RoutingWatcher;
}

/** Watches what the routers of an evaluation see. */
export interface RoutingWatcher {
  /**
   * Told before the first batch how much there is.
   * @param tokens - tokens that every router will see, those that are only context included
   */
  begin(tokens: number): void;
  /**
   * Given what one layer's router sees of a batch.
   * @param routed - see {@link RoutedBatch}
   */
  add(routed: RoutedBatch): void;
}

/** What one layer's router sees of a batch of windows. */
export interface RoutedBatch {
  /** The batch, from 0. */
  batch: number;
  /** The layer, from 0, of those with experts. */
  layer: number;
  /** Scores without bias [tokens, experts]: the receiver's. */
  scores: Float32Array;
  /** The document of each token [tokens]. */
  documents: Int32Array;
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
  const { signal, onProgress, routing } = options;
  if (windows.length === 0)
    throw Object.assign(new Error('there is no text to evaluate'), {
      code: 'ERR_BALEEN_DATA_EMPTY',
      hint: 'give text with at least one byte',
    });
  routing?.begin(windows.reduce((sum, { ids }) => sum + ids.length, 0));
  const loads = new Loads(model, region);
  const scores = new DepthScores(model.mtp.length);
  let bytes = 0;
  let done = 0;
  try {
    for (const [index, batch] of windowBatches(windows, sequences).entries()) {
      signal?.throwIfAborted();
      const documents = batch.documents.inputs;
      const onScores =
        routing &&
        ((layer: number, own: Float32Array) => {
          routing.add({ batch: index, layer, scores: own, documents });
        });
      // Windows of one token are too short for a depth.
      const lists = listsOf(batch, Math.min(model.mtp.length, batch.sequence - 1));
      scores.add(batch, lists, await runBatch(model, region, batch, lists, loads, onScores));
      for (const target of batch.targets) if (target >= 0) bytes += tokenizer.bytesOf(target);
      done += batch.sequences;
      onProgress?.(done / windows.length);
      // Kernels block this thread: let signals and timers through.
      await new Promise(setImmediate);
    }
    const perExpert = await loads.read();
    const [{ loss, accuracy, tokens }, ...mtp] = scores.read();
    const mainLoss = loss ?? NaN;
    return {
      loss: mainLoss,
      bitsPerByte: (mainLoss * tokens) / Math.LN2 / bytes,
      accuracy: accuracy ?? NaN,
      mtp,
      tokens,
      bytes,
      maxViolation: mean(perExpert.map(maxViolation)),
      loads: perExpert,
    };
  } finally {
    loads.release();
  }
}

/** Losses and likeliest tokens of a batch's positions, those of the main model and of as many depths as there are lists. */
async function runBatch(
  model: Decoder,
  region: Region,
  batch: TokenBatch,
  lists: readonly Int32Array[],
  loads: Loads,
  onScores?: (layer: number, scores: Float32Array) => void,
): Promise<{ losses: Float32Array; likeliest: Int32Array }> {
  const { sequences, sequence } = batch;
  const all = Int32Array.from(lists.flatMap((list) => [...list]));
  const ids = tensorFrom(region, [sequences, sequence], batch.ids);
  const targets = tensorFrom(region, [all.length], all);
  const run = new Run(region, { grad: false });
  try {
    let output: Bundle = { ids, targets };
    loads.restart();
    const depths = lists.length - 1;
    const withScores = onScores !== undefined;
    const phases = model.lossPhases({ depths, likeliest: true, withScores });
    for (const [p, phase] of phases.entries()) {
      output = run.forward(phase, p === 0 ? output : undefined);
      if (!('offsets' in output)) continue;
      const layer = loads.add(output.offsets as Tensor);
      if (onScores && layer !== null)
        onScores(layer, Float32Array.from(await (output.scores as Tensor).read()));
    }
    const [losses, likeliest] = [output.losses as Tensor, output.likeliest as Tensor];
    return {
      losses: (await losses.read()) as Float32Array,
      likeliest: (await likeliest.read()) as Int32Array,
    };
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

  /**
   * Adds a layer's offsets.
   * @returns which layer's, or null: depths of multi-token prediction come after the layers and are not counted
   */
  add(offsets: Tensor): number | null {
    const layer = this.next++;
    const sum = this.sums[layer] as Tensor | undefined;
    if (!sum) return null;
    this.model.kernels.add(sum, sum, offsets);
    return layer;
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
