// Linear layers as a factory: a layer is given the linears it uses, so attention or experts run on FP32, BF16 or FP8
// alike (`@baleen/fp8` has the FP8 factory). Here is what they are, and the plain ones; linear-layer.ts has the layers.
import { linearFactory } from './linear-layer';
import { matrixShape } from './ops';
import { type Module, type Parameter, type Pools, weightView } from './parameter';
import type { Tape } from './tape';
import { type ScaledTensor, shapeError, type Tensor, type Value } from './tensor';

/** What a linear layer is made of. */
export interface LinearSpec<Name extends string = string> {
  /** Width of the input. */
  in: number;
  /** Widths of the outputs by name. They share the input: it is quantised once for all of them. */
  outs: Readonly<Record<Name, number>>;
  /** Quantised inputs get powers of two as scales (V3: after attention and at dispatch, §3.3.3). */
  powerOfTwo?: boolean;
}

/** What an expert-wise linear layer is made of. */
export interface GroupedLinearSpec<Name extends string = string> extends LinearSpec<Name> {
  /** Number of experts. */
  experts: number;
}

/** Several products of one input: y_name = x · W_nameᵀ. */
export interface Linear<Name extends string = string> extends Module {
  /** What it was made of. */
  readonly spec: LinearSpec<Name>;
  /** The weights by output name, [out, in]. */
  readonly weights: Readonly<Record<Name, Parameter>>;
  /**
   * Puts the input into the form the products take (BF16, FP8). `forward` does it itself; calling it inside a
   * recompute region lets backward rebuild that form instead of keeping it.
   */
  prepare(tape: Tape, x: Value): Value;
  /** x [rows, in] → every output [rows, out]. */
  forward(tape: Tape, x: Value): Record<Name, Tensor>;
}

/** The same for experts: rows offsets[e] … offsets[e+1] meet expert e's weights. */
export interface GroupedLinear<Name extends string = string> extends Module {
  /** What it was made of. */
  readonly spec: GroupedLinearSpec<Name>;
  /** The weights by output name, [experts, out, in]. */
  readonly weights: Readonly<Record<Name, Parameter>>;
  /** See {@link Linear.prepare}. */
  prepare(tape: Tape, x: Value): Value;
  /** x [rows, in] sorted by expert, offsets [experts + 1] I32 → every output [rows, out]. */
  forward(tape: Tape, x: Value, offsets: Tensor): Record<Name, Tensor>;
}

/** Makes linear layers. */
export interface LinearFactory {
  /** What the products' inputs are. */
  readonly precision: 'fp32' | 'bf16' | 'fp8';
  /** A linear layer. */
  linear<Name extends string>(pools: Pools, spec: LinearSpec<Name>): Linear<Name>;
  /** An expert-wise linear layer. */
  groupedLinear<Name extends string>(
    pools: Pools,
    spec: GroupedLinearSpec<Name>,
  ): GroupedLinear<Name>;
}

/** Rows sorted by expert. */
export interface RowGroups {
  /** Experts. */
  count: number;
  /** First row of each, and the number of rows at the end: [count + 1] I32. */
  offsets: Tensor;
}

/** The forms a precision gives the operands of a linear layer's three products. */
export interface LinearRecipe {
  /** What the products' inputs are. */
  readonly precision: 'fp32' | 'bf16' | 'fp8';
  /** The input for the forward product, on the tape: its gradient passes unchanged. */
  prepare(tape: Tape, x: Value, powerOfTwo: boolean): Value;
  /** The weight for the forward product and the input gradient, kept until its next version. */
  weight(pools: Pools, weight: Parameter): Value;
  /** An output's gradient for the input gradient (`rowwise`) and for the weight gradient (`columnwise`). */
  gradient(
    tape: Tape,
    grad: Tensor,
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

/**
 * The plain factory.
 * @param precision - inputs of the products: FP32 as they are, or rounded to BF16 (sums are FP32 in both)
 * @returns the factory
 */
export function plainLinears(precision: 'fp32' | 'bf16'): LinearFactory {
  return linearFactory({
    precision,
    prepare: (tape, x) => castTo(tape, plain(x), precision),
    weight: (_, weight) => weightView(weight, precision),
    gradient: (tape, grad) => {
      const dy = inPrecision(tape, grad, precision);
      return { rowwise: dy, columnwise: dy };
    },
    columnwise: (_, x) => x,
  });
}

function plain(x: Value): Tensor {
  if (!('codes' in x)) return x;
  throw shapeError('a plain linear layer was given an FP8 tensor: dequantise it first');
}

function inPrecision(tape: Tape, x: Tensor, precision: 'fp32' | 'bf16'): Tensor {
  if (precision === 'fp32' || x.dtype === 'bf16') return x;
  const out = tape.empty(x.shape, 'bf16');
  tape.kernels.cast(out, x);
  return out;
}

/**
 * The value in a product's precision; its gradient passes unchanged.
 * @param tape - the tape
 * @param x - FP32 (or BF16 already)
 * @param precision - FP32 leaves it as it is
 * @returns x or its BF16 form
 */
export function castTo(tape: Tape, x: Tensor, precision: 'fp32' | 'bf16'): Tensor {
  const out = inPrecision(tape, x, precision);
  if (out !== x)
    tape.record({
      name: 'cast',
      inputs: [x],
      outputs: [out],
      saved: [],
      backward: ([grad]) => [grad],
    });
  return out;
}

/**
 * Decodes a scaled tensor; its gradient passes unchanged.
 * @param tape - the tape
 * @param x - [rows, cols] in FP8
 * @returns FP32
 */
export function dequantize(tape: Tape, x: ScaledTensor): Tensor {
  const [rows, cols] = matrixShape(x);
  const out = tape.empty([rows, cols]);
  tape.kernels.dequantize(out, x, { rows, cols });
  tape.record({
    name: 'dequantize',
    inputs: [x],
    outputs: [out],
    saved: [],
    backward: ([grad]) => [grad],
  });
  return out;
}
