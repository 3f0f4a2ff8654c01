// Rotary position embedding (RoPE): tables of cos and sin, by which neighbouring pairs of a query's or key's rotary part are
// turned to their position.
import type { Kernels } from '@baleen/kernels';
import { type Pools, type Tensor, tensorFrom } from '@baleen/tensor';

import { checkLength, checkPairs, checkTheta, checkWhole } from './checks';
import { checkYarn, extendedFrequencies, tableFactor, type YarnConfig, yarnBeyond } from './yarn';

/**
 * Angular frequencies of each pair of rotary dimensions.
 * @param width - rotary width, even
 * @param theta - base (10,000 in V3), above 1
 * @param yarn - interpolation, or null; see `yarnBeyond`
 * @returns width / 2 frequencies
 * @throws ERR_BALEEN_MLA_SIZES for an odd width or another base, ERR_BALEEN_MLA_YARN for settings that cannot be
 */
export function rotaryFrequencies(
  width: number,
  theta: number,
  yarn: YarnConfig | null,
): Float64Array {
  checkWhole({ width });
  checkPairs('width', width);
  checkTheta(theta);
  checkYarn(yarn);
  const length = width / 2;
  const frequencies = Float64Array.from({ length }, (_, i) => theta ** (-(2 * i) / width));
  return yarn ? extendedFrequencies(frequencies, theta, yarn) : frequencies;
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
 * @param positions - how many, from 0 up; or which, a row each: those of packed documents, or of what follows a cache
 * @param width - rotary width
 * @param theta - base
 * @param yarn - interpolation, or null; see `yarnBeyond`
 * @param options - where the tables go
 * @returns cos and sin
 * @throws ERR_BALEEN_MLA_SIZES for a negative position, an odd width, or tables of another length; ERR_BALEEN_MLA_YARN for
 *   settings that cannot be
 *
 * @example
 * ```ts
 * import { rotaryTables } from '@baleen/mla';
 * const { cos } = rotaryTables(2, 4, 10000, null);
 * console.log(cos[2].toFixed(4)); // => 0.5403
 * const packed = rotaryTables(Int32Array.of(0, 1, 0), 4, 10000, null);
 * console.log(packed.cos[2].toFixed(4), packed.cos[4]); // => 0.5403 1
 * ```
 */
export function rotaryTables(
  positions: number | Int32Array,
  width: number,
  theta: number,
  yarn: YarnConfig | null,
  options: { out?: RotaryTables } = {},
): RotaryTables {
  const frequencies = rotaryFrequencies(width, theta, yarn);
  const factor = tableFactor(yarn);
  const half = width / 2;
  const rows = typeof positions === 'number' ? positions : positions.length;
  checkWhole({ positions: rows }, 0);
  const out = options.out ?? {
    cos: new Float32Array(rows * half),
    sin: new Float32Array(rows * half),
  };
  checkLength('out.cos', out.cos, { positions: rows, 'width / 2': half });
  checkLength('out.sin', out.sin, { positions: rows, 'width / 2': half });
  for (let row = 0; row < rows; row += 1) {
    const position = typeof positions === 'number' ? row : (positions[row] ?? 0);
    if (position < 0) checkWhole({ [`positions[${row}]`]: position }, 0);
    for (let i = 0; i < half; i += 1) {
      const angle = position * (frequencies[i] ?? 0);
      out.cos[row * half + i] = Math.cos(angle) * factor;
      out.sin[row * half + i] = Math.sin(angle) * factor;
    }
  }
  return out;
}

/** Rotary tables in a model's memory, shared by its layers. */
export class Rotary {
  /** cos [positions, width / 2]. */
  readonly cos: Tensor;
  /** sin likewise. */
  readonly sin: Tensor;
  /** The interpolation in use: null as well where the longest sequence does not exceed the one trained at. */
  readonly yarn: YarnConfig | null;

  /**
   * @param pools - where they live
   * @param positions - longest sequence
   * @param width - rotary width
   * @param theta - base
   * @param yarn - interpolation for sequences longer than its `originalMaxSequence`, or null
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
    this.yarn = yarnBeyond(yarn, positions);
    const { cos, sin } = rotaryTables(positions, width, theta, this.yarn);
    this.cos = tensorFrom(pools.caches, [positions, width / 2], cos);
    this.sin = tensorFrom(pools.caches, [positions, width / 2], sin);
  }

  /** The backend. */
  get kernels(): Kernels {
    return this.cos.block.region.kernels;
  }
}
