// Borders of documents for a step whose attention keeps them apart: those of every micro-batch, and a place that the running
// one reads, one list for the main model and one for each depth of multi-token prediction.
//
// Legend: B sequences of a micro-batch, L tokens of a sequence; list k has B · (L − k) + 1 borders.
import type { Kernels } from '@baleen/kernels';
import { documentBorders } from '@baleen/mla';
import { type Bundle, emptyTensor, type Region, type Tensor, writeTensor } from '@baleen/tensor';

/** Sizes of {@link StepBorders}. */
export interface BorderSizes {
  /** Micro-batches of the largest step. */
  microBatches: number;
  /** B. */
  batch: number;
  /** L − k for the main model (k = 0) and each depth k. */
  lengths: readonly number[];
}

/** The borders of a step's documents. */
export class StepBorders {
  /** What the running micro-batch adds to the model's input: `borders`, and `borders{k}` of depth k. */
  readonly micro: Bundle;
  private readonly all: Tensor;
  private readonly running: Tensor;
  private readonly host: Int32Array;
  private readonly starts: readonly number[];

  /**
   * @param region - where they live
   * @param sizes - see {@link BorderSizes}
   */
  constructor(
    region: Region,
    private readonly sizes: BorderSizes,
  ) {
    const { microBatches, batch, lengths } = sizes;
    const counts = lengths.map((length) => batch * length + 1);
    this.starts = counts.map((_, k) => counts.slice(0, k).reduce((sum, count) => sum + count, 0));
    const count = counts.reduce((sum, each) => sum + each, 0);
    this.all = emptyTensor(region, [microBatches, count], 'i32');
    this.running = emptyTensor(region, [count], 'i32');
    this.host = new Int32Array(count);
    this.micro = this.lists(this.running);
  }

  /**
   * A micro-batch's borders where they lie.
   * @param index - which micro-batch
   * @returns as {@link micro}
   */
  of(index: number): Bundle {
    const row = this.all.rows(index, 1);
    return this.lists(row.reshape([row.size]));
  }

  private lists(all: Tensor): Bundle {
    const { batch, lengths } = this.sizes;
    return Object.fromEntries(
      lengths.map((length, k) => [
        k === 0 ? 'borders' : `borders${k}`,
        all.rows(this.starts[k], batch * length + 1),
      ]),
    );
  }

  /**
   * Takes a micro-batch's documents.
   * @param index - which micro-batch
   * @param documents - the document of every input [B · L]
   */
  load(index: number, documents: Int32Array): void {
    const { batch, lengths } = this.sizes;
    lengths.forEach((rows, k) => {
      const start = this.starts[k];
      const out = this.host.subarray(start, start + batch * rows + 1);
      documentBorders(documents, { batch, length: lengths[0], rows }, { out });
    });
    writeTensor(this.all.rows(index, 1), this.host);
  }

  /**
   * Makes a micro-batch the running one.
   * @param kernels - the backend
   * @param index - which
   */
  begin(kernels: Kernels, index: number): void {
    kernels.copy(this.running, this.all.rows(index, 1));
  }
}
