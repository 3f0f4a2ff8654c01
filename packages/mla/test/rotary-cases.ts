// Rotary tables as another library computes them, and how far ours are from them; also for the comparison that runs that
// library (test/long).
import { rotaryFrequencies, rotaryTables, softmaxScale, type YarnConfig } from '../src/index';

/** A case as fixtures/make_rotary_fixture.py prints it. */
export interface RotaryCase {
  width: number;
  theta: number;
  yarn: {
    factor: number;
    original_max_position_embeddings: number;
    beta_fast: number;
    beta_slow: number;
    mscale: number;
    mscale_all_dim: number;
  };
  positions: number[];
  frequencies: number[];
  cos: number[];
  sin: number[];
  scale: number;
}

/** The case's settings under our names. */
export function yarnOf({ yarn }: RotaryCase): YarnConfig {
  return {
    factor: yarn.factor,
    originalMaxSequence: yarn.original_max_position_embeddings,
    betaFast: yarn.beta_fast,
    betaSlow: yarn.beta_slow,
    mscale: yarn.mscale,
    mscaleAllDim: yarn.mscale_all_dim,
  };
}

/**
 * The largest differences, each of what FP32 may make of it there: frequencies, products with positions and the tables are
 * all rounded to it, and an angle's error is that of the position times the frequency.
 */
export function rotaryDifferences(expected: RotaryCase): Record<string, number> {
  const { width, theta, positions } = expected;
  const yarn = yarnOf(expected);
  const frequencies = rotaryFrequencies(width, theta, yarn);
  const { cos, sin } = rotaryTables(Int32Array.from(positions), width, theta, yarn);
  const [half, unit] = [width / 2, 2 ** -23];
  const largest = { frequencies: 0, cos: 0, sin: 0, scale: 0 };
  frequencies.forEach((frequency, i) => {
    const error = Math.abs(frequency - expected.frequencies[i]) / frequency / unit;
    largest.frequencies = Math.max(largest.frequencies, error);
    positions.forEach((position, row) => {
      const allowed = unit * (1 + position * frequency);
      const at = row * half + i;
      largest.cos = Math.max(largest.cos, Math.abs(cos[at] - expected.cos[at]) / allowed);
      largest.sin = Math.max(largest.sin, Math.abs(sin[at] - expected.sin[at]) / allowed);
    });
  });
  // Queries of 128 values without position beside the rotary ones; the scale is not rounded to FP32.
  largest.scale = Math.abs(softmaxScale(128 + width, yarn) / expected.scale - 1) / 2 ** -52;
  return largest;
}
