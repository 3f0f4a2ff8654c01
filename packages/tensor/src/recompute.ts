// Recomputation: regions of the forward pass that keep their inputs only and rebuild the rest in backward.
// V3 rebuilds every RMSNorm and MLA's up-projections this way (§3.2.3).
import type { Block, Rebuildable } from './region';
import type { Tape } from './tape';
import { releaseAll, type TapeNodes } from './tape-node';
import { blocksOf, type Tensor, type Value } from './tensor';

/**
 * Runs `body` without keeping its intermediate values or its outputs for backward. The first node whose gradient asks
 * for one of the outputs runs the body again; it must give the same bits each time.
 * @param tape - the tape
 * @param inputs - the values whose gradients pass through; the body reads no other value of the tape
 * @param body - the computation, from inputs to outputs
 * @param name - a tape that keeps parts of this name (`TapeOptions.keep`) records the body as it is
 * @returns the outputs
 */
export function recompute<T extends readonly Value[]>(
  tape: Tape,
  inputs: readonly Value[],
  body: () => T,
  name = '',
): T {
  if (!tape.recording || tape.keep.includes(name)) return body();
  const { outputs } = tape.collect(false, body);
  const blocks = outputs.flatMap(blocksOf);
  tape.adopt(blocks);
  const region = new RecomputeRegion(tape, inputs, blocks, body);
  for (const block of blocks) block.source = region;
  tape.record({
    name: 'recompute',
    inputs,
    outputs,
    saved: inputs,
    backward: (outputGrads) => region.backward(outputGrads),
    discard: () => {
      region.discard();
    },
  });
  return outputs;
}

class RecomputeRegion implements Rebuildable {
  private nodes: TapeNodes | null = null;
  private rebuilt: readonly Value[] = [];

  constructor(
    private readonly tape: Tape,
    private readonly inputs: readonly Value[],
    private readonly blocks: readonly Block[],
    private readonly body: () => readonly Value[],
  ) {}

  rebuild(): void {
    this.nodesBack();
  }

  /** The nodes inside, made by running the body again unless somebody has asked for an output before. */
  private nodesBack(): TapeNodes {
    if (this.nodes) return this.nodes;
    // The body may read what another region made: that comes back first.
    for (const block of this.inputs.flatMap(blocksOf)) block.source?.rebuild();
    const { outputs, nodes } = this.tape.collect(true, this.body);
    this.nodes = nodes;
    this.rebuilt = outputs;
    // Readers know the first run's blocks: those become other names of the second run's.
    const fresh = outputs.flatMap(blocksOf);
    this.blocks.forEach((block, index) => {
      const source = fresh[index];
      if (block.refs === 0) block.alias(source);
    });
    return nodes;
  }

  backward(outputGrads: readonly (Tensor | undefined)[]): readonly (Tensor | undefined)[] {
    const nodes = this.nodesBack();
    const { inputs, rebuilt } = this;
    releaseAll(rebuilt); // the nodes inside hold what they need of it
    return this.tape.backCollected(nodes, rebuilt, outputGrads, inputs);
  }

  discard(): void {
    if (!this.nodes) return;
    releaseAll(this.rebuilt);
    this.nodes.drop();
  }
}
