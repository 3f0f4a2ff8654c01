// Scaling on typed arrays: values to codes with one scale a block, and back. FP8 runs on the kernels; other formats, and
// floors of amax other than V3's, on the same arithmetic in plain TypeScript.
import {
  decodeBlocks,
  encodeBlocks,
  type Fp8Type,
  type Kernels,
  loadKernels,
  type ScaleOptions,
  scaleBlocks,
  type View,
  viewOf,
} from '@baleen/kernels';

import {
  type BlockShape,
  blockSizes,
  checkLength,
  checkMatrix,
  type ElementFormat,
  groupOf,
  inFp8,
  isPlainFp8,
  type MatrixSizes,
  matrixFor,
  type QuantizedMatrix,
  refuseOption,
  scaledView,
} from './matrix';
import { type ErrorStatistics, errorStatistics } from './statistics';

/** Options of {@link quantize} and {@link requantize}. */
export interface QuantizeOptions<F extends ElementFormat = 'e4m3'> extends ScaleOptions {
  /** Format of the codes (default e4m3). */
  format?: F;
  /** What shares a scale (default 1x128). */
  block?: BlockShape;
  /** Filled with what quantising changed. */
  statistics?: ErrorStatistics;
  /** Kernels to use (default: `loadKernels()`). */
  kernels?: Kernels;
  /** Where the result goes, of the format, block and sizes asked for; no array is allocated then. */
  out?: QuantizedMatrix<F>;
}

/**
 * Quantises a matrix with online scales: scale = max(amax, amaxFloor) / the format's largest value a block, or the power
 * of two at or above that; code = the nearest to x / scale, ties to even (§3.3.2). A format with FP32's exponents (BF16)
 * keeps scales of 1. NaN stays NaN and does not count for amax; an infinity does, so that its block becomes NaN.
 * @param x - [stack, rows, cols] values, row-major
 * @param sizes - rows and columns; blocks at the edges are ragged
 * @param options - see {@link QuantizeOptions}
 * @returns codes and scales
 * @throws ERR_BALEEN_FP8_SHAPE where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { dequantize, quantize } from '@baleen/fp8';
 * const x = new Float32Array([0.5, -448, 3.1]);
 * const q = quantize(x, { rows: 1, cols: 3 });
 * console.log([...dequantize(q)].join(' ')); // => 0.5 -448 3
 * const fine = quantize(x, { rows: 1, cols: 3 }, { format: 'e5m6', powerOfTwo: true });
 * console.log([...dequantize(fine)].join(' ')); // => 0.5 -448 3.09375
 * ```
 */
export function quantize<F extends ElementFormat = 'e4m3'>(
  x: Float32Array,
  sizes: MatrixSizes,
  options: QuantizeOptions<F> = {},
): QuantizedMatrix<F> {
  const { powerOfTwo = false, amaxFloor, statistics } = options;
  const { rows, cols, stack = 1 } = sizes;
  if (amaxFloor !== undefined && !(amaxFloor >= 0 && amaxFloor < Infinity))
    refuseOption('amaxFloor', amaxFloor, 'name the smallest amax, 0 or more');
  const out = matrixFor(sizes, options);
  checkLength('x', x, { stack, rows, cols });
  if (onKernels(out, options)) {
    const kernelSizes = { rows, cols, powerOfTwo, stack, ...groupsOf(out) };
    kernelsOf(options).quantize(scaledView(out), viewOf(x), kernelSizes);
  } else {
    scaleBlocks(out, x, blockSizes(out), options);
    encodeBlocks(out, x, blockSizes(out));
  }
  if (statistics) errorStatistics(x, out, { out: statistics });
  return out;
}

/** Whether kernels quantise so: FP8, with V3's floor. */
function onKernels(out: QuantizedMatrix, options: ScaleOptions): out is QuantizedMatrix<Fp8Type> {
  return inFp8(out) && options.amaxFloor === undefined;
}

function kernelsOf(options: { kernels?: Kernels }): Kernels {
  return options.kernels ?? loadKernels();
}

/** Row groups as kernels take them. */
function groupsOf({ offsets }: MatrixSizes): { offsets?: View; groups?: number } {
  return offsets ? { offsets: viewOf(offsets), groups: offsets.length - 1 } : {};
}

/**
 * Decodes a quantised matrix: value × scale, each rounded to FP32.
 * @param x - codes and scales
 * @param options - kernels, and where the result goes
 * @returns [stack, rows, cols] values
 * @throws ERR_BALEEN_FP8_SHAPE where sizes and lengths do not agree
 */
export function dequantize(
  x: QuantizedMatrix,
  options: { kernels?: Kernels; out?: Float32Array } = {},
): Float32Array {
  const { rows, cols, stack = 1 } = x;
  checkMatrix('x', x);
  const out = options.out ?? new Float32Array(stack * rows * cols);
  checkLength('out', out, { stack, rows, cols });
  if (!inFp8(x)) {
    decodeBlocks(out, x, blockSizes(x));
    return out;
  }
  const kernels = kernelsOf(options);
  const groups = x.offsets ? x.offsets.length - 1 : stack;
  let at = 0;
  for (let g = 0; g < groups; g += 1) {
    const own = groupOf(x, g);
    const end = at + own.rows * cols;
    // Kernels decode one matrix whose blocks start anew nowhere.
    kernels.dequantize(viewOf(out.subarray(at, end)), scaledView(own), { rows: own.rows, cols });
    at = end;
  }
  return out;
}

/** Options of {@link requantize}. */
export interface RequantizeOptions<F extends ElementFormat = 'e4m3'> extends QuantizeOptions<F> {
  /** Row groups of the result, as {@link MatrixSizes} has them. */
  offsets?: Int32Array;
}

/**
 * Gives a quantised matrix another block shape or format: its values are decoded to FP32 and quantised again, as the
 * backward pass makes 128×1 tiles of activations that were kept in 1×128 (§3.3.2). `statistics` then say what the second
 * rounding changed. Where scales are powers of two on both sides it changes only values that fall below the normal ones
 * (§3.3.3).
 * @param x - codes and scales
 * @param options - see {@link QuantizeOptions}; format and block are e4m3 and 1x128 unless named
 * @returns codes and scales
 * @throws ERR_BALEEN_FP8_SHAPE where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { emptyStatistics, quantize, requantize } from '@baleen/fp8';
 * const x = Float32Array.from({ length: 256 * 256 }, (_, i) => Math.sin(i) * ((i % 256) + 1));
 * const errors = [true, false].map((powerOfTwo) => {
 *   const kept = quantize(x, { rows: 256, cols: 256 }, { powerOfTwo });
 *   const statistics = emptyStatistics();
 *   requantize(kept, { block: '128x1', powerOfTwo, statistics });
 *   return statistics.signalToNoise.toFixed(0);
 * });
 * console.log(errors.join(' dB, with FP32 scales ')); // => Infinity dB, with FP32 scales 32
 * ```
 */
export function requantize<F extends ElementFormat = 'e4m3'>(
  x: QuantizedMatrix,
  options: RequantizeOptions<F> = {},
): QuantizedMatrix<F> {
  const { powerOfTwo = false, statistics, offsets } = options;
  const { rows, cols, stack } = x;
  const sizes = { rows, cols, ...(stack !== undefined && { stack }), ...(offsets && { offsets }) };
  const decoded = (): Float32Array =>
    dequantize(x, options.kernels ? { kernels: options.kernels } : {});
  checkMatrix('x', x);
  const out = matrixFor(sizes, options);
  if (!isPlainFp8(x) || !onKernels(out, options))
    return quantize(decoded(), sizes, { ...options, out });
  const kernelSizes = { rows, cols, powerOfTwo, ...groupsOf(out) };
  kernelsOf(options).requantize(scaledView(out), scaledView(x), kernelSizes);
  if (statistics) errorStatistics(decoded(), out, { out: statistics });
  return out;
}
