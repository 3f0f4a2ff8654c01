// What TypeScript knows about the public API.
import type { ScaledTensor, Tape, Tensor } from '@baleen/tensor';
import { expectTypeOf, test } from 'vitest';

import {
  permute,
  permuteTokens,
  type Router,
  type Routing,
  routeTokens,
  type TokenRouting,
} from '../src/index';

declare const tape: Tape;
declare const routing: Routing;

test('rows stay what they were: plain or FP8', () => {
  expectTypeOf(permute<Tensor>)
    .parameter(1)
    .toEqualTypeOf<Tensor>();
  expectTypeOf<ReturnType<typeof permute<Tensor>>>().toEqualTypeOf<Tensor>();
  expectTypeOf<ReturnType<typeof permute<ScaledTensor>>>().toEqualTypeOf<ScaledTensor>();
  // @ts-expect-error arrays are routed by routeTokens
  expectTypeOf(permute(tape, new Float32Array(4), routing)).not.toBeNever();
});

test('arrays of rows stay what they were: FP32, BF16 bits or FP8 codes', () => {
  expectTypeOf<ReturnType<typeof permuteTokens<Float32Array>>>().toEqualTypeOf<Float32Array>();
  expectTypeOf<ReturnType<typeof permuteTokens<Uint8Array>>>().toEqualTypeOf<Uint8Array>();
  // @ts-expect-error no kernel takes them
  expectTypeOf<ReturnType<typeof permuteTokens<Float64Array>>>().not.toBeNever();
});

test('the function on typed arrays takes its own result as memory', () => {
  expectTypeOf(routeTokens).returns.toEqualTypeOf<TokenRouting>();
  expectTypeOf<NonNullable<Parameters<typeof routeTokens>[2]>>()
    .toHaveProperty('out')
    .toEqualTypeOf<TokenRouting | undefined>();
});

test('the bias is a tensor, not a parameter', () => {
  expectTypeOf<Router['bias']>().toEqualTypeOf<Tensor>();
  expectTypeOf<Router['bias']>().not.toHaveProperty('grad');
});
