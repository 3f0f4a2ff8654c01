// What lies between a layer's norm and its sum: SwiGLU between two linear layers, dense or by expert (§2.1.2).
import {
  type GroupedLinear,
  type InputForms,
  type KeptForm,
  keepAs,
  type Linear,
  type LinearFactory,
  Module,
  type Parameter,
  type Pools,
  recompute,
  type Tape,
  type Tensor,
  type Value,
} from '@baleen/tensor';

import type { ModelConfig } from './config';
import type { ExpertGroup } from './expert-group';
import type { RecomputedPart } from './recomputed';

type Gated = Linear<'gate' | 'up'>;

/**
 * SwiGLU between two linear layers; its inputs are kept for backward, in the form the recipe names (§3.3.3), and its output
 * is rebuilt from them.
 */
function gatedOutput(
  tape: Tape,
  { gate, up }: Record<'gate' | 'up', Tensor>,
  down: InputForms,
  form: KeptForm,
): Value {
  for (const x of [gate, up]) keepAs(tape, x, form);
  const [act] = recompute(
    tape,
    [gate, up],
    () => [down.prepareGated(tape, gate, up)],
    'activations' satisfies RecomputedPart,
  );
  return act;
}

function keptOf({ kept }: LinearFactory): KeptForm {
  return kept?.swigluInputs ?? 'fp32';
}

/** The dense feed-forward, also the shared expert. */
export class FeedForward extends Module {
  private readonly wide: Gated;
  private readonly down: Linear<'down'>;
  private readonly kept: KeptForm;

  constructor(pools: Pools, factory: LinearFactory, hidden: number, width: number) {
    super();
    this.wide = this.child(
      '',
      factory.linear(pools, { in: hidden, outs: { gate: width, up: width }, powerOfTwo: true }),
    );
    this.down = this.child('', factory.linear(pools, { in: width, outs: { down: hidden } }));
    this.kept = keptOf(factory);
  }

  prepareNormed(tape: Tape, x: Tensor, weight: Parameter, epsilon: number): Value {
    return this.wide.prepareNormed(tape, x, weight, epsilon);
  }

  forward(tape: Tape, x: Value): Tensor {
    const act = gatedOutput(tape, this.wide.forward(tape, x), this.down, this.kept);
    return this.down.forward(tape, act).down;
  }
}

/** The routed experts. */
export class Experts extends Module {
  private readonly wide: GroupedLinear<'gate' | 'up'>;
  private readonly down: GroupedLinear<'down'>;
  private readonly kept: KeptForm;

  constructor(
    pools: Pools,
    factory: LinearFactory,
    config: ModelConfig,
    group: ExpertGroup | null,
  ) {
    super();
    const { hiddenSize: hidden, moe } = config;
    const width = moe.intermediateSize;
    const share = group
      ? {
          ...{ experts: group.experts, slice: group.slice },
          ...{ sources: group.ranks, bySource: group.bySource },
        }
      : { experts: moe.routedExperts };
    this.wide = this.child(
      '',
      factory.groupedLinear(pools, {
        ...share,
        in: hidden,
        outs: { gate: width, up: width },
        powerOfTwo: true,
      }),
    );
    this.down = this.child(
      '',
      factory.groupedLinear(pools, {
        ...share,
        in: width,
        outs: { down: hidden },
        gradientPowerOfTwo: true,
      }),
    );
    this.kept = keptOf(factory);
  }

  /** The normed stream as their products take it, and as the router does. */
  prepareNormed(
    tape: Tape,
    x: Tensor,
    weight: Parameter,
    epsilon: number,
  ): readonly [prepared: Value, normed: Tensor] {
    return this.wide.prepareNormed(tape, x, weight, epsilon, true);
  }

  forward(tape: Tape, x: Value, offsets: Tensor, sourceOffsets?: Tensor): Tensor {
    const wide = this.wide.forward(tape, x, offsets, sourceOffsets);
    const act = gatedOutput(tape, wide, this.down, this.kept);
    return this.down.forward(tape, act, offsets, sourceOffsets).down;
  }
}
