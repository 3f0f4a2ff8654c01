// Scaling on typed arrays: FP8 codes with one scale a block, and products of them.
import { type Kernels, loadKernels, type ScaledView, viewOf } from '@baleen/kernels';

/** Block shapes of V3's recipe (§3.3.2): activations, their transpose, weights. */
export type BlockShape = '1x128' | '128x1' | '128x128';

/** A quantised matrix on typed arrays. */
export interface QuantizedMatrix {
  /** E4M3 codes, row-major. */
  codes: Uint8Array;
  /** FP32 multipliers, ⌈rows / blockRows⌉ × ⌈cols / blockCols⌉. */
  scales: Float32Array;
  /** Rows. */
  rows: number;
  /** Columns. */
  cols: number;
  /** Block shape. */
  block: BlockShape;
}

/** Options of the functions here. */
export interface QuantizeOptions {
  /** Block shape (default 1x128). */
  block?: BlockShape;
  /** Round scales up to powers of two. */
  powerOfTwo?: boolean;
  /** Kernels to use (default: `loadKernels()`). */
  kernels?: Kernels;
  /** Where the result goes; nothing is allocated then. */
  out?: QuantizedMatrix;
}

const shapes: Readonly<Record<BlockShape, readonly [number, number]>> = {
  '1x128': [1, 128],
  '128x1': [128, 1],
  '128x128': [128, 128],
};

function scaled(x: QuantizedMatrix): ScaledView {
  const [blockRows, blockCols] = shapes[x.block];
  return { codes: viewOf(x.codes), scales: viewOf(x.scales), blockRows, blockCols };
}

/**
 * Quantises a matrix to E4M3 with online scales: scale = max(amax, 1e-4) / 448 a block, code = E4M3(x / scale).
 * @param x - rows × cols values, row-major
 * @param sizes - rows and columns; blocks at the edges are ragged
 * @param options - see {@link QuantizeOptions}
 * @returns codes and scales
 *
 * @example
 * ```ts
 * import { dequantize, quantize } from '@baleen/fp8';
 * const q = quantize(new Float32Array([0.5, -448, 3]), { rows: 1, cols: 3 });
 * console.log([...dequantize(q)].join(' ')); // => 0.5 -448 3
 * ```
 */
export function quantize(
  x: Float32Array,
  sizes: { rows: number; cols: number },
  options: QuantizeOptions = {},
): QuantizedMatrix {
  const { rows, cols } = sizes;
  const block = options.out?.block ?? options.block ?? '1x128';
  const [blockRows, blockCols] = shapes[block];
  const out: QuantizedMatrix = options.out ?? {
    codes: new Uint8Array(rows * cols),
    scales: new Float32Array(Math.ceil(rows / blockRows) * Math.ceil(cols / blockCols)),
    rows,
    cols,
    block,
  };
  (options.kernels ?? loadKernels()).quantize(scaled(out), viewOf(x), {
    rows,
    cols,
    powerOfTwo: options.powerOfTwo ?? false,
  });
  return out;
}

/**
 * Decodes a quantised matrix: value × scale, each rounded to FP32.
 * @param x - codes and scales
 * @param options - kernels, and where the result goes
 * @returns rows × cols values
 */
export function dequantize(
  x: QuantizedMatrix,
  options: { kernels?: Kernels; out?: Float32Array } = {},
): Float32Array {
  const out = options.out ?? new Float32Array(x.rows * x.cols);
  (options.kernels ?? loadKernels()).dequantize(viewOf(out), scaled(x), x);
  return out;
}

/**
 * The product a · bᵀ of a [m, k] in 1×128 tiles and b [n, k] in 128×128 blocks, summed in FP32 with promotion every 128
 * of k: the forward product of an FP8 linear layer.
 * @param a - activations
 * @param b - weights
 * @param options - kernels, and where the result goes
 * @returns [m, n]
 */
export function multiply(
  a: QuantizedMatrix,
  b: QuantizedMatrix,
  options: { kernels?: Kernels; out?: Float32Array } = {},
): Float32Array {
  if (a.cols !== b.cols)
    throw Object.assign(new Error(`a has ${a.cols} columns and b ${b.cols}; they must agree`), {
      code: 'ERR_BALEEN_FP8_SHAPE',
      path: 'b.cols',
      hint: 'b is stored as [n, k], as weights are',
    });
  const out = options.out ?? new Float32Array(a.rows * b.rows);
  (options.kernels ?? loadKernels()).gemm(viewOf(out), scaled(a), scaled(b), {
    m: a.rows,
    n: b.rows,
    k: a.cols,
    transB: true,
  });
  return out;
}

/**
 * Signal-to-noise ratio of an approximation.
 * @param exact - the values meant
 * @param approximate - the values had
 * @returns 10 · log₁₀(Σ exact² / Σ (exact − approximate)²), in decibels
 */
export function signalToNoise(exact: Float32Array, approximate: Float32Array): number {
  let signal = 0;
  let noise = 0;
  exact.forEach((value, i) => {
    signal += value * value;
    noise += (value - (approximate[i] ?? 0)) ** 2;
  });
  return 10 * Math.log10(signal / noise);
}
