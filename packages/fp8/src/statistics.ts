// What quantising did to a matrix: how far values moved, how many were lost at either end of the format, and how far the
// scales spread.
import { encoder, forBlocks, formatTable } from '@baleen/kernels';

import {
  blockSizes,
  checkLength,
  checkMatrix,
  type ElementFormat,
  type QuantizedMatrix,
} from './matrix';

/** Errors of a quantised matrix. Values that are no finite numbers are counted and take no part in the rest. */
export interface ErrorStatistics {
  /** Finite values. */
  values: number;
  /** Infinities and NaN among the original values. */
  nonFinite: number;
  /** Finite values that became NaN or infinite: they shared a block with an infinity, or lie beyond an unsaturated format. */
  lost: number;
  /** Signal-to-noise ratio in decibels; see {@link signalToNoise}. */
  signalToNoise: number;
  /** Largest |x − decoded|. */
  maxAbsolute: number;
  /** Largest |x − decoded| / |x| of values that did not become zero. */
  maxRelative: number;
  /** Values that round beyond the format's largest, and became the largest. */
  saturated: number;
  /** Values other than zero that became zero. */
  underflowed: number;
  /** The smallest scale of a block; Infinity where there is none. */
  smallestScale: number;
  /** The largest scale of a block; 0 where there is none. */
  largestScale: number;
}

/** Statistics of nothing, to be filled.
 * @returns zeros
 */
export function emptyStatistics(): ErrorStatistics {
  return {
    values: 0,
    nonFinite: 0,
    lost: 0,
    signalToNoise: NaN,
    maxAbsolute: 0,
    maxRelative: 0,
    saturated: 0,
    underflowed: 0,
    smallestScale: Infinity,
    largestScale: 0,
  };
}

/**
 * Compares a quantised matrix with what it was made from.
 * @param x - the values meant [stack, rows, cols]
 * @param q - the matrix made of them
 * @param options - where the statistics go
 * @returns the statistics
 * @throws ERR_BALEEN_FP8_SHAPE where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { errorStatistics, quantize } from '@baleen/fp8';
 * const x = new Float32Array([448, 17, 1e-4]);
 * const { maxAbsolute, underflowed, largestScale } = errorStatistics(x, quantize(x, { rows: 1, cols: 3 }));
 * console.log(maxAbsolute, underflowed, largestScale); // => 1 1 1
 * ```
 */
export function errorStatistics(
  x: Float32Array,
  q: QuantizedMatrix,
  options: { out?: ErrorStatistics } = {},
): ErrorStatistics {
  const { rows, cols, stack = 1, codes, scales } = q;
  checkMatrix('q', q);
  checkLength('x', x, { stack, rows, cols });
  const s = Object.assign(options.out ?? emptyStatistics(), emptyStatistics());
  const table = formatTable(q.format);
  const limit = saturationLimit(q.format);
  let signal = 0;
  let noise = 0;
  forBlocks(blockSizes(q), (r0, r1, c0, c1, scaleAt) => {
    const scale = scales[scaleAt];
    // Sums of a block stay in registers.
    let finite = 0;
    let lost = 0;
    let saturated = 0;
    let underflowed = 0;
    let { maxAbsolute, maxRelative } = s;
    let blockSignal = 0;
    let blockNoise = 0;
    for (let r = r0; r < r1; r += 1)
      for (let i = r * cols + c0; i < r * cols + c1; i += 1) {
        const value = x[i];
        const magnitude = Math.abs(value);
        if (!(magnitude < Infinity)) continue;
        const decoded = Math.fround(table[codes[i]] * scale);
        const error = Math.abs(value - decoded);
        finite += 1;
        blockSignal += value * value;
        if (!(error < Infinity)) {
          lost += 1;
          continue;
        }
        blockNoise += error * error;
        if (error > maxAbsolute) maxAbsolute = error;
        if (Math.fround(magnitude / scale) > limit) saturated += 1;
        if (value === 0) continue;
        if (decoded === 0) underflowed += 1;
        // A division for the few values alone that raise it.
        else if (error > maxRelative * magnitude) maxRelative = error / magnitude;
      }
    s.smallestScale = Math.min(s.smallestScale, scale);
    s.largestScale = Math.max(s.largestScale, scale);
    s.values += finite;
    s.nonFinite += (r1 - r0) * (c1 - c0) - finite;
    s.lost += lost;
    s.saturated += saturated;
    s.underflowed += underflowed;
    s.maxAbsolute = maxAbsolute;
    s.maxRelative = maxRelative;
    signal += blockSignal;
    noise += blockNoise;
  });
  if (s.lost > 0) noise = s.maxAbsolute = s.maxRelative = Infinity;
  s.signalToNoise = 10 * Math.log10(signal / noise);
  return s;
}

const limits: Partial<Record<ElementFormat, number>> = {};

/** The largest FP32 magnitude that a format rounds to its largest value by itself; beyond it saturation takes hold. */
function saturationLimit(format: ElementFormat): number {
  const found = limits[format];
  if (found !== undefined) return found;
  const strict = encoder(format, { saturate: false });
  const table = formatTable(format);
  const value = new Float32Array(1);
  const bits = new Uint32Array(value.buffer);
  const isFinite = (pattern: number): boolean => {
    bits[0] = pattern;
    return Number.isFinite(table[strict(value[0])]);
  };
  // Patterns of positive numbers are in the numbers' order; infinity's is not finite in any format.
  let [low, high] = [0, 0x7f800000];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (isFinite(middle)) low = middle;
    else high = middle;
  }
  bits[0] = low;
  return (limits[format] = value[0]);
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
