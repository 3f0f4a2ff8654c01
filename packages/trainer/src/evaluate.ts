// Evaluation: the loss of held-out text, every token of every document predicted once, in nats a token and bits a byte.
//
// Windows of one length run together without padding, and a row's result does not depend on the rows beside it, so the
// numbers are the same for any number of windows at once, and of ranks that score some each.
import type { Communicator } from '@baleen/comm';
import { cutStages, type Decoder } from '@baleen/model';
import { maxViolation } from '@baleen/moe-router';
import {
  emptyTensor,
  type Phase,
  Region,
  type Tensor,
  tensorFrom,
  writeTensor,
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
import { type BatchScores, type DepthScore, DepthScores, listsOf } from './depth-scores';
import { agreeToStop } from './ranks/agree';
import { Layout, oneRank } from './ranks/layout';
import { runForward } from './ranks/stage-forward';
import { routerPlace, routes } from './router-place';
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
  /**
   * Ranks that score together, each lane some of the batches: all call with the same windows, and all get the same score, which
   * does not depend on their number (default: this one alone).
   */
  layout?: Layout;
}

/** Code of the error where another rank's signal stopped an evaluation. */
export const stoppedCode = 'ERR_BALEEN_TRAIN_STOPPED';

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
  const { signal, onProgress, routing, layout = new Layout(oneRank) } = options;
  const { world, lane, lanes } = layout;
  if (windows.length === 0)
    throw Object.assign(new Error('there is no text to evaluate'), {
      code: 'ERR_BALEEN_DATA_EMPTY',
      hint: 'give text with at least one byte',
    });
  routing?.begin(windows.reduce((sum, { ids }) => sum + ids.length, 0));
  const { depth: depths } = model.config.mtp;
  const loads = new Loads(model, region);
  const scores = new DepthScores(depths);
  let bytes = 0;
  let done = 0;
  try {
    const depthsOf = ({ sequence }: TokenBatch): number =>
      // Windows of one token are too short for a depth.
      Math.min(depths, sequence - 1);
    const batches = windowBatches(windows, sequences);
    for (let first = 0; first < batches.length; first += lanes) {
      if (agreeToStop(world, signal)) {
        signal?.throwIfAborted();
        throw Object.assign(new Error('another rank was told to stop'), { code: stoppedCode });
      }
      const round = batches.slice(first, first + lanes).map((batch) => ({
        batch,
        lists: listsOf(batch, depthsOf(batch)),
      }));
      // A lane that has none left runs another's once more: its experts are needed.
      const own = round.at(lane) ?? round[0];
      const counts = lane < round.length;
      const index = first + lane;
      const documents = own.batch.documents.inputs;
      const onScores =
        routing &&
        ((layer: number, scores: Float32Array) => {
          routing.add({ batch: index, layer, scores, documents });
        });
      const counting = counts ? loads : null;
      const said = await runBatch(model, region, layout, { ...own, loads: counting, onScores });
      gatherScores(layout, round, said).forEach((each, i) => {
        scores.add(round[i].batch, round[i].lists, each);
      });
      for (const { batch } of round) {
        for (const target of batch.targets) if (target >= 0) bytes += tokenizer.bytesOf(target);
        done += batch.sequences;
      }
      onProgress?.(done / windows.length);
      // Kernels block this thread: let signals and timers through.
      await new Promise(setImmediate);
    }
    loads.addOver(world);
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

/** Hands every rank what all said of a round's batches, in their order. */
function gatherScores(
  { world, lanes, places }: Layout,
  round: readonly { lists: readonly Int32Array[] }[],
  own: BatchScores,
): BatchScores[] {
  if (world.size === 1) return [own];
  // The last stage of a lane says what its batch came to.
  const firstSpeaker = places[places.length - 1] * lanes;
  const sizes = Array.from({ length: world.size }, (_, rank) =>
    (round[rank - firstSpeaker]?.lists ?? []).reduce((sum, { length }) => sum + length, 0),
  );
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const losses = new Float32Array(total);
  const likeliest = new Int32Array(total);
  const mine = sizes[world.rank];
  world.allGather(losses, own.losses.subarray(0, mine), { counts: sizes });
  world.allGather(likeliest, own.likeliest.subarray(0, mine), { counts: sizes });
  let start = 0;
  return round.map((_, i) => {
    const end = start + sizes[firstSpeaker + i];
    const each = { losses: losses.subarray(start, end), likeliest: likeliest.subarray(start, end) };
    start = end;
    return each;
  });
}

/** A batch, and who looks on. */
interface BatchRun {
  batch: TokenBatch;
  /** What positions predict, of the main model and of each depth that runs. */
  lists: readonly Int32Array[];
  loads: Loads | null;
  onScores: ((layer: number, scores: Float32Array) => void) | undefined;
}

/**
 * Losses and likeliest tokens of a batch's positions, those of the main model and of as many depths as there are lists; none
 * where this rank does not have the last stage.
 */
async function runBatch(
  model: Decoder,
  region: Region,
  layout: Layout,
  { batch, lists, loads, onScores }: BatchRun,
): Promise<BatchScores> {
  const { sequences, sequence } = batch;
  const all = Int32Array.from(lists.flatMap((list) => [...list]));
  const ids = tensorFrom(region, [sequences, sequence], batch.ids);
  const targets = tensorFrom(region, [all.length], all);
  const depths = lists.length - 1;
  const options = { depths, likeliest: true, withScores: onScores !== undefined };
  let said: BatchScores = { losses: new Float32Array(0), likeliest: new Int32Array(0) };
  try {
    await runForward(model, cutStages(model.config, layout.stages), layout, {
      ...{ region, depths, input: { ids, targets } },
      phasesOf: (stage) => model.stagePhases(stage, options),
      visit: async (phase, output) => {
        if (phase.name === 'head')
          said = {
            losses: (await (output.losses as Tensor).read()).slice() as Float32Array,
            likeliest: (await (output.likeliest as Tensor).read()).slice() as Int32Array,
          };
        if (!loads || !routes(phase)) return;
        const layer = loads.add(phase, output.offsets as Tensor);
        if (onScores && layer !== null)
          onScores(layer, Float32Array.from(await (output.scores as Tensor).read()));
      },
    });
    return said;
  } finally {
    ids.block.release();
    targets.block.release();
  }
}

/** Counts how many tokens each expert got, layer by layer of the whole model, without reading back. */
class Loads {
  /** Sums of offsets [E + 1] of each layer with experts: as counts add up, so do their running sums. */
  private readonly sums: Tensor[];

  constructor(
    private readonly model: Decoder,
    region: Region,
  ) {
    const { layers, denseLayers, moe } = model.config;
    this.sums = Array.from({ length: Math.max(0, layers - denseLayers) }, () =>
      emptyTensor(region, [moe.routedExperts + 1], 'i32'),
    );
    for (const sum of this.sums) model.kernels.fill(sum, 0);
  }

  /**
   * Adds a layer's offsets.
   * @returns which layer's, or null: depths of multi-token prediction come after the layers and are not counted
   */
  add(phase: Phase, offsets: Tensor): number | null {
    const layer = routerPlace(phase, this.model.config);
    const sum = this.sums[layer] as Tensor | undefined;
    if (!sum) return null;
    this.model.kernels.add(sum, sum, offsets);
    return layer;
  }

  /** Adds what other ranks counted. */
  addOver(ranks: Communicator): void {
    if (ranks.size === 1) return;
    this.model.kernels.flush();
    for (const sum of this.sums) {
      const values = (sum.readSync() as Int32Array).slice();
      ranks.allReduce(values, values);
      writeTensor(sum, values);
    }
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
