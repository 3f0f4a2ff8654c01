// The update of a model on several ranks: gradients of all micro-batches are added up, the global norm is taken, each rank
// updates its elements, and the new values are handed round.
import { cutStages, type Decoder, stageOf } from '@baleen/model';
import {
  type AdamW,
  type AdamWSettings,
  nodesOf,
  type Parameter,
  type Region,
  type Tensor,
  type TreeNode,
} from '@baleen/tensor';

import { clearGradients, GradientTree } from './gradient-tree';
import type { Layout } from './layout';
import { ReplicatedParameters } from './replicated';

/** Parameters of one kind: of one stage, those on every rank that has it, or slices that only some hold. */
interface Kind {
  stage: number;
  parameters: readonly Parameter[];
  replicated: ReplicatedParameters;
  /** The ranks of each member of its communicator whose micro-batches reach its gradients, in order. */
  sources: readonly (readonly number[])[];
  /** One for each source of this rank's gradients. */
  trees: readonly GradientTree[];
}

/** Adds gradients up and updates. */
export class SharedUpdate {
  private readonly kinds: readonly Kind[];

  /**
   * @param model - what is trained
   * @param optimizer - made with this layout's share
   * @param layout - who else trains it
   * @param region - where sums and staging live
   */
  constructor(
    private readonly model: Decoder,
    private readonly optimizer: AdamW,
    private readonly layout: Layout,
    region: Region,
  ) {
    const { ep, holders, replicas, deterministic, ownStages } = layout;
    const cut = cutStages(model.config, layout.stages);
    const kinds = ownStages.flatMap((stage) => [false, true].map((spread) => ({ stage, spread })));
    this.kinds = kinds.flatMap(({ stage, spread }) => {
      const shared = optimizer.shared.filter(
        ({ name, parameter: { slice } }) =>
          (slice !== null) === spread && stageOf(name, cut) === stage,
      );
      if (shared.length === 0) return [];
      const parameters = shared.map(({ parameter }) => parameter);
      const trees = deterministic
        ? Array.from(
            { length: spread ? ep : 1 },
            (_, source) => new GradientTree(region, parameters, source),
          )
        : [];
      return {
        stage,
        parameters,
        replicated: new ReplicatedParameters(region, spread ? replicas : holders, shared),
        sources: layout.sources(spread),
        trees,
      };
    });
  }

  /**
   * Takes the gradients of a micro-batch, where sums must not depend on the layout: elsewhere they add up by themselves.
   * @param stage - that went back
   * @param nth - which of this rank's lane, from 0
   * @param microBatches - of the step, on all ranks
   */
  take(stage: number, nth: number, microBatches: number): void {
    const { layout, model } = this;
    const first = layout.lane - (layout.lane % layout.ep);
    for (const { trees, parameters, stage: own } of this.kinds) {
      if (own !== stage) continue;
      trees.forEach((tree, source) => {
        const lane = trees.length === 1 ? layout.lane : first + source;
        tree.add(layout.range(microBatches, lane)[0] + nth);
      });
      if (trees.length > 0) clearGradients(model.kernels, parameters);
    }
  }

  /**
   * Updates the model on all ranks.
   * @param loss - [1], the same everywhere
   * @param settings - of AdamW
   * @param microBatches - of the step, on all ranks
   */
  update(loss: Tensor, settings: AdamWSettings, microBatches: number): void {
    const { optimizer, layout, model } = this;
    for (const { replicated, trees, sources, stage } of this.kinds) {
      if (!layout.deterministic) {
        replicated.reduce();
        continue;
      }
      const nodes = sources.map((ranks) =>
        ranks.flatMap((rank): Omit<TreeNode<null>, 'sum'>[] =>
          nodesOf(...layout.rangeOf(stage, microBatches, rank)),
        ),
      );
      replicated.reduceTree(
        trees.flatMap((tree) => tree.nodes),
        nodes,
      );
      for (const tree of trees) tree.clear();
    }
    optimizer.measure();
    if (layout.ranks > 1) {
      model.kernels.flush();
      const squares = optimizer.squares.readSync() as Float32Array;
      layout.world.allReduce(squares, squares);
    }
    optimizer.apply(loss, settings);
    for (const { replicated } of this.kinds) replicated.gather();
  }
}
