// Linear layers whose three products run in FP8 (§3.3): forward and input gradient on 1×128 tiles of activations and
// 128×128 blocks of weights, weight gradient on 128×1 tiles of both, all summed in FP32 with promotion every 128.
//
// What is kept for the weight gradient is the 1×128 tensor of the forward pass; its 128×1 form is made from the decoded
// values when the weight gradient runs.
import {
  emptyTensor,
  type GroupedLinear,
  type GroupedLinearSpec,
  type Linear,
  type LinearFactory,
  type LinearSpec,
  Module,
  makeWeights,
  matrixShape,
  names,
  type Parameter,
  type Pools,
  ScaledTensor,
  shapeError,
  type Tape,
  type Tensor,
  type Value,
} from '@baleen/tensor';

const block = 128;

/**
 * The FP8 factory: V3's recipe for linear layers.
 * @returns a factory for `@baleen/model`, or any module that takes its linears from one
 */
export function fp8Linears(): LinearFactory {
  return {
    precision: 'fp8',
    linear: (pools, spec) => new Fp8Linear(pools, spec),
    groupedLinear: (pools, spec) => new Fp8GroupedLinear(pools, spec),
  };
}

/**
 * Quantises activations in 1×128 tiles; the gradient passes unchanged. FP8 tensors pass as they are.
 * @param tape - the tape
 * @param x - [rows, cols] FP32, or FP8 already
 * @param powerOfTwo - scales are powers of two
 * @returns the FP8 tensor
 */
export function quantizeActivations(tape: Tape, x: Value, powerOfTwo = false): ScaledTensor {
  if ('codes' in x) return x;
  const out = quantized(tape, x, 1, block, powerOfTwo);
  tape.record({
    name: 'quantize',
    inputs: [x],
    outputs: [out],
    saved: [],
    backward: ([grad]) => [grad],
  });
  return out;
}

function quantized(
  tape: Tape,
  x: Tensor,
  blockRows: number,
  blockCols: number,
  powerOfTwo = false,
): ScaledTensor {
  const [rows, cols] = matrixShape(x);
  const out = tape.emptyScaled([rows, cols], blockRows, blockCols, {
    scaleFormat: powerOfTwo ? 'powerOfTwo' : 'fp32',
  });
  tape.kernels.quantize(out, x, { rows, cols, powerOfTwo });
  return out;
}

/** The 128×128 form of a weight, made once a version; stacked experts each have blocks of their own. */
function quantizedWeight(pools: Pools, weight: Parameter): ScaledTensor {
  const [experts, rows, cols] =
    weight.shape.length === 3
      ? (weight.shape as [number, number, number])
      : [1, ...(weight.shape as [number, number])];
  const scaleRows = Math.ceil(rows / block);
  const scaleCols = Math.ceil(cols / block);
  return weight.derived(
    'fp8',
    (pool) =>
      new ScaledTensor(
        emptyTensor(pool, [experts, rows, cols], 'e4m3'),
        emptyTensor(pool, [experts, scaleRows, scaleCols]),
        block,
        block,
      ),
    (form) => {
      pools.kernels.quantize(form, weight.data, { rows, cols, stack: experts });
    },
  );
}

abstract class Fp8Module<Name extends string> extends Module {
  readonly weights: Readonly<Record<Name, Parameter>>;

  constructor(
    protected readonly pools: Pools,
    readonly spec: LinearSpec<Name>,
    experts?: number,
  ) {
    super();
    this.weights = makeWeights(pools, spec, experts);
    for (const name of names(spec)) this.parameter(`${name}.weight`, this.weights[name]);
  }

  prepare(tape: Tape, x: Value): ScaledTensor {
    return quantizeActivations(tape, x, this.spec.powerOfTwo);
  }

  protected check(x: ScaledTensor): [number, number] {
    const [rows, cols] = matrixShape(x);
    if (cols !== this.spec.in)
      throw shapeError(`a linear layer of width ${this.spec.in} was given [${x.shape.join(', ')}]`);
    return [rows, cols];
  }
}

class Fp8Linear<Name extends string> extends Fp8Module<Name> implements Linear<Name> {
  forward(tape: Tape, input: Value): Record<Name, Tensor> {
    const x = this.prepare(tape, input);
    const { kernels } = tape;
    const [rows, k] = this.check(x);
    const outs = {} as Record<Name, Tensor>;
    for (const name of names(this.spec)) {
      const n = this.spec.outs[name];
      const weight = this.weights[name];
      const out = tape.empty([rows, n]);
      kernels.gemm(out, x, quantizedWeight(this.pools, weight), { m: rows, n, k, transB: true });
      tape.record({
        name: `linear ${name}`,
        inputs: [x],
        outputs: [out],
        saved: [x],
        backward: ([grad]) => {
          if (!grad) return [];
          const dx = tape.empty([rows, k]);
          const dyColumns = tape.emptyScaled([rows, n], block, 1);
          tape.scoped(() => {
            const dy = tape.emptyScaled([rows, n], 1, block);
            kernels.quantizeBoth(dy, dyColumns, grad, { rows, cols: n });
            kernels.gemm(dx, dy, quantizedWeight(this.pools, weight), { m: rows, n: k, k: n });
            return [];
          });
          tape.deferWeightGrad(name, [dyColumns, x], () => {
            const xColumns = tape.emptyScaled([rows, k], block, 1);
            kernels.requantize(xColumns, x, { rows, cols: k });
            kernels.gemm(weight.grad, dyColumns, xColumns, {
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

class Fp8GroupedLinear<Name extends string> extends Fp8Module<Name> implements GroupedLinear<Name> {
  constructor(
    pools: Pools,
    override readonly spec: GroupedLinearSpec<Name>,
  ) {
    super(pools, spec, spec.experts);
  }

  forward(tape: Tape, input: Value, offsets: Tensor): Record<Name, Tensor> {
    const x = this.prepare(tape, input);
    const { kernels } = tape;
    const [rows, k] = this.check(x);
    const groups = this.spec.experts;
    // Blocks of 128 rows never cross an expert's border (§3.3.2), so every expert may add a ragged one.
    const scaleRows = Math.floor(rows / block) + groups;
    const outs = {} as Record<Name, Tensor>;
    for (const name of names(this.spec)) {
      const n = this.spec.outs[name];
      const weight = this.weights[name];
      const out = tape.empty([rows, n]);
      kernels.groupedGemm(out, x, quantizedWeight(this.pools, weight), offsets, {
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
          const dx = tape.empty([rows, k]);
          const dyColumns = tape.emptyScaled([rows, n], block, 1, { scaleRows });
          tape.scoped(() => {
            const dy = tape.emptyScaled([rows, n], 1, block);
            kernels.quantizeBoth(dy, dyColumns, grad, { rows, cols: n, offsets, groups });
            kernels.groupedGemm(dx, dy, quantizedWeight(this.pools, weight), offsets, {
              groups,
              rows,
              n: k,
              k: n,
            });
            return [];
          });
          tape.deferWeightGrad(name, [dyColumns, x, offsets], () => {
            const xColumns = tape.emptyScaled([rows, k], block, 1, { scaleRows });
            kernels.requantize(xColumns, x, { rows, cols: k, offsets, groups });
            kernels.groupedGemmWeight(weight.grad, dyColumns, xColumns, offsets, {
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
