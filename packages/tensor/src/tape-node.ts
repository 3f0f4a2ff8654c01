// What a tape records of one operation, and the counting of who holds its values.
import type { Block, Rebuildable } from './region';
import { blocksOf, type Tensor, type Value } from './tensor';

/** One operation on the tape. */
export interface TapeNode {
  /** For messages and profiles. */
  name: string;
  /** What it read; gradients go to these. */
  inputs: readonly Value[];
  /** What it made; gradients come from these. */
  outputs: readonly Value[];
  /** What its gradient reads. Held until then, unless it can be recomputed. */
  saved: readonly Value[];
  /**
   * Gradients of the inputs from those of the outputs (undefined where nothing flows). May return an output's
   * gradient itself. Weight gradients go through `tape.deferWeightGrad`.
   */
  backward(outputGrads: readonly (Tensor | undefined)[]): readonly (Tensor | undefined)[];
  /** Called instead of `backward` when no gradient arrives. */
  discard?(): void;
}

/**
 * A node with what it holds until its gradient was computed.
 * @internal
 */
export interface RecordedNode {
  /** The operation. */
  readonly node: TapeNode;
  /** Blocks held for its gradient. */
  held: Block[];
  /** Regions to recompute before its gradient. */
  rebuilds: Rebuildable[];
}

/**
 * Nodes collected outside a frame, opaque to others.
 * @internal
 */
export class TapeNodes {
  /** Made by `Tape.collect`. */
  constructor(private readonly nodes: RecordedNode[]) {}

  /** Gives back what the nodes hold. */
  drop(): void {
    for (const node of this.nodes.splice(0)) for (const block of node.held) block.release();
  }

  /** Hands the nodes over, once. */
  take(): RecordedNode[] {
    return this.nodes.splice(0);
  }
}

/** Holds every block of the values.
 * @param values - tensors
 */
export function holdAll(values: readonly (Value | undefined)[]): void {
  for (const value of values) if (value) for (const block of blocksOf(value)) block.retain();
}

/** Lets go of every block of the values.
 * @param values - tensors held before
 */
export function releaseAll(values: readonly (Value | undefined)[]): void {
  for (const value of values) if (value) for (const block of blocksOf(value)) block.release();
}
