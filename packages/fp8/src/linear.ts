// Linear layers whose three products run in FP8 (§3.3): forward and input gradient on 1×128 tiles of activations and
// 128×128 blocks of weights, weight gradient on 128×1 tiles of both, all summed in FP32 with promotion every 128, unless the
// recipe says otherwise.
//
// What is kept for the weight gradient is the 1×128 tensor of the forward pass; its 128×1 form is made from the decoded
// values when the weight gradient runs.
import { type Fp8Type, summationSizes } from '@baleen/kernels';
import {
  emptyTensor,
  type LinearFactory,
  linearFactory,
  matrixShape,
  type Parameter,
  type Pools,
  plainLinears,
  type RowGroups,
  ScaledTensor,
  type Tape,
  type Tensor,
  type Value,
  type WeightProduct,
} from '@baleen/tensor';

import { type Fp8Changes, type Fp8Recipe, fp8Recipe, type ScaleChoice } from './recipe';

const block = 128;

/**
 * A factory of FP8 linear layers.
 * @param changes - where the recipe is not V3's; which layers it is for is the caller's business
 * @returns a factory for any module that takes its linears from one
 */
export function fp8Linears(changes: Omit<Fp8Changes, 'layers'> = {}): LinearFactory {
  const { activations, weights, gradients, products, kept } = fp8Recipe(changes);
  const gradient = gradients.block === '128x128' ? blockGradient : quantizedGradient;
  const codesOf = (choice: { format: Fp8Type; scales: ScaleChoice }, v3: boolean): Codes => ({
    dtype: choice.format,
    powerOfTwo: choice.scales === 'v3' ? v3 : choice.scales === 'powerOfTwo',
  });
  const { promotion, tensorCore } = products;
  return linearFactory({
    precision: 'fp8',
    kept,
    summation: summationSizes({ promotion, ...(tensorCore && { tensorCore }) }),
    prepare: (tape, x, v3) => quantizeActivations(tape, x, codesOf(activations, v3)),
    target: (tape, shape, v3) => emptyRowwise(tape, shape, codesOf(activations, v3)),
    weight: (pools, weight, product) => quantizedWeight(pools, weight, product, weights),
    gradient: (tape, grad, v3, groups) => gradient(tape, grad, codesOf(gradients, v3), groups),
    columnwise: columnwiseInput,
  });
}

/**
 * The factories of a recipe, a kind of layer each.
 * @param recipe - the recipe (default: V3's)
 * @returns FP8 factories where the recipe has FP8, BF16 ones elsewhere
 */
export function recipeLinears(
  recipe: Fp8Recipe = fp8Recipe(),
): Record<keyof Fp8Recipe['layers'], LinearFactory> {
  const { layers, ...choices } = recipe;
  const low = fp8Linears(choices);
  const high: LinearFactory = { ...plainLinears('bf16'), kept: recipe.kept };
  const factory = (inFp8: boolean): LinearFactory => (inFp8 ? low : high);
  return {
    attention: factory(layers.attention),
    feedForward: factory(layers.feedForward),
    experts: factory(layers.experts),
  };
}

/** What a matrix is quantised to. */
export interface Codes {
  /** Format of the codes. */
  dtype: Fp8Type;
  /** Scales are powers of two. */
  powerOfTwo: boolean;
}

/**
 * Quantises activations in 1×128 tiles; the gradient passes unchanged. FP8 tensors pass as they are.
 * @param tape - the tape
 * @param x - [rows, cols] FP32, or FP8 already
 * @param codes - their format (default e4m3), and whether scales are powers of two (default: FP32)
 * @returns the FP8 tensor
 */
export function quantizeActivations(
  tape: Tape,
  x: Value,
  { dtype = 'e4m3', powerOfTwo = false }: Partial<Codes> = {},
): ScaledTensor {
  if ('codes' in x) return x;
  const [rows, cols] = matrixShape(x);
  const out = emptyRowwise(tape, [rows, cols], { dtype, powerOfTwo });
  tape.kernels.quantize(out, x, { rows, cols, powerOfTwo });
  tape.record({
    name: 'quantize',
    inputs: [x],
    outputs: [out],
    saved: [],
    backward: ([grad]) => [grad],
  });
  return out;
}

/**
 * A weight's form for a product, made once a version; stacked experts each have blocks of their own. 128×128 blocks serve
 * both products; tiles lie along the sums: over columns forward, over rows for the input gradient.
 */
function quantizedWeight(
  pools: Pools,
  weight: Parameter,
  product: WeightProduct,
  choice: Fp8Recipe['weights'],
): ScaledTensor {
  const [experts, rows, cols] =
    weight.shape.length === 3
      ? (weight.shape as [number, number, number])
      : [1, ...(weight.shape as [number, number])];
  const powerOfTwo = choice.scales === 'powerOfTwo';
  const [blockRows, blockCols] =
    choice.block === '128x128' ? [block, block] : product === 'forward' ? [1, block] : [block, 1];
  const scaleRows = Math.ceil(rows / blockRows);
  const scaleCols = Math.ceil(cols / blockCols);
  return weight.derived(
    `${choice.format} ${blockRows}x${blockCols} ${choice.scales}`,
    (pool) =>
      new ScaledTensor(
        emptyTensor(pool, [experts, rows, cols], choice.format),
        emptyTensor(pool, [experts, scaleRows, scaleCols]),
        blockRows,
        blockCols,
        formatOf(powerOfTwo),
      ),
    (form) => {
      pools.kernels.quantize(form, weight.data, { rows, cols, stack: experts, powerOfTwo });
    },
  );
}

/** Room for the 1×128 form of a matrix. */
function emptyRowwise(
  tape: Tape,
  shape: readonly [number, number],
  { dtype, powerOfTwo }: Codes,
): ScaledTensor {
  return tape.emptyScaled(shape, 1, block, { dtype, scaleFormat: formatOf(powerOfTwo) });
}

/** Room for a matrix in blocks of 128 rows. They never cross an expert's border (§3.3.2): each may add one. */
function emptyGrouped(
  tape: Tape,
  shape: readonly [number, number],
  { dtype, powerOfTwo }: Codes,
  groups: RowGroups | undefined,
  blockCols: 1 | 128 = 1,
): ScaledTensor {
  const scaleRows = groups && Math.floor(shape[0] / block) + groups.count;
  return tape.emptyScaled(shape, block, blockCols, {
    dtype,
    scaleFormat: formatOf(powerOfTwo),
    ...(scaleRows === undefined ? {} : { scaleRows }),
  });
}

function formatOf(powerOfTwo: boolean): 'fp32' | 'powerOfTwo' {
  return powerOfTwo ? 'powerOfTwo' : 'fp32';
}

function groupSizes(groups: RowGroups | undefined): { offsets?: Tensor; groups?: number } {
  return groups ? { offsets: groups.offsets, groups: groups.count } : {};
}

/** Both forms of an output's gradient, from one reading. */
function quantizedGradient(
  tape: Tape,
  grad: Tensor,
  codes: Codes,
  groups?: RowGroups,
): { rowwise: ScaledTensor; columnwise: ScaledTensor } {
  const [rows, cols] = matrixShape(grad);
  const columnwise = emptyGrouped(tape, [rows, cols], codes, groups);
  const rowwise = emptyRowwise(tape, [rows, cols], codes);
  const sizes = { rows, cols, powerOfTwo: codes.powerOfTwo, ...groupSizes(groups) };
  tape.kernels.quantizeBoth(rowwise, columnwise, grad, sizes);
  return { rowwise, columnwise };
}

/** The 128×128 form of an output's gradient, which serves both products as it is. */
function blockGradient(
  tape: Tape,
  grad: Tensor,
  codes: Codes,
  groups?: RowGroups,
): { rowwise: ScaledTensor; columnwise: ScaledTensor } {
  const [rows, cols] = matrixShape(grad);
  const { powerOfTwo } = codes;
  const form = emptyGrouped(tape, [rows, cols], codes, groups, block);
  tape.kernels.quantize(form, grad, { rows, cols, powerOfTwo, ...groupSizes(groups) });
  return { rowwise: form, columnwise: form };
}

/**
 * The 128×1 form of the input, from the decoded values of the form kept, in its format. Where its scales are powers of two the new ones
 * are as well: values then move along the exponent alone, and only those that fall below the normal ones are rounded again
 * (§3.3.3).
 */
function columnwiseInput(tape: Tape, x: Value, groups?: RowGroups): ScaledTensor {
  const [rows, cols] = matrixShape(x);
  const kept = x as ScaledTensor;
  const powerOfTwo = kept.scaleFormat === 'powerOfTwo';
  const dtype = kept.codes.dtype as Fp8Type;
  const columnwise = emptyGrouped(tape, [rows, cols], { dtype, powerOfTwo }, groups);
  const sizes = { rows, cols, powerOfTwo, ...groupSizes(groups) };
  tape.kernels.requantize(columnwise, kept, sizes);
  return columnwise;
}
