// How the scales of a quantised matrix spread: blocks whose values lie far apart have scales far apart, and scales that are
// no multipliers, or of another format than they are said to be, show here first.
import { refuse } from './matrix';

/** Statistics of scales. Those that are not positive and finite are counted and take no part in the rest. */
export interface ScaleStatistics {
  /** Positive, finite scales. */
  scales: number;
  /** Scales that are zero, negative, infinite or NaN. */
  invalid: number;
  /** The smallest; Infinity where there is none. */
  smallest: number;
  /** The largest; 0 where there is none. */
  largest: number;
  /** The median, the lower one of an even number; NaN where there is none. */
  median: number;
  /** log₂(largest / smallest): the powers of two between them; NaN where there is none. */
  spread: number;
  /** Scales that are powers of two, as UE8M0 holds them. */
  powersOfTwo: number;
}

/**
 * Looks at scales.
 * @param scales - FP32 multipliers
 * @param options - `out`: where the statistics go; `scratch`: as many values or more, overwritten. With both, nothing is
 *   allocated here
 * @returns the statistics
 * @throws ERR_BALEEN_FP8_SHAPE where the scratch is too short
 *
 * @example
 * ```ts
 * import { scaleStatistics } from '@baleen/fp8';
 * const { median, spread, powersOfTwo } = scaleStatistics(Float32Array.of(0.25, 0.3, 8));
 * console.log(median.toFixed(1), spread, powersOfTwo); // => 0.3 5 2
 * ```
 */
export function scaleStatistics(
  scales: Float32Array,
  options: { out?: ScaleStatistics; scratch?: Float32Array } = {},
): ScaleStatistics {
  const sorted = options.scratch ?? new Float32Array(scales.length);
  if (sorted.length < scales.length)
    refuse(
      'scratch',
      `scratch holds ${sorted.length} of ${scales.length} scales`,
      'make it longer',
    );
  let valid = 0;
  let powersOfTwo = 0;
  for (const scale of scales) {
    if (!(scale > 0 && scale < Infinity)) continue;
    if (isPowerOfTwo(scale)) powersOfTwo += 1;
    sorted[valid] = scale;
    valid += 1;
  }
  const inOrder = sorted.subarray(0, valid).sort();
  const out = options.out ?? ({} as ScaleStatistics);
  out.scales = valid;
  out.invalid = scales.length - valid;
  out.smallest = valid === 0 ? Infinity : inOrder[0];
  out.largest = valid === 0 ? 0 : inOrder[valid - 1];
  out.median = valid === 0 ? NaN : inOrder[(valid - 1) >> 1];
  out.spread = valid === 0 ? NaN : Math.log2(out.largest / out.smallest);
  out.powersOfTwo = powersOfTwo;
  return out;
}

/**
 * Whether a scale is a power of two, as UE8M0 holds them.
 * @param scale - an FP32 number
 * @returns true for 2^n
 */
export function isPowerOfTwo(scale: number): boolean {
  return scale > 0 && scale < Infinity && 2 ** Math.round(Math.log2(scale)) === scale;
}
