// Parameters that several ranks hold: their gradients are added up, each rank getting the sums of the elements that it
// updates, and the new values are handed round (ZeRO-1).
//
// Elements travel in buckets, so that staging stays small beside a model. A bucket has as many elements of every rank's
// share as any other has left: no rank waits while another adds.
import type { Communicator } from '@baleen/comm';
import type { Kernels } from '@baleen/kernels';
import {
  emptyTensor,
  type Region,
  type SharedParameter,
  type Tensor,
  type TreeNode,
  treeSum,
} from '@baleen/tensor';

import type { GradientSum } from './gradient-tree';

/** Elements of a bucket. */
export const bucketElements: number = 2 ** 21;

/** Neighbouring elements of a parameter in a bucket. */
interface Part {
  /** Which parameter. */
  index: number;
  /** Its first element. */
  start: number;
  /** Elements. */
  count: number;
  /** Where they lie in the bucket. */
  at: number;
  /** Where they lie in their owner's piece of it. */
  atOwner: number;
  /** Who updates them. */
  owner: number;
}

/** Parts of a bucket, and how many elements of it each rank updates. */
interface Bucket {
  parts: Part[];
  counts: number[];
}

/** Parameters held by the ranks of one communicator. */
export class ReplicatedParameters {
  private readonly kernels: Kernels;
  private readonly buckets: readonly Bucket[];
  private readonly whole: Tensor;
  private readonly own: Tensor;
  private nodesOut: Tensor | null = null;
  private nodesIn: Tensor | null = null;

  /**
   * @param region - where staging lives
   * @param communicator - who holds them
   * @param shared - the parameters, and who updates what
   */
  constructor(
    private readonly region: Region,
    private readonly communicator: Communicator,
    private readonly shared: readonly SharedParameter[],
  ) {
    this.kernels = region.kernels;
    this.buckets = cutBuckets(shared, communicator.size);
    // A model of V3's size has more buckets than a call takes arguments.
    const most = (sizes: readonly number[]): number =>
      sizes.reduce((largest, size) => Math.max(largest, size), 1);
    const sizes = this.buckets.map(({ counts }) => counts.reduce((sum, count) => sum + count, 0));
    this.whole = emptyTensor(region, [communicator.size === 1 ? 1 : most(sizes)]);
    this.own = emptyTensor(region, [
      most(this.buckets.map(({ counts }) => counts[communicator.rank])),
    ]);
  }

  /** Adds the gradients of all ranks, in their order: each rank's own elements are sums afterwards. */
  reduce(): void {
    const { kernels, communicator } = this;
    if (communicator.size === 1) return;
    for (const { parts, counts } of this.buckets) {
      for (const part of parts) kernels.copy(this.whole.rows(part.at, part.count), this.grad(part));
      kernels.flush();
      const size = counts.reduce((sum, count) => sum + count, 0);
      communicator.reduceScatter(
        hostOf(this.own.rows(0, counts[communicator.rank])),
        hostOf(this.whole.rows(0, size)),
        { counts },
      );
      this.takeOwn(parts, this.own);
    }
  }

  /**
   * Adds the nodes of all ranks in one tree: each rank's own elements are sums afterwards.
   * @param nodes - this rank's
   * @param ofRanks - levels and indices of every rank's nodes, as it has them
   */
  reduceTree(
    nodes: readonly TreeNode<GradientSum>[],
    ofRanks: readonly (readonly Omit<TreeNode<null>, 'sum'>[])[],
  ): void {
    const { kernels, communicator, region } = this;
    const { rank } = communicator;
    for (const { parts, counts } of this.buckets) {
      const size = counts.reduce((sum, count) => sum + count, 0);
      const out = (this.nodesOut = atLeast(this.nodesOut, region, nodes.length * size));
      const total = ofRanks.reduce((sum, { length }) => sum + length, 0);
      const landed = (this.nodesIn = atLeast(this.nodesIn, region, total * counts[rank]));
      for (const { index, start, count, at, atOwner, owner } of parts)
        nodes.forEach(({ sum }, n) => {
          const place = (at - atOwner) * nodes.length + n * counts[owner] + atOwner;
          kernels.copy(out.rows(place, count), sum[index].rows(start, count));
        });
      kernels.flush();
      const sendCounts = counts.map((count) => count * nodes.length);
      const recvCounts = ofRanks.map(({ length }) => length * counts[rank]);
      communicator.allToAll(
        hostOf(landed.rows(0, total * counts[rank])),
        hostOf(out.rows(0, nodes.length * size)),
        { sendCounts, recvCounts },
      );
      if (counts[rank] === 0) continue;
      const terms = ofRanks.flat().map(({ level, index }, n) => ({
        level,
        index,
        sum: landed.rows(n * counts[rank], counts[rank]),
      }));
      terms.sort((a, b) => a.index * 2 ** a.level - b.index * 2 ** b.level);
      const sum = treeSum(terms, (left, right) => {
        kernels.add(left, left, right);
        return left;
      });
      if (sum) this.takeOwn(parts, sum);
    }
  }

  /** Hands every rank the values of the others' elements. */
  gather(): void {
    const { kernels, communicator } = this;
    const { rank, size: ranks } = communicator;
    if (ranks === 1) return;
    for (const { parts, counts } of this.buckets) {
      for (const part of parts)
        if (part.owner === rank)
          kernels.copy(this.own.rows(part.atOwner, part.count), this.data(part));
      kernels.flush();
      const size = counts.reduce((sum, count) => sum + count, 0);
      communicator.allGather(
        hostOf(this.whole.rows(0, size)),
        hostOf(this.own.rows(0, counts[rank])),
        { counts },
      );
      for (const part of parts)
        if (part.owner !== rank)
          kernels.copy(this.data(part), this.whole.rows(part.at, part.count));
    }
    kernels.flush();
  }

  /** Puts sums where the optimizer looks for them. */
  private takeOwn(parts: readonly Part[], sums: Tensor): void {
    for (const part of parts)
      if (part.owner === this.communicator.rank)
        this.kernels.copy(this.grad(part), sums.rows(part.atOwner, part.count));
  }

  private grad({ index, start, count }: Part): Tensor {
    const { grad } = this.shared[index].parameter;
    return grad.reshape([grad.size]).rows(start, count);
  }

  private data({ index, start, count }: Part): Tensor {
    const { data } = this.shared[index].parameter;
    return data.reshape([data.size]).rows(start, count);
  }
}

/** Cuts every rank's elements into chunks; the nth chunks of all ranks are a bucket. */
function cutBuckets(shared: readonly SharedParameter[], ranks: number): Bucket[] {
  const most = Math.ceil(bucketElements / ranks);
  const buckets: Bucket[] = [];
  for (let owner = 0; owner < ranks; owner += 1) {
    let total = 0;
    shared.forEach(({ ranges }, index) => {
      const { start: first, count: all } = ranges[owner];
      for (let done = 0; done < all; ) {
        const nth = Math.floor(total / most);
        while (buckets.length <= nth)
          buckets.push({ parts: [], counts: new Array<number>(ranks).fill(0) });
        const { parts, counts } = buckets[nth];
        const count = Math.min(all - done, most - (total % most));
        parts.push({ index, start: first + done, count, at: 0, atOwner: counts[owner], owner });
        counts[owner] += count;
        total += count;
        done += count;
      }
    });
  }
  for (const { parts, counts } of buckets) {
    const starts = counts.map((_, owner) =>
      counts.slice(0, owner).reduce((sum, count) => sum + count, 0),
    );
    for (const part of parts) part.at = starts[part.owner] + part.atOwner;
  }
  return buckets;
}

/** Staging that grows to what a step needs. */
function atLeast(staging: Tensor | null, region: Region, size: number): Tensor {
  if (staging && staging.size >= size) return staging;
  staging?.block.release();
  return emptyTensor(region, [Math.max(1, size)]);
}

/** A tensor's values where they lie. */
function hostOf(tensor: Tensor): Float32Array {
  return tensor.readSync() as Float32Array;
}
