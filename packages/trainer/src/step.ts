// One training step: micro-batches forward and backward through the model's phases, gradients added up, one clipped AdamW
// update, router biases from the whole batch's counts.
//
// Nothing is read back between the first micro-batch and the update: losses are summed, checked and used by kernels. The
// host looks once, at the end. All memory is taken when the step is made, or from a region that every micro-batch uses
// again.
//
// Legend: S sequences of the step, B of a micro-batch, L tokens of a sequence, D depths of multi-token prediction;
// R = B · Σ_{k=0…D} (L − k) predicted positions of a micro-batch.
import type { Recording } from '@baleen/kernels';
import type { Decoder, RecomputedPart } from '@baleen/model';
import { maxViolation, type Router } from '@baleen/moe-router';
import { lossWeights, mtpTargets } from '@baleen/mtp';
import {
  AdamW,
  type Bundle,
  type ComputePhase,
  emptyTensor,
  Region,
  type Tensor,
  writeTensor,
} from '@baleen/tensor';

import { batchCounts, countingPhases } from './batch-counts';
import type { TrainConfig } from './config';
import { type Piece, passPieces } from './pass';
import type { StepPlan } from './schedule';
import { StepBorders } from './step-borders';

/** Tokens of a step, as the packer cuts them: each array [S × L]. */
export interface StepBatch {
  /** Input tokens. */
  ids: Int32Array;
  /** The token after each; −1 does not count. */
  targets: Int32Array;
  /** Document of every input and of every target. */
  documents: { inputs: Int32Array; targets: Int32Array };
}

/** What came of a step. */
export interface StepReport {
  /** Loss and gradients were finite; if not, nothing has changed. */
  finite: boolean;
  /** Main loss, nats a counted token. */
  loss: number;
  /** Loss of each depth, likewise. */
  mtpLoss: number[];
  /** Balance loss, α included. */
  balanceLoss: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  /** MaxVio of the batch, mean over the main model's layers; 0 without experts. */
  maxViolation: number;
  /** Tokens each expert of the batch got, by layer of the main model with experts. */
  loads: number[][];
}

/** Sizes and settings that hold for every step. */
export type StepSettings = Pick<TrainConfig, 'batch' | 'optimizer'> & {
  /** α of the balance loss. */
  balanceFactor: number;
  /** How loads are balanced (default: V3's way). A loss over the batch is over all its micro-batches. */
  balance?: TrainConfig['balance'];
  /** Attention keeps documents apart (default: it does not, as V3's). */
  documentMask?: boolean;
  /** Parts that are kept for backward rather than made again (default none). */
  keep?: readonly RecomputedPart[];
};

/** The model's phases for batches of one size, and their kernel calls once they were made. */
interface Chain {
  sequences: number;
  phases: ComputePhase[];
  /** What counts for the balance loss before these, where it is taken over several micro-batches. */
  counting: ComputePhase[] | null;
  recordings: Map<string, Recording[]>;
}

/** Trains a model step by step. */
export class TrainingStep {
  /** The optimizer and its moments. */
  readonly optimizer: AdamW;
  /** Intermediate memory of a micro-batch; empty between micro-batches. */
  readonly region: Region;
  /** Inputs, sums and the like, taken once. */
  readonly fixed: Region;
  private readonly ids: Tensor;
  private readonly targets: Tensor;
  private readonly rowScale: Tensor;
  private readonly host: { targets: Int32Array; rowScale: Float32Array } | null;
  /** Sums of losses by depth, then the balance loss: [D + 2]. */
  private readonly sums: Tensor;
  private readonly partial: Tensor;
  private readonly total: Tensor;
  private readonly one: Tensor;
  private readonly counted: number[];
  /** What the running micro-batch reads: ids [B, L], targets [R], rowScale [R], and borders of documents. */
  private readonly micro: { ids: Tensor; targets: Tensor; rowScale: Tensor } & Bundle;
  /** What a balance loss over a batch of several micro-batches counts, by router. */
  private readonly counts: ReadonlyMap<Router, Tensor> | null;
  /** Of documents, where attention keeps them apart. */
  private readonly borders: StepBorders | null;
  private chain: Chain | null = null;

  /**
   * @param model - what is trained
   * @param settings - see {@link StepSettings}; the largest batch is `batch.sequences`
   * @param options - `region`: intermediate memory to share with evaluation
   */
  constructor(
    private readonly model: Decoder,
    private readonly settings: StepSettings,
    options: { region?: Region } = {},
  ) {
    const { kernels } = model;
    const { sequence, sequences, microBatch } = settings.batch;
    const lists = model.config.mtp.depth + 1;
    this.optimizer = new AdamW(kernels, model, { moments: settings.optimizer.moments });
    this.region = options.region ?? new Region(kernels, 'micro-batch');
    this.fixed = new Region(kernels, 'step');
    const rows = (sequences / microBatch) * this.rows;
    this.ids = emptyTensor(this.fixed, [sequences, sequence], 'i32');
    this.targets = emptyTensor(this.fixed, [rows], 'i32');
    this.rowScale = emptyTensor(this.fixed, [rows]);
    const sizes = {
      microBatches: sequences / microBatch,
      batch: microBatch,
      lengths: this.lengths,
    };
    this.borders = settings.documentMask ? new StepBorders(this.fixed, sizes) : null;
    this.micro = {
      ...this.borders?.micro,
      ids: emptyTensor(this.fixed, [microBatch, sequence], 'i32'),
      targets: emptyTensor(this.fixed, [this.rows], 'i32'),
      rowScale: emptyTensor(this.fixed, [this.rows]),
    };
    const overBatch = settings.balance?.lossOver === 'batch' && settings.balanceFactor > 0;
    this.counts = overBatch && sequences > microBatch ? batchCounts(model, this.fixed) : null;
    this.sums = emptyTensor(this.fixed, [lists + 1]);
    this.partial = emptyTensor(this.fixed, [lists]);
    this.total = emptyTensor(this.fixed, [1]);
    this.one = emptyTensor(this.fixed, [1]);
    kernels.fill(this.one, 1);
    this.counted = new Array<number>(lists).fill(0);
    // The null backend sizes runs whose batch no host memory would hold.
    this.host =
      kernels.implementation === 'null'
        ? null
        : { targets: new Int32Array(rows), rowScale: new Float32Array(rows) };
  }

  /** R. */
  private get rows(): number {
    const { microBatch } = this.settings.batch;
    return this.lengths.reduce((sum, length) => sum + microBatch * length, 0);
  }

  /** L − k for k = 0 … D. */
  private get lengths(): number[] {
    const { sequence } = this.settings.batch;
    return Array.from({ length: this.model.config.mtp.depth + 1 }, (_, k) => sequence - k);
  }

  /**
   * Hands the step its tokens.
   * @param batch - S ≤ `batch.sequences` sequences, a multiple of the micro-batch
   * @param lambda - λ of multi-token prediction
   */
  load(batch: StepBatch, lambda: number): void {
    // The null backend takes no tokens.
    if (!this.host) return;
    const { sequence, microBatch } = this.settings.batch;
    const { rows, lengths, counted } = this;
    const sequences = batch.ids.length / sequence;
    const microBatches = sequences / microBatch;
    const { targets, rowScale } = this.host;
    const perMicroBatch = microBatch * sequence;
    counted.fill(0);
    const lists: Int32Array[][] = [];
    for (let m = 0; m < microBatches; m += 1) {
      const part = (array: Int32Array): Int32Array =>
        array.subarray(m * perMicroBatch, (m + 1) * perMicroBatch);
      const next = part(batch.targets);
      const documents = {
        inputs: part(batch.documents.inputs),
        targets: part(batch.documents.targets),
      };
      this.borders?.load(m, documents.inputs);
      let start = m * rows;
      lists.push(
        lengths.map((length, depth) => {
          const list = targets.subarray(start, start + microBatch * length);
          start += list.length;
          if (depth === 0) list.set(next);
          else
            mtpTargets(
              next,
              documents,
              { batch: microBatch, length: sequence, depth },
              { out: list },
            );
          for (const target of list) if (target >= 0) counted[depth] += 1;
          return list;
        }),
      );
    }
    // A position weighs one over what counts in the whole batch, not in its micro-batch.
    lists.forEach((list, m) => {
      lossWeights(list, counted, lambda, { out: rowScale.subarray(m * rows, (m + 1) * rows) });
    });
    writeTensor(this.ids.rows(0, sequences), batch.ids);
    writeTensor(
      this.targets.rows(0, microBatches * rows),
      targets.subarray(0, microBatches * rows),
    );
    writeTensor(
      this.rowScale.rows(0, microBatches * rows),
      rowScale.subarray(0, microBatches * rows),
    );
  }

  /**
   * Enqueues a whole step on the tokens loaded: all micro-batches, then the update of the weights.
   * @param plan - see {@link StepPlan}
   */
  run(plan: StepPlan): void {
    drain(this.pieces(plan));
  }

  /**
   * {@link run} piece by piece, each a phase's forward or backward, whose name it says when it is done: kernels block the
   * thread, and a caller may let signals through in between. After the last one comes the update.
   * @param plan - see {@link StepPlan}
   */
  *pieces(plan: StepPlan): Generator<string, void, void> {
    const { model, settings } = this;
    const { kernels } = model;
    const microBatches = plan.sequences / settings.batch.microBatch;
    kernels.fill(this.sums, 0);
    for (let m = 0; m < microBatches; m += 1) yield* this.countPieces(m, plan.sequences);
    for (let m = 0; m < microBatches; m += 1) yield* this.microBatchPieces(m, plan.sequences);
    kernels.sum(this.total, this.sums);
    this.optimizer.update(this.total, { ...settings.optimizer, learningRate: plan.learningRate });
  }

  /**
   * Counts one micro-batch for a balance loss over the batch. All are counted before the first goes forward and backward.
   * Does nothing where the loss is another, or the batch has one micro-batch.
   * @param index - which
   * @param sequences - S
   */
  countMicroBatch(index: number, sequences: number): void {
    drain(this.countPieces(index, sequences));
  }

  /**
   * Runs one micro-batch forward and backward.
   * @param index - which
   * @param sequences - S
   */
  microBatch(index: number, sequences: number): void {
    drain(this.microBatchPieces(index, sequences));
  }

  private *countPieces(index: number, sequences: number): Generator<string, void, void> {
    const { counting } = this.chainFor(sequences);
    if (!counting) return;
    const { kernels } = this.model;
    if (index === 0) for (const counts of this.counts?.values() ?? []) kernels.fill(counts, 0);
    const pieces = counting.map(
      (phase, p): Piece => [
        `${phase.name} counting`,
        (run) => run.forward(phase, p === 0 ? this.micro : undefined),
      ],
    );
    yield* this.pass('counting', index, sequences, pieces);
  }

  private *microBatchPieces(index: number, sequences: number): Generator<string, void, void> {
    const { phases } = this.chainFor(sequences);
    const forward = phases.map(
      (phase, p): Piece => [
        `${phase.name} forward`,
        (run) => {
          const output = run.forward(phase, p === 0 ? this.micro : undefined);
          // The last phase's: held until the way back begins.
          if ('losses' in output) this.addLosses(output.losses as Tensor);
        },
      ],
    );
    const backward = [...phases]
      .reverse()
      .map(
        ({ name }, p): Piece => [
          `${name} backward`,
          (run) => run.backwardInput(p === 0 ? { losses: this.one } : undefined),
        ],
      );
    yield* this.pass('training', index, sequences, [...forward, ...backward]);
  }

  /** A micro-batch's pass of either kind. */
  private *pass(
    kind: 'counting' | 'training',
    index: number,
    sequences: number,
    pieces: readonly Piece[],
  ): Generator<string, void, void> {
    const { model, micro, rows, region } = this;
    const { kernels } = model;
    const { microBatch } = this.settings.batch;
    kernels.copy(micro.ids, this.ids.rows(index * microBatch, microBatch));
    kernels.copy(micro.targets, this.targets.rows(index * rows, rows));
    kernels.copy(micro.rowScale, this.rowScale.rows(index * rows, rows));
    this.borders?.begin(kernels, index);
    const { recordings } = this.chainFor(sequences);
    // The first micro-batch also makes the forms of the new weights.
    const which = `${kind}, ${index === 0 ? 'first' : 'others'}`;
    // Whoever may have made these forms already, an evaluation say: a recording must make them itself.
    if (kernels.record && index === 0 && !recordings.has(which))
      for (const [, parameter] of model.parameters()) parameter.version += 1;
    const { keep = [] } = this.settings;
    const grad = kind === 'training';
    yield* passPieces(pieces, { region, grad, keep, recordings, kind: which });
  }

  /** Adds a micro-batch's losses, depth by depth, to the step's sums. */
  private addLosses(losses: Tensor): void {
    const { kernels } = this.model;
    const { microBatch } = this.settings.batch;
    let start = 0;
    this.lengths.forEach((length, depth) => {
      kernels.sum(this.partial.rows(depth, 1), losses.rows(start, microBatch * length));
      start += microBatch * length;
    });
    const sums = this.sums.rows(0, this.partial.size);
    kernels.add(sums, sums, this.partial);
  }

  /** The chain for batches of this size: α is shared among all sequences of the batch. */
  private chainFor(sequences: number): Chain {
    if (this.chain?.sequences !== sequences) {
      const balanceFactor = this.settings.balanceFactor / sequences;
      const balanceLoss = this.sums.rows(this.partial.size, 1);
      const balanceOver = this.settings.balance?.lossOver ?? 'sequence';
      const counts = sequences > this.settings.batch.microBatch ? this.counts : null;
      this.chain = {
        sequences,
        phases: this.model.lossPhases({
          balanceFactor,
          balanceOver,
          balanceLoss,
          ...(counts && { balanceCounts: counts }),
        }),
        counting: counts && countingPhases(this.model, counts),
        recordings: new Map(),
      };
    }
    return this.chain;
  }

  /**
   * Ends the step: reads what it came to and, if that is finite, moves the router biases.
   * @param biasSpeed - γ
   * @returns losses, norm and balance
   */
  async finish(biasSpeed: number): Promise<StepReport> {
    const { model, optimizer, counted } = this;
    const sums = await this.sums.read();
    const [gradNorm] = await optimizer.norm.read();
    const [finite] = await optimizer.finite.read();
    const loads: number[][] = [];
    for (const { router } of model.layers) if (router) loads.push([...(await router.load.read())]);
    const lists = counted.length;
    const means = counted.map((count, depth) => sums[depth] / Math.max(1, count));
    for (const router of model.routers)
      if (finite === 1) router.updateBias(biasSpeed, this.settings.balance);
      else router.forgetLoads();
    return {
      finite: finite === 1,
      loss: means[0],
      mtpLoss: means.slice(1),
      balanceLoss: sums[lists],
      gradNorm,
      maxViolation: mean(loads.map(maxViolation)),
      loads,
    };
  }
}

/** Runs all pieces. */
function drain(pieces: Generator<string, void, void>): void {
  while (!pieces.next().done);
}

/**
 * The mean of numbers.
 * @param values - any number of them
 * @returns their mean; 0 of none
 */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
