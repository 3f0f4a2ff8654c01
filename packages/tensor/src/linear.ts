// Linear layers as a factory: a layer is given the linears it uses, so attention or experts run on FP32, BF16 or FP8
// alike (`@baleen/fp8` has the FP8 factory). Here is what they are; linear-layer.ts has the layers, plain-linears.ts the plain recipe.
import type { SummationSizes } from '@baleen/kernels';

import type { KeptForms } from './keep';
import type { Module, Parameter, ParameterSlice, Pools } from './parameter';
import type { Tape } from './tape';
import type { ScaledTensor, Tensor, Value } from './tensor';

/** What a linear layer is made of. */
export interface LinearSpec<Name extends string = string> {
  /** Width of the input. */
  in: number;
  /** Widths of the outputs by name. They share the input: it is quantised once for all of them. */
  outs: Readonly<Record<Name, number>>;
  /** Quantised inputs get powers of two as scales (V3: after attention and at dispatch, §3.3.3). */
  powerOfTwo?: boolean;
  /** So do quantised gradients of the outputs (V3: what the experts' down-projections get back, §3.3.3). */
  gradientPowerOfTwo?: boolean;
}

/** What an expert-wise linear layer is made of. */
export interface GroupedLinearSpec<Name extends string = string> extends LinearSpec<Name> {
  /** Number of experts. */
  experts: number;
  /** Which of a larger number they are, where ranks share them (default: all there are). */
  slice?: ParameterSlice;
  /** From how many sources their rows come (default 1): no block that a gradient is scaled by holds rows of two. */
  sources?: number;
  /** Keep the weight gradient of each source apart, in `sourceGrads` (default: they are added up in the order of sources). */
  bySource?: boolean;
}

/** How an input gets into the form that the products take (BF16, FP8). */
export interface InputForms {
  /**
   * Puts an input into that form. `forward` does it itself; calling it inside a recompute region lets backward rebuild
   * that form instead of keeping it.
   */
  prepare(tape: Tape, x: Value): Value;
  /** `prepare` of `rmsNorm(tape, x, weight, epsilon)`, in one pass over x where the precision has one. */
  prepareNormed(tape: Tape, x: Tensor, weight: Parameter, epsilon: number): Value;
  /** The same with the normed values themselves beside it, for readers that are no products. */
  prepareNormed(
    tape: Tape,
    x: Tensor,
    weight: Parameter,
    epsilon: number,
    keep: true,
  ): readonly [prepared: Value, normed: Tensor];
  /** `prepare` of `swiglu(tape, gate, up)`, in one pass where the precision has one. */
  prepareGated(tape: Tape, gate: Tensor, up: Tensor): Value;
}

/** Several products of one input: y_name = x · W_nameᵀ. */
export interface Linear<Name extends string = string> extends Module, InputForms {
  /** What it was made of. */
  readonly spec: LinearSpec<Name>;
  /** The weights by output name, [out, in]. */
  readonly weights: Readonly<Record<Name, Parameter>>;
  /** x [rows, in] → every output [rows, out]. */
  forward(tape: Tape, x: Value): Record<Name, Tensor>;
}

/** The same for experts: rows offsets[e] … offsets[e+1] meet expert e's weights. */
export interface GroupedLinear<Name extends string = string> extends Module, InputForms {
  /** What it was made of. */
  readonly spec: GroupedLinearSpec<Name>;
  /** The weights by output name, [experts, out, in]. */
  readonly weights: Readonly<Record<Name, Parameter>>;
  /**
   * x [rows, in] sorted by expert, offsets [experts + 1] I32 → every output [rows, out]. With several sources, rows of an
   * expert are sorted by them, and sourceOffsets [experts · sources + 1] I32 says where each begins.
   */
  forward(tape: Tape, x: Value, offsets: Tensor, sourceOffsets?: Tensor): Record<Name, Tensor>;
}

/** Makes linear layers. */
export interface LinearFactory {
  /** What the products' inputs are. */
  readonly precision: 'fp32' | 'bf16' | 'fp8';
  /** In what forms layers keep for backward what lies between their products (default: all in FP32). */
  readonly kept?: KeptForms;
  /** A linear layer. */
  linear<Name extends string>(pools: Pools, spec: LinearSpec<Name>): Linear<Name>;
  /** An expert-wise linear layer. */
  groupedLinear<Name extends string>(
    pools: Pools,
    spec: GroupedLinearSpec<Name>,
  ): GroupedLinear<Name>;
}

/** Rows sorted by expert, or by expert and source. */
export interface RowGroups {
  /** Experts, times sources. */
  count: number;
  /** First row of each, and the number of rows at the end: [count + 1] I32. */
  offsets: Tensor;
}

/** The products that take a weight: y = x · Wᵀ sums over its columns, dx = dy · W over its rows. */
export type WeightProduct = 'forward' | 'inputGradient';

/** The forms a precision gives the operands of a linear layer's three products. */
export interface LinearRecipe extends Pick<LinearFactory, 'precision' | 'kept'> {
  /** How products of FP8 operands are summed (default: as the kernels do). */
  readonly summation?: SummationSizes;
  /** The input for the forward product, on the tape: its gradient passes unchanged. */
  prepare(tape: Tape, x: Value, powerOfTwo: boolean): Value;
  /**
   * Room for a prepared input in 1×128 tiles, with contents undefined: where it is there, kernels that quantise what they
   * compute write it instead of `prepare`, with the same bits.
   */
  target?(tape: Tape, shape: readonly [number, number], powerOfTwo: boolean): ScaledTensor;
  /** The weight for a product, kept until its next version. */
  weight(pools: Pools, weight: Parameter, product: WeightProduct): Value;
  /** An output's gradient for the input gradient (`rowwise`) and for the weight gradient (`columnwise`). */
  gradient(
    tape: Tape,
    grad: Tensor,
    powerOfTwo: boolean,
    groups?: RowGroups,
  ): {
    /** Summed over columns. */
    rowwise: Value;
    /** Summed over rows. */
    columnwise: Value;
  };
  /** The prepared input for the weight gradient. */
  columnwise(tape: Tape, x: Value, groups?: RowGroups): Value;
}
