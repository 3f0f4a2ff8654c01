// Linear layers over a recipe of operand forms: every precision, dense or by expert, runs the same three products (§3.3.1,
// figure 6): y = x · Wᵀ, dx = dy · W, dW = dyᵀ · x.
//
// All outputs of a layer are one node of the tape: their input is put into each form once, and the input gradients add up
// where they are made. What a deferred weight gradient keeps are its operands: dy columnwise, and the input as forward
// took it.
import type { Kernels } from '@baleen/kernels';

import { rmsNormInto, swigluInto } from './fused';
import type {
  GroupedLinear,
  GroupedLinearSpec,
  InputForms,
  Linear,
  LinearFactory,
  LinearRecipe,
  LinearSpec,
  RowGroups,
} from './linear';
import { matrixShape, rmsNorm, swiglu } from './ops';
import { Module, Parameter, type ParameterOptions, type Pools } from './parameter';
import type { Tape } from './tape';
import { type ScaledTensor, shapeError, type Tensor, type Value } from './tensor';

/**
 * Makes linear layers of one recipe.
 * @param recipe - forms of the operands
 * @returns the factory
 */
export function linearFactory(recipe: LinearRecipe): LinearFactory {
  return {
    precision: recipe.precision,
    ...(recipe.kept ? { kept: recipe.kept } : {}),
    linear: (pools, spec) => new LinearLayer(pools, spec, recipe),
    groupedLinear: (pools, spec) => new GroupedLinearLayer(pools, spec, recipe),
  };
}

/** The three products for one output of width n, from an input of width k. */
interface Products {
  forward(out: Tensor, x: Value, weight: Value, n: number): void;
  inputGradient(dx: Tensor, dy: Value, weight: Value, n: number, accumulate: boolean): void;
  weightGradient(weight: Parameter, dy: Value, x: Value, n: number): void;
}

/** Weights under `<output>.weight`, and the passes over all outputs. */
abstract class WeightedLayer<Name extends string> extends Module implements InputForms {
  readonly weights: Readonly<Record<Name, Parameter>>;
  private readonly names: readonly Name[];

  constructor(
    private readonly pools: Pools,
    readonly spec: LinearSpec<Name>,
    protected readonly recipe: LinearRecipe,
    leading: readonly number[],
    options: Pick<ParameterOptions, 'slice' | 'sources'> = {},
  ) {
    super();
    this.names = Object.keys(spec.outs) as Name[];
    const entries = this.names.map((name) => {
      const weight = new Parameter(pools, [...leading, spec.outs[name], spec.in], options);
      return [name, this.parameter(`${name}.weight`, weight)] as const;
    });
    this.weights = Object.fromEntries(entries) as Record<Name, Parameter>;
  }

  prepare(tape: Tape, x: Value): Value {
    return this.recipe.prepare(tape, x, this.spec.powerOfTwo ?? false);
  }

  prepareNormed(tape: Tape, x: Tensor, weight: Parameter, epsilon: number): Value;
  prepareNormed(
    tape: Tape,
    x: Tensor,
    weight: Parameter,
    epsilon: number,
    keep: true,
  ): readonly [prepared: Value, normed: Tensor];
  prepareNormed(
    tape: Tape,
    x: Tensor,
    weight: Parameter,
    epsilon: number,
    keep = false,
  ): Value | readonly [prepared: Value, normed: Tensor] {
    const out = this.target(tape, x);
    if (out) {
      const normed = rmsNormInto(tape, out, x, weight, epsilon, keep);
      return normed ? [out, normed] : out;
    }
    const normed = rmsNorm(tape, x, weight, epsilon);
    const prepared = this.prepare(tape, normed);
    return keep ? [prepared, normed] : prepared;
  }

  prepareGated(tape: Tape, gate: Tensor, up: Tensor): Value {
    const out = this.target(tape, gate);
    if (!out) return this.prepare(tape, swiglu(tape, gate, up));
    swigluInto(tape, out, gate, up);
    return out;
  }

  /** Where an input of this shape goes, if a kernel may write it. */
  private target(tape: Tape, x: Tensor): ScaledTensor | undefined {
    return this.recipe.target?.(tape, matrixShape(x), this.spec.powerOfTwo ?? false);
  }

  protected pass(
    tape: Tape,
    input: Value,
    productsOf: (kernels: Kernels, rows: number) => Products,
    groups?: RowGroups & { experts: Tensor },
  ): Record<Name, Tensor> {
    const { names, recipe, pools, spec, weights } = this;
    const x = this.prepare(tape, input);
    const [rows, width] = matrixShape(x);
    if (width !== spec.in)
      throw shapeError(`a linear layer of width ${spec.in} was given [${x.shape.join(', ')}]`);
    const products = productsOf(tape.kernels, rows);
    const outs = names.map((name) => {
      const out = tape.empty([rows, spec.outs[name]]);
      products.forward(out, x, recipe.weight(pools, weights[name], 'forward'), spec.outs[name]);
      return out;
    });
    const result = Object.fromEntries(names.map((name, index) => [name, outs[index]]));
    if (!tape.recording) return result as Record<Name, Tensor>;
    tape.record({
      name: `linear ${names.join(' ')}`,
      inputs: [x],
      outputs: outs,
      saved: groups ? [x, groups.offsets, groups.experts] : [x],
      backward: (grads) => {
        const flowing = names.flatMap((name, index) => {
          const grad = grads[index];
          return grad ? [{ weight: weights[name], grad, n: spec.outs[name] }] : [];
        });
        const dx = tape.empty([rows, width]);
        const tasks = flowing.map(({ weight, grad, n }, index) => {
          // The row-wise form is let go as soon as it was multiplied.
          const [dy] = tape.scoped(() => {
            const { rowwise, columnwise } = recipe.gradient(
              tape,
              grad,
              spec.gradientPowerOfTwo ?? false,
              groups,
            );
            const form = recipe.weight(pools, weight, 'inputGradient');
            products.inputGradient(dx, rowwise, form, n, index > 0);
            return [columnwise];
          });
          return { weight, dy, n };
        });
        const operands = [...tasks.map(({ dy }) => dy), x, ...(groups ? [groups.offsets] : [])];
        tape.deferWeightGrad(names.join(' '), operands, () => {
          const columns = recipe.columnwise(tape, x, groups);
          for (const { weight, dy, n } of tasks) products.weightGradient(weight, dy, columns, n);
        });
        return [dx];
      },
    });
    return result as Record<Name, Tensor>;
  }
}

class LinearLayer<Name extends string> extends WeightedLayer<Name> implements Linear<Name> {
  constructor(pools: Pools, spec: LinearSpec<Name>, recipe: LinearRecipe) {
    super(pools, spec, recipe, []);
  }

  forward(tape: Tape, input: Value): Record<Name, Tensor> {
    const k = this.spec.in;
    const { summation } = this.recipe;
    return this.pass(tape, input, (kernels, rows) => ({
      forward: (out, x, weight, n) => {
        kernels.gemm(out, x, weight, { m: rows, n, k, transB: true, ...summation });
      },
      inputGradient: (dx, dy, weight, n, accumulate) => {
        kernels.gemm(dx, dy, weight, { m: rows, n: k, k: n, accumulate, ...summation });
      },
      weightGradient: ({ grad }, dy, x, n) => {
        const sizes = { m: n, n: k, k: rows, transA: true, accumulate: true, ...summation };
        kernels.gemm(grad, dy, x, sizes);
      },
    }));
  }
}

/** grad [groups, …] += parts [groups, sources, …], in the order of sources. */
function addSources(kernels: Kernels, grad: Tensor, parts: Tensor): void {
  const [rows, sources] = parts.shape;
  const cols = grad.size / rows;
  for (let source = 0; source < sources; source += 1)
    kernels.copyStrided(grad, parts, {
      ...{ rows, cols, outStride: cols, xStride: sources * cols, xOffset: source * cols },
      accumulate: true,
    });
}

class GroupedLinearLayer<Name extends string>
  extends WeightedLayer<Name>
  implements GroupedLinear<Name>
{
  constructor(
    pools: Pools,
    override readonly spec: GroupedLinearSpec<Name>,
    recipe: LinearRecipe,
  ) {
    const { slice, sources, bySource = false } = spec;
    super(pools, spec, recipe, [spec.experts], {
      ...(slice && { slice }),
      ...(sources !== undefined && bySource && { sources }),
    });
  }

  forward(
    tape: Tape,
    input: Value,
    offsets: Tensor,
    sourceOffsets: Tensor = offsets,
  ): Record<Name, Tensor> {
    const { in: k, experts: groups, sources = 1 } = this.spec;
    // Sums of weight gradients, and the blocks that they are scaled by, end with an expert's rows from one source.
    const parts = { count: groups * sources, offsets: sourceOffsets, experts: offsets };
    if (sourceOffsets.size !== parts.count + 1)
      throw shapeError(
        `${groups} experts of ${sources} sources were given [${sourceOffsets.shape.join(', ')}] offsets of sources`,
      );
    const { summation } = this.recipe;
    return this.pass(
      tape,
      input,
      (kernels, rows) => ({
        forward: (out, x, weight, n) => {
          const sizes = { groups, rows, n, k, transB: true, ...summation };
          kernels.groupedGemm(out, x, weight, offsets, sizes);
        },
        inputGradient: (dx, dy, weight, n, accumulate) => {
          const sizes = { groups, rows, n: k, k: n, accumulate, ...summation };
          kernels.groupedGemm(dx, dy, weight, offsets, sizes);
        },
        weightGradient: ({ grad, sourceGrads }, dy, x, n) => {
          const sizes = { groups: parts.count, rows, m: n, n: k, accumulate: true, ...summation };
          if (sourceGrads || sources === 1) {
            kernels.groupedGemmWeight(sourceGrads ?? grad, dy, x, parts.offsets, sizes);
            return;
          }
          const each = tape.zeros([groups, sources, n, k]);
          kernels.groupedGemmWeight(each, dy, x, parts.offsets, sizes);
          addSources(kernels, grad, each);
        },
      }),
      parts,
    );
  }
}
