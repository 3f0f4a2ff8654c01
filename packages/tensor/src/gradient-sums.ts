// Gradients on their way back through a frame: one a value, the sum of what its readers sent, held until it is taken.
import { byteSize } from '@baleen/kernels';

import type { Block, Region } from './region';
import { Tensor, type Value } from './tensor';

/** Sums of gradients by value. */
export class GradientSums {
  private readonly sums = new Map<number, Tensor>();

  /** @param region - where sums of several go */
  constructor(private readonly region: Region) {}

  /** Adds gradients, one (or none) a value.
   * @param values - whose they are
   * @param grads - as many
   */
  addAll(values: readonly Value[], grads: readonly (Tensor | undefined)[]): void {
    values.forEach((value, index) => {
      const grad = grads[index];
      if (grad) this.add(value, grad);
    });
  }

  /**
   * The gradients so far. A value under two names gets its gradient under the first: the sum must not count twice.
   * @param values - whose
   * @returns one (or undefined) a value
   */
  of(values: readonly Value[]): (Tensor | undefined)[] {
    return values.map((value, index) =>
      values.findIndex(({ id }) => id === value.id) === index ? this.sums.get(value.id) : undefined,
    );
  }

  /**
   * Hands a value's gradient over: whoever takes it lets go of its block.
   * @param value - whose
   * @returns the block, if there is a gradient
   */
  take(value: Value): Block[] {
    const sum = this.sums.get(value.id);
    this.sums.delete(value.id);
    return sum ? [sum.block] : [];
  }

  /** Lets go of all that was not taken. */
  release(): void {
    for (const sum of this.sums.values()) sum.block.release();
    this.sums.clear();
  }

  private add(value: Value, grad: Tensor): void {
    const present = this.sums.get(value.id);
    if (!present) {
      grad.block.retain();
      this.sums.set(value.id, grad);
      return;
    }
    // In place only if nobody else sees the sum so far.
    const alone = present.block.current.refs === 1;
    const target = alone ? present : this.emptyLike(present);
    this.region.kernels.add(target, present, grad);
    if (target !== present) {
      present.block.release();
      this.sums.set(value.id, target);
    }
  }

  private emptyLike({ shape, dtype, size }: Tensor): Tensor {
    return new Tensor(this.region.allocate(byteSize(dtype, size)), shape, dtype);
  }
}
