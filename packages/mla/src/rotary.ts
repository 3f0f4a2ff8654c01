// Rotary position embedding and its extension to longer contexts, YaRN (§4.3; arXiv 2309.00071).
import type { Kernels } from '@baleen/kernels';
import { type Pools, type Tensor, tensorFrom } from '@baleen/tensor';

/** YaRN's settings. V3: factor 40 over 4,096 positions, β 32 and 1. */
export interface YarnConfig {
  /** How many times longer the context becomes. */
  factor: number;
  /** Length the model was trained at. */
  originalMaxSequence: number;
  /** Rotations above which a dimension is left as it is. */
  betaFast: number;
  /** Rotations below which a dimension is interpolated fully. */
  betaSlow: number;
  /** Weight of the attention factor on the tables. */
  mscale: number;
  /** Weight of the attention factor on the scores. */
  mscaleAllDim: number;
}

/**
 * Angular frequencies of each pair of rotary dimensions.
 * @param width - rotary width, even
 * @param theta - base (10,000 in V3)
 * @param yarn - interpolation, or null
 * @returns width / 2 frequencies
 */
export function rotaryFrequencies(
  width: number,
  theta: number,
  yarn: YarnConfig | null,
): Float64Array {
  const half = width / 2;
  const frequencies = Float64Array.from({ length: half }, (_, i) => theta ** (-(2 * i) / width));
  if (!yarn) return frequencies;
  // The dimension that turns `rotations` times over the original length.
  const dimension = (rotations: number): number =>
    (width * Math.log(yarn.originalMaxSequence / (rotations * 2 * Math.PI))) /
    (2 * Math.log(theta));
  const low = Math.max(Math.floor(dimension(yarn.betaFast)), 0);
  let high = Math.min(Math.ceil(dimension(yarn.betaSlow)), width - 1);
  if (high === low) high += 0.001;
  return frequencies.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (frequency / yarn.factor) * ramp + frequency * (1 - ramp);
  });
}

function attentionFactor(factor: number, weight: number): number {
  return factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;
}

/**
 * Factor on the attention scores: 1/√width, times YaRN's attention factor squared.
 * @param width - width of queries and keys
 * @param yarn - interpolation, or null
 * @returns the factor; 0.135234 for V3's long-context model
 */
export function softmaxScale(width: number, yarn: YarnConfig | null): number {
  const scale = 1 / Math.sqrt(width);
  if (!yarn || yarn.mscaleAllDim === 0) return scale;
  return scale * attentionFactor(yarn.factor, yarn.mscaleAllDim) ** 2;
}

/** Tables of a rotary embedding. */
export interface RotaryTables {
  /** cos of every position and pair, [positions × width / 2]. */
  cos: Float32Array;
  /** sin likewise. */
  sin: Float32Array;
}

/**
 * Computes the tables.
 * @param positions - how many
 * @param width - rotary width
 * @param theta - base
 * @param yarn - interpolation, or null
 * @returns cos and sin
 *
 * @example
 * ```ts
 * import { rotaryTables } from '@baleen/mla';
 * const { cos } = rotaryTables(2, 4, 10000, null);
 * console.log(cos[2].toFixed(4)); // => 0.5403
 * ```
 */
export function rotaryTables(
  positions: number,
  width: number,
  theta: number,
  yarn: YarnConfig | null,
): RotaryTables {
  const frequencies = rotaryFrequencies(width, theta, yarn);
  const half = width / 2;
  const factor = yarn
    ? attentionFactor(yarn.factor, yarn.mscale) / attentionFactor(yarn.factor, yarn.mscaleAllDim)
    : 1;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p += 1)
    for (let i = 0; i < half; i += 1) {
      const angle = p * (frequencies[i] ?? 0);
      cos[p * half + i] = Math.cos(angle) * factor;
      sin[p * half + i] = Math.sin(angle) * factor;
    }
  return { cos, sin };
}

/** Rotary tables in a model's memory, shared by its layers. */
export class Rotary {
  /** cos [positions, width / 2]. */
  readonly cos: Tensor;
  /** sin likewise. */
  readonly sin: Tensor;

  /**
   * @param pools - where they live
   * @param positions - longest sequence
   * @param width - rotary width
   * @param theta - base
   * @param yarn - interpolation, or null
   */
  constructor(
    pools: Pools,
    /** Longest sequence. */
    readonly positions: number,
    /** Rotary width. */
    readonly width: number,
    theta: number,
    yarn: YarnConfig | null,
  ) {
    const { cos, sin } = rotaryTables(positions, width, theta, yarn);
    this.cos = tensorFrom(pools.caches, [positions, width / 2], cos);
    this.sin = tensorFrom(pools.caches, [positions, width / 2], sin);
  }

  /** The backend. */
  get kernels(): Kernels {
    return this.cos.block.region.kernels;
  }
}
