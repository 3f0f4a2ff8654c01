// Linear layers as a factory: a layer is given the linears it uses, so attention or experts run on FP32, BF16 or FP8
// alike (`@baleen/fp8` has the FP8 factory). Here are the plain ones.
import type { Kernels } from '@baleen/kernels';

import { matrixShape } from './ops';
import { Module, Parameter, type Pools, weightView } from './parameter';
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

/**
 * The plain factory.
 * @param precision - inputs of the products: FP32 as they are, or rounded to BF16 (sums are FP32 in both)
 * @returns the factory
 */
export function plainLinears(precision: 'fp32' | 'bf16'): LinearFactory {
  return {
    precision,
    linear: (pools, spec) => new PlainLinear(pools, spec, precision),
    groupedLinear: (pools, spec) => new PlainGroupedLinear(pools, spec, precision),
  };
}

/** Makes the weights of a layer, one parameter an output.
 * @param pools - where they live
 * @param spec - names and widths
 * @param experts - leading axis of experts, if any
 * @returns the parameters by name
 */
export function makeWeights<Name extends string>(
  pools: Pools,
  spec: LinearSpec<Name>,
  experts?: number,
): Record<Name, Parameter> {
  const leading = experts === undefined ? [] : [experts];
  const entries = names(spec).map((name) => [
    name,
    new Parameter(pools, [...leading, spec.outs[name], spec.in]),
  ]);
  return Object.fromEntries(entries) as Record<Name, Parameter>;
}

/** The output names of a layer, in order.
 * @param spec - the layer
 * @returns its names
 */
export function names<Name extends string>(spec: LinearSpec<Name>): Name[] {
  return Object.keys(spec.outs) as Name[];
}

/** A linear layer's own weights, registered under `<output>.weight`. */
abstract class WeightedModule<Name extends string> extends Module {
  readonly weights: Readonly<Record<Name, Parameter>>;

  constructor(
    pools: Pools,
    readonly spec: LinearSpec<Name>,
    protected readonly precision: 'fp32' | 'bf16',
    experts?: number,
  ) {
    super();
    this.weights = makeWeights(pools, spec, experts);
    for (const name of names(spec)) this.parameter(`${name}.weight`, this.weights[name]);
  }

  prepare(tape: Tape, x: Value): Tensor {
    return castTo(tape, plain(x), this.precision);
  }
}

class PlainLinear<Name extends string> extends WeightedModule<Name> implements Linear<Name> {
  forward(tape: Tape, input: Value): Record<Name, Tensor> {
    const x = this.prepare(tape, input);
    const { kernels } = tape;
    const { precision, spec } = this;
    const [rows, k] = matrixShape(x);
    if (k !== spec.in)
      throw shapeError(`a linear layer of width ${spec.in} was given [${x.shape.join(', ')}]`);
    const outs = {} as Record<Name, Tensor>;
    for (const name of names(spec)) {
      const n = spec.outs[name];
      const weight = this.weights[name];
      const out = tape.empty([rows, n]);
      kernels.gemm(out, x, weightView(weight, precision), { m: rows, n, k, transB: true });
      tape.record({
        name: `linear ${name}`,
        inputs: [x],
        outputs: [out],
        saved: [x],
        backward: ([grad]) => {
          if (!grad) return [];
          const dy = inPrecision(tape, kernels, grad, precision);
          const dx = tape.empty([rows, k]);
          kernels.gemm(dx, dy, weightView(weight, precision), { m: rows, n: k, k: n });
          tape.deferWeightGrad(name, [dy, x], () => {
            kernels.gemm(weight.grad, dy, x, {
              m: n,
              n: k,
              k: rows,
              transA: true,
              accumulate: true,
            });
          });
          return [dx];
        },
      });
      outs[name] = out;
    }
    return outs;
  }
}

class PlainGroupedLinear<Name extends string>
  extends WeightedModule<Name>
  implements GroupedLinear<Name>
{
  constructor(
    pools: Pools,
    override readonly spec: GroupedLinearSpec<Name>,
    precision: 'fp32' | 'bf16',
  ) {
    super(pools, spec, precision, spec.experts);
  }

  forward(tape: Tape, input: Value, offsets: Tensor): Record<Name, Tensor> {
    const x = this.prepare(tape, input);
    const { kernels } = tape;
    const { precision, spec } = this;
    const [rows, k] = matrixShape(x);
    if (k !== spec.in)
      throw shapeError(`experts of width ${spec.in} were given [${x.shape.join(', ')}]`);
    const groups = spec.experts;
    const outs = {} as Record<Name, Tensor>;
    for (const name of names(spec)) {
      const n = spec.outs[name];
      const weight = this.weights[name];
      const out = tape.empty([rows, n]);
      kernels.groupedGemm(out, x, weightView(weight, precision), offsets, {
        groups,
        rows,
        n,
        k,
        transB: true,
      });
      tape.record({
        name: `experts ${name}`,
        inputs: [x],
        outputs: [out],
        saved: [x, offsets],
        backward: ([grad]) => {
          if (!grad) return [];
          const dy = inPrecision(tape, kernels, grad, precision);
          const dx = tape.empty([rows, k]);
          kernels.groupedGemm(dx, dy, weightView(weight, precision), offsets, {
            groups,
            rows,
            n: k,
            k: n,
          });
          tape.deferWeightGrad(name, [dy, x, offsets], () => {
            kernels.groupedGemmWeight(weight.grad, dy, x, offsets, {
              groups,
              rows,
              m: n,
              n: k,
              accumulate: true,
            });
          });
          return [dx];
        },
      });
      outs[name] = out;
    }
    return outs;
  }
}

function plain(x: Value): Tensor {
  if (!('codes' in x)) return x;
  throw shapeError('a plain linear layer was given an FP8 tensor: dequantise it first');
}

function inPrecision(tape: Tape, kernels: Kernels, x: Tensor, precision: 'fp32' | 'bf16'): Tensor {
  if (precision === 'fp32' || x.dtype === 'bf16') return x;
  const out = tape.empty(x.shape, 'bf16');
  kernels.cast(out, x);
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
  const out = inPrecision(tape, tape.kernels, x, precision);
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
