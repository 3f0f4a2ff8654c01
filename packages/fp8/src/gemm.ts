// The three products of a linear layer on quantised matrices (§3.3.1): forward, gradient of the input, gradient of the
// weight, of one layer or of experts. FP8 in V3's blocks runs on the kernels; other formats and blocks in plain TypeScript
// (product.ts).
import {
  type Kernels,
  loadKernels,
  type ScaledView,
  type Summation,
  summationFault,
  summationSizes,
  viewOf,
} from '@baleen/kernels';

import {
  checkLength,
  checkMatrix,
  checkOffsets,
  groupOf,
  inFp8,
  type QuantizedMatrix,
  refuse,
  refuseOption,
  rowsOf,
  scaledView,
} from './matrix';
import { type Axis, product } from './product';

/** How products are summed, and where the result goes. */
export interface ProductOptions extends Summation {
  /** Add to what `out` holds. */
  accumulate?: boolean;
  /** Kernels to use (default: `loadKernels()`). */
  kernels?: Kernels;
  /** Where the result goes; on the kernels no array is allocated then. */
  out?: Float32Array;
}

/** Options of products whose rows may belong to experts. */
export interface GroupedOptions extends ProductOptions {
  /**
   * First row of every expert's tokens, and the end of the last. The weights are then a stack, one matrix an expert, and
   * the rows' own scales lie within rows: blocks of 1x128, row or tensor.
   */
  offsets?: Int32Array;
}

/** One side of a product: the matrix, the axis it is summed along, and its name. */
type Operand = readonly [x: QuantizedMatrix, along: Axis, name: string];

/**
 * Forward product y = x · wᵀ.
 * @param x - activations [rows, in]
 * @param w - weights [out, in], or a stack of them
 * @param options - see {@link GroupedOptions}
 * @returns y [rows, out]
 * @throws ERR_BALEEN_FP8_SHAPE where sizes do not agree
 *
 * @example
 * ```ts
 * import { multiply, quantize } from '@baleen/fp8';
 * const x = quantize(new Float32Array([1, 2, 3]), { rows: 1, cols: 3 }, { powerOfTwo: true });
 * const w = quantize(new Float32Array([1, 1, 1, 0, 0, 2]), { rows: 2, cols: 3 }, { block: '128x128', powerOfTwo: true });
 * console.log([...multiply(x, w)].join(' ')); // => 6 6
 * ```
 */
export function multiply(
  x: QuantizedMatrix,
  w: QuantizedMatrix,
  options: GroupedOptions = {},
): Float32Array {
  return rowProduct([x, 'cols', 'x'], [w, 'cols', 'w'], options);
}

/**
 * Gradient of a linear layer's input: dx = dy · w.
 * @param dy - gradient of the output [rows, out]
 * @param w - weights [out, in], or a stack of them
 * @param options - see {@link GroupedOptions}
 * @returns dx [rows, in]
 * @throws ERR_BALEEN_FP8_SHAPE where sizes do not agree
 */
export function inputGradient(
  dy: QuantizedMatrix,
  w: QuantizedMatrix,
  options: GroupedOptions = {},
): Float32Array {
  return rowProduct([dy, 'cols', 'dy'], [w, 'rows', 'w'], options);
}

/**
 * Gradient of a linear layer's weight: dw = dyᵀ · x, summed over rows; with row groups in both, one an expert.
 * @param dy - gradient of the output [rows, out], quantised along its rows: blocks of 128x1
 * @param x - the input [rows, in], likewise
 * @param options - see {@link ProductOptions}
 * @returns dw [out, in], or [experts, out, in]; zeros for an expert without rows
 * @throws ERR_BALEEN_FP8_SHAPE where sizes do not agree
 */
export function weightGradient(
  dy: QuantizedMatrix,
  x: QuantizedMatrix,
  options: ProductOptions = {},
): Float32Array {
  const { accumulate = false } = options;
  const [a, b] = [
    [dy, 'rows', 'dy'],
    [x, 'rows', 'x'],
  ] as const;
  checkOperands(a, b, options);
  if ((x.stack ?? 1) !== 1) refuse('x.stack', `x is a stack of ${x.stack}`, 'give one matrix');
  const { offsets } = x;
  if (offsets?.join() !== dy.offsets?.join())
    refuse('dy.offsets', 'dy and x have different row groups', 'quantise both with the same ones');
  const [m, n, k] = [dy.cols, x.cols, x.rows];
  const groups = offsets ? offsets.length - 1 : 1;
  const out = outFor(options, offsets ? { groups, out: m, in: n } : { out: m, in: n });
  const views = kernelViews(a, b);
  if (views && offsets) {
    const sizes = { groups, rows: k, m, n, accumulate, ...summationSizes(options) };
    kernelsOf(options).groupedGemmWeight(viewOf(out), ...views, viewOf(offsets), sizes);
  } else if (views) {
    const sizes = { m, n, k, transA: true, accumulate, ...summationSizes(options) };
    kernelsOf(options).gemm(viewOf(out), ...views, sizes);
  } else {
    for (let g = 0; g < groups; g += 1) {
      const part = out.subarray(g * m * n, (g + 1) * m * n);
      product(part, [groupOf(dy, g), 'rows'], [groupOf(x, g), 'rows'], options, accumulate);
    }
  }
  return out;
}

/** The forward product and the input's gradient: rows of activations times a weight, or each its own expert's. */
function rowProduct(a: Operand, b: Operand, options: GroupedOptions): Float32Array {
  const { accumulate = false, offsets } = options;
  checkOperands(a, b, options);
  const [[x], [w, along]] = [a, b];
  for (const [side, , name] of [a, b])
    if (side.offsets)
      refuse(`${name}.offsets`, `${name} has row groups`, 'give them as an option of the product');
  const [rows, k, n] = [x.rows, x.cols, along === 'cols' ? w.rows : w.cols];
  const groups = w.stack ?? 1;
  if (offsets) checkGroups(a, offsets, groups);
  else if (groups !== 1)
    refuse(
      'offsets',
      `a stack of ${groups} weights without offsets`,
      'say where the rows of each begin',
    );
  const out = outFor(options, { rows, cols: n });
  const views = kernelViews(a, b);
  const sizes = { n, k, transB: along === 'cols', accumulate, ...summationSizes(options) };
  if (views && offsets) {
    const grouped = { ...sizes, groups, rows };
    kernelsOf(options).groupedGemm(viewOf(out), ...views, viewOf(offsets), grouped);
  } else if (views) {
    kernelsOf(options).gemm(viewOf(out), ...views, { ...sizes, m: rows });
  } else {
    for (let g = 0; g < groups; g += 1) {
      const [first, last] = offsets ? [offsets[g], offsets[g + 1]] : [0, rows];
      const part = out.subarray(first * n, last * n);
      const own = offsets ? rowsOf(x, first, last) : x;
      product(part, [own, 'cols'], [groupOf(w, g), along], options, accumulate);
    }
  }
  return out;
}

/** Both sides as kernels take them, where they do: FP8 in blocks of 128 along k, and 1 or 128 across. */
function kernelViews([a, alongA]: Operand, [b, alongB]: Operand): [ScaledView, ScaledView] | null {
  if (!inFp8(a) || !inFp8(b)) return null;
  const fits = (x: QuantizedMatrix, along: Axis): boolean =>
    x.block === '128x128' || x.block === (along === 'cols' ? '1x128' : '128x1');
  return fits(a, alongA) && fits(b, alongB) ? [scaledView(a), scaledView(b)] : null;
}

function kernelsOf(options: ProductOptions): Kernels {
  return options.kernels ?? loadKernels();
}

function outFor(options: ProductOptions, shape: Record<string, number>): Float32Array {
  const size = Object.values(shape).reduce((total, length) => total * length, 1);
  const out = options.out ?? new Float32Array(size);
  checkLength('out', out, shape);
  return out;
}

function checkOperands(
  [a, alongA, nameA]: Operand,
  [b, alongB, nameB]: Operand,
  options: ProductOptions,
): void {
  checkMatrix(nameA, a);
  checkMatrix(nameB, b);
  if ((a.stack ?? 1) !== 1)
    refuse(`${nameA}.stack`, `${nameA} is a stack of ${a.stack}`, 'only weights are stacked');
  if (a[alongA] !== b[alongB])
    refuse(
      `${nameB}.${alongB}`,
      `${nameA} has ${a[alongA]} ${alongA} and ${nameB} ${b[alongB]} ${alongB}; they must agree`,
      'the product sums over both',
    );
  const fault = summationFault(options);
  if (fault) refuseOption(fault.path, fault.value, fault.hint);
}

function checkGroups([x, , name]: Operand, offsets: Int32Array, groups: number): void {
  if (offsets.length !== groups + 1)
    refuse(
      'offsets',
      `${offsets.length} offsets for ${groups} weights`,
      'one a weight, and the end',
    );
  checkOffsets(offsets, x.rows);
  if (x.block === '128x1' || x.block === '128x128')
    refuse(
      `${name}.block`,
      `${name} in blocks of ${x.block} with offsets`,
      'quantise rows in blocks of 1x128, row or tensor, which no border cuts',
    );
}
