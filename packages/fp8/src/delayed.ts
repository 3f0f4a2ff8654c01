// Delayed scaling, the older recipe that V3's online scales are compared with (§3.3.2): one scale a tensor, made from the
// largest magnitudes of the steps before, so that values are encoded without being looked at first. NVIDIA's Transformer
// Engine made it common (`DelayedScaling`, https://docs.nvidia.com/deeplearning/transformer-engine): history of N steps,
// the largest of them, divided by 2^margin for headroom. What an outlier costs is seen in the saturated values of the
// step in which it comes, and in the underflow of the N steps after.
import { blockScale, encodeBlocks } from '@baleen/kernels';

import {
  blockSizes,
  checkForm,
  checkLength,
  type ElementFormat,
  matrixFor,
  type QuantizedMatrix,
  refuseOption,
} from './matrix';
import { type ErrorStatistics, errorStatistics } from './statistics';

/** The scale of one tensor, and what the next ones are made from. */
export interface DelayedScale<F extends ElementFormat = ElementFormat> {
  /** Format of the codes. */
  readonly format: F;
  /** Powers of two of headroom between the largest magnitude seen and the format's largest value. */
  readonly margin: number;
  /** Largest magnitudes of the last steps, each step's at its number modulo the length. */
  readonly history: Float32Array;
  /** Steps so far. */
  steps: number;
  /** Scale of the next step: fl(max(history) · 2^margin / the format's largest value). */
  scale: number;
}

/**
 * A delayed scale of 1, before any step.
 * @param options - format (default e4m3), steps that the history holds (default 1024), margin (default 0)
 * @returns the state that {@link quantizeDelayed} reads and moves on
 * @throws ERR_BALEEN_FP8_OPTION where the history holds no step, for a margin that is not finite and an unknown format
 */
export function delayedScale<F extends ElementFormat = 'e4m3'>(
  options: { format?: F; history?: number; margin?: number } = {},
): DelayedScale<F> {
  const { format = 'e4m3' as F, history = 1024, margin = 0 } = options;
  if (!Number.isInteger(history) || history < 1)
    refuseOption('history', history, 'name how many steps the scale looks back on, 1 or more');
  if (!Number.isFinite(margin))
    refuseOption('margin', margin, 'name powers of two of headroom, 0 for none');
  checkForm({ format, block: 'tensor' });
  return { format, margin, history: new Float32Array(history), steps: 0, scale: 1 };
}

/**
 * Quantises a matrix with the scale that the steps before left, then adds its largest magnitude to the history and makes
 * the next scale. A largest magnitude that is not finite is no part of the history; a history of zeros leaves the scale as
 * it is.
 * @param x - rows × cols values, row-major
 * @param sizes - rows and columns
 * @param state - moved on by one step
 * @param options - `saturate`: values beyond the format's largest become the largest (default) or infinity, NaN in E4M3;
 *   `statistics`: filled with what quantising changed; `out`: where the result goes
 * @returns codes and one scale
 * @throws ERR_BALEEN_FP8_SHAPE where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { delayedScale, dequantize, quantizeDelayed } from '@baleen/fp8';
 * const state = delayedScale({ history: 2 });
 * for (const size of [448, 448 * 4, 448])
 *   console.log(dequantize(quantizeDelayed(Float32Array.of(size), { rows: 1, cols: 1 }, state))[0], state.scale);
 * // => 448 1
 * // => 448 4
 * // => 448 4
 * ```
 */
export function quantizeDelayed<F extends ElementFormat>(
  x: Float32Array,
  sizes: { rows: number; cols: number },
  state: DelayedScale<F>,
  options: { saturate?: boolean; statistics?: ErrorStatistics; out?: QuantizedMatrix<F> } = {},
): QuantizedMatrix<F> {
  const { format, history, margin } = state;
  const { rows, cols } = sizes;
  const out = matrixFor(sizes, { ...options, format, block: 'tensor' });
  checkLength('x', x, { rows, cols });
  out.scales.fill(state.scale); // one, or none of an empty matrix
  encodeBlocks(out, x, blockSizes(out), options.saturate);
  if (options.statistics) errorStatistics(x, out, { out: options.statistics });
  const top = largest(x);
  history[state.steps % history.length] = Number.isFinite(top) ? top : 0;
  state.steps += 1;
  const amax = largest(history);
  if (amax > 0) state.scale = blockScale(amax * 2 ** margin, format, { amaxFloor: 0 });
  return out;
}

/** The largest magnitude; NaN where there is one. */
function largest(x: Float32Array): number {
  return x.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
}
