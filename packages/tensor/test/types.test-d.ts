// What TypeScript knows about the public API.
import { expectTypeOf, test } from 'vitest';

import {
  type Bundle,
  type CommunicationPhase,
  type ComputePhase,
  type GroupedLinear,
  type Linear,
  type LinearFactory,
  type Phase,
  type Pools,
  recompute,
  type ScaledTensor,
  type Tape,
  type Tensor,
  type Value,
} from '../src/index';

declare const factory: LinearFactory;
declare const pools: Pools;
declare const tape: Tape;
declare const x: Tensor;
declare const scaled: ScaledTensor;

test('a linear layer has exactly the outputs it was made of', () => {
  const layer = factory.linear(pools, { in: 4, outs: { query: 8, kv: 3 } });
  expectTypeOf(layer).toEqualTypeOf<Linear<'query' | 'kv'>>();
  expectTypeOf(layer.forward(tape, x)).toEqualTypeOf<Record<'query' | 'kv', Tensor>>();
  expectTypeOf(layer.forward(tape, x)).not.toHaveProperty('value');
  const experts = factory.groupedLinear(pools, { experts: 2, in: 4, outs: { gate: 8 } });
  expectTypeOf(experts).toEqualTypeOf<GroupedLinear<'gate'>>();
  // @ts-expect-error experts need the borders of their rows
  experts.forward(tape, x);
});

test('scopes and recomputed regions keep the types of what they return', () => {
  expectTypeOf(tape.scoped(() => [x, undefined] as const)).toEqualTypeOf<
    readonly [Tensor, undefined]
  >();
  expectTypeOf(recompute(tape, [x], () => [x, scaled] as const)).toEqualTypeOf<
    readonly [Tensor, ScaledTensor]
  >();
});

test('phases tell their kinds apart', () => {
  const phase = {} as Phase;
  if (phase.kind === 'compute') expectTypeOf(phase).toEqualTypeOf<ComputePhase>();
  else expectTypeOf(phase).toEqualTypeOf<CommunicationPhase>();
  expectTypeOf<Bundle[string]>().toEqualTypeOf<Value>();
  // A value of a bundle may be FP8: it is a tensor only once it was looked at.
  expectTypeOf<Value>().not.toExtend<Tensor>();
});
