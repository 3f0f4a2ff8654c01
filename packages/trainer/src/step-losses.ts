// Losses of a step: those of each micro-batch by themselves, added in one tree over micro-batches, so that the sums do not
// depend on which rank ran which of them, nor on which rank has which layer.
//
// Legend: D depths of multi-token prediction; Q routers of the whole model; M micro-batches; L tokens of a sequence.
import type { Communicator } from '@baleen/comm';
import type { Kernels } from '@baleen/kernels';
import { emptyTensor, type Region, type Tensor, treeSum } from '@baleen/tensor';

import { addOver } from './ranks/add-over';

/** The losses of a step. */
export class StepLosses {
  /** Of the running micro-batch by depth, then balance losses by router; of all micro-batches after {@link total}: [D + 1 + Q]. */
  readonly sums: Tensor;
  /** Where routers add their balance losses [Q]; null without routers. */
  readonly balance: Tensor | null;
  private readonly kernels: Kernels;
  /** Of every micro-batch [M, D + 1 + Q]; 0 where other ranks have them. */
  private readonly terms: Tensor;
  private readonly partial: Tensor;
  private readonly whole: Tensor;

  /**
   * @param region - where they live
   * @param sizes - the largest step's
   */
  constructor(
    region: Region,
    private readonly sizes: {
      /** M. */
      microBatches: number;
      /** Sequences of a micro-batch. */
      microBatch: number;
      /** L − k for the main model (k = 0) and each depth k. */
      lengths: readonly number[];
      /** Q. */
      routers: number;
    },
  ) {
    const { microBatches, lengths, routers } = sizes;
    const width = lengths.length + routers;
    this.kernels = region.kernels;
    this.sums = emptyTensor(region, [width]);
    this.balance = routers === 0 ? null : this.sums.rows(lengths.length, routers);
    this.terms = emptyTensor(region, [microBatches, width]);
    this.partial = emptyTensor(region, [lengths.length]);
    this.whole = emptyTensor(region, [1]);
  }

  /** A step begins. */
  begin(): void {
    this.kernels.fill(this.terms, 0);
  }

  /** A micro-batch, or a part of it, begins. */
  start(): void {
    this.kernels.fill(this.sums, 0);
  }

  /**
   * Adds a micro-batch's losses, depth by depth.
   * @param losses - of its positions, the main model's first
   */
  add(losses: Tensor): void {
    const { kernels, partial, sizes } = this;
    let start = 0;
    sizes.lengths.forEach((length, depth) => {
      const count = sizes.microBatch * length;
      kernels.sum(partial.rows(depth, 1), losses.rows(start, count));
      start += count;
    });
    const sums = this.sums.rows(0, partial.size);
    kernels.add(sums, sums, partial);
  }

  /**
   * What came since {@link start} is a micro-batch's.
   * @param microBatch - which
   */
  keep(microBatch: number): void {
    const own = this.terms.rows(microBatch, 1);
    this.kernels.add(own, own, this.sums);
  }

  /**
   * Adds up all micro-batches of all ranks.
   * @param microBatches - of this step
   * @param ranks - collective
   * @returns the sum of all losses [1], the same tensor every time; {@link sums} has them one by one
   */
  total(microBatches: number, ranks: Communicator): Tensor {
    const { kernels } = this;
    // All but one rank have 0 where one has a loss: no order of adding changes a bit.
    addOver(kernels, this.terms, ranks);
    const terms = Array.from({ length: microBatches }, (_, index) => ({
      ...{ level: 0, index, sum: this.terms.rows(index, 1) },
    }));
    const sum = treeSum(terms, (left, right) => {
      kernels.add(left, left, right);
      return left;
    });
    if (sum) kernels.copy(this.sums, sum);
    kernels.sum(this.whole, this.sums);
    return this.whole;
  }
}
