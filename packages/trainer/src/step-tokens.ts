// Tokens of a step: cut into micro-batches, with what each position predicts and weighs, and the place that the running
// micro-batch reads. Memory is taken once.
//
// Legend: S sequences of the step, B of a micro-batch, L tokens of a sequence, D depths of multi-token prediction;
// R = B · Σ_{k=0…D} (L − k) predicted positions of a micro-batch.
import type { Kernels } from '@baleen/kernels';
import { lossWeights, mtpTargets } from '@baleen/mtp';
import { type Bundle, emptyTensor, type Region, type Tensor, writeTensor } from '@baleen/tensor';

import type { TrainConfig } from './config';
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

/** The tokens of a step. */
export class StepTokens {
  /** What the running micro-batch reads: ids [B, L], targets [R], rowScale [R], and borders of documents. */
  readonly micro: { ids: Tensor; targets: Tensor; rowScale: Tensor } & Bundle;
  /** Positions that count, of the main model and of each depth. */
  readonly counted: number[];
  /** L − k for k = 0 … D. */
  readonly lengths: readonly number[];
  private readonly kernels: Kernels;
  private readonly rows: number;
  private readonly ids: Tensor;
  private readonly targets: Tensor;
  private readonly rowScale: Tensor;
  private readonly host: { targets: Int32Array; rowScale: Float32Array } | null;
  /** Of documents, where attention keeps them apart. */
  private readonly borders: StepBorders | null;

  /**
   * @param region - where they live
   * @param batch - the largest step
   * @param options - `depths`: D; `documentMask`: attention keeps documents apart
   */
  constructor(
    region: Region,
    private readonly batch: TrainConfig['batch'],
    { depths, documentMask }: { depths: number; documentMask: boolean },
  ) {
    const { sequence, sequences, microBatch } = batch;
    const microBatches = sequences / microBatch;
    this.kernels = region.kernels;
    this.lengths = Array.from({ length: depths + 1 }, (_, k) => sequence - k);
    this.rows = this.lengths.reduce((sum, length) => sum + microBatch * length, 0);
    this.counted = new Array<number>(depths + 1).fill(0);
    const rows = microBatches * this.rows;
    this.ids = emptyTensor(region, [sequences, sequence], 'i32');
    this.targets = emptyTensor(region, [rows], 'i32');
    this.rowScale = emptyTensor(region, [rows]);
    const sizes = { microBatches, batch: microBatch, lengths: this.lengths };
    this.borders = documentMask ? new StepBorders(region, sizes) : null;
    this.micro = {
      ...this.borders?.micro,
      ids: emptyTensor(region, [microBatch, sequence], 'i32'),
      targets: emptyTensor(region, [this.rows], 'i32'),
      rowScale: emptyTensor(region, [this.rows]),
    };
    // The null backend sizes runs whose batch no host memory would hold.
    this.host =
      this.kernels.implementation === 'null'
        ? null
        : { targets: new Int32Array(rows), rowScale: new Float32Array(rows) };
  }

  /**
   * Takes the tokens of a step.
   * @param batch - S ≤ `batch.sequences` sequences, a multiple of the micro-batch
   * @param lambda - λ of multi-token prediction
   */
  load(batch: StepBatch, lambda: number): void {
    // The null backend takes no tokens.
    if (!this.host) return;
    const { sequence, microBatch } = this.batch;
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
   * Makes a micro-batch the running one.
   * @param index - which
   */
  begin(index: number): void {
    const { kernels, micro, rows } = this;
    const { microBatch } = this.batch;
    kernels.copy(micro.ids, this.ids.rows(index * microBatch, microBatch));
    kernels.copy(micro.targets, this.targets.rows(index * rows, rows));
    kernels.copy(micro.rowScale, this.rowScale.rows(index * rows, rows));
    this.borders?.begin(kernels, index);
  }

  /**
   * What a micro-batch reads, where it lies: for several that are under way at once.
   * @param index - which
   * @returns as {@link micro}
   */
  of(index: number): Bundle {
    const { rows } = this;
    const { microBatch } = this.batch;
    return {
      ...this.borders?.of(index),
      ids: this.ids.rows(index * microBatch, microBatch),
      targets: this.targets.rows(index * rows, rows),
      rowScale: this.rowScale.rows(index * rows, rows),
    };
  }
}
