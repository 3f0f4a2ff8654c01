// What the codes of a quantised matrix tell without the values they were made from: how many became zero or lie among the
// subnormals, how many stand at the format's end, whether the scales let the codes fill the format, and what the rounding
// must have cost.
import { forBlocks, formats, formatTable } from '@baleen/kernels';

import { blockSizes, checkMatrix, type ElementFormat, type QuantizedMatrix } from './matrix';

/** Statistics of codes. Codes of NaN and infinity are counted and take no part in the rest. */
export interface CodeStatistics {
  /** Finite codes. */
  values: number;
  /** Codes of NaN and infinity. */
  nonFinite: number;
  /** Codes of zero. */
  zeros: number;
  /** Codes below the format's smallest normal value, zeros not counted: these have fewer bits than the others. */
  subnormals: number;
  /** Codes of the format's largest magnitude: of a block with an online scale one or a few, of a clipped one many. */
  largest: number;
  /** Blocks with a finite code other than zero. */
  blocks: number;
  /**
   * Those whose largest code is at least half the format's largest value. Scales of amax / largest reach it, and so do
   * the powers of two above those; a block that does not leaves a bit of range or more unused.
   */
  filledBlocks: number;
  /** The largest decoded magnitude. */
  maxAbsolute: number;
  /** Root of the mean square of the decoded values; NaN of none. */
  rootMeanSquare: number;
  /**
   * Signal-to-noise ratio, in decibels, that rounding to these codes has on average, if values lay evenly in the interval
   * of every code; NaN of zeros alone. What it really was takes the values; see `errorStatistics`.
   */
  expectedSignalToNoise: number;
}

/** Statistics of no codes, to be filled.
 * @returns zeros
 */
export function emptyCodeStatistics(): CodeStatistics {
  return {
    values: 0,
    nonFinite: 0,
    zeros: 0,
    subnormals: 0,
    largest: 0,
    blocks: 0,
    filledBlocks: 0,
    maxAbsolute: 0,
    rootMeanSquare: NaN,
    expectedSignalToNoise: NaN,
  };
}

/**
 * Counts the codes of a quantised matrix.
 * @param q - codes and scales
 * @param options - where the statistics go; nothing is allocated then
 * @returns the statistics
 * @throws ERR_BALEEN_FP8_SHAPE where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { codeStatistics, quantize } from '@baleen/fp8';
 * const q = quantize(new Float32Array([448, 17, 1e-4, 0]), { rows: 1, cols: 4 });
 * const { zeros, largest, filledBlocks, maxAbsolute } = codeStatistics(q);
 * console.log(zeros, largest, filledBlocks, maxAbsolute); // => 2 1 1 448
 * ```
 */
export function codeStatistics(
  q: QuantizedMatrix,
  options: { out?: CodeStatistics } = {},
): CodeStatistics {
  checkMatrix('q', q);
  const s = Object.assign(options.out ?? emptyCodeStatistics(), emptyCodeStatistics());
  const { codes, scales, cols } = q;
  const { mask, firstNormal, largest, values, squares, noises } = magnitudesOf(q.format);
  const half = values[largest] / 2;
  let signal = 0;
  let noise = 0;
  forBlocks(blockSizes(q), (r0, r1, c0, c1, scaleAt) => {
    const scale = scales[scaleAt];
    let most = 0;
    let blockSignal = 0;
    let blockNoise = 0;
    let zeros = 0;
    let subnormals = 0;
    let atLargest = 0;
    let nonFinite = 0;
    for (let r = r0; r < r1; r += 1)
      for (let i = r * cols + c0; i < r * cols + c1; i += 1) {
        const code = codes[i] & mask;
        blockSignal += squares[code];
        blockNoise += noises[code];
        if (code === 0) zeros += 1;
        else if (code < firstNormal) subnormals += 1;
        else if (code === largest) atLargest += 1;
        else if (code > largest) {
          nonFinite += 1;
          continue;
        }
        if (code > most) most = code;
      }
    s.values += (r1 - r0) * (c1 - c0) - nonFinite;
    s.nonFinite += nonFinite;
    s.zeros += zeros;
    s.subnormals += subnormals;
    s.largest += atLargest;
    if (most > 0) {
      s.blocks += 1;
      if (values[most] >= half) s.filledBlocks += 1;
    }
    s.maxAbsolute = Math.max(s.maxAbsolute, Math.fround(values[most] * scale));
    signal += blockSignal * scale * scale;
    noise += blockNoise * scale * scale;
  });
  s.rootMeanSquare = Math.sqrt(signal / s.values);
  s.expectedSignalToNoise = signal === 0 ? NaN : 10 * Math.log10(signal / noise);
  return s;
}

/** A format's magnitudes by code without sign. */
interface Magnitudes {
  /** Takes the sign off a code. */
  mask: number;
  /** Code of the smallest normal value. */
  firstNormal: number;
  /** Code of the largest value; what is above is not finite. */
  largest: number;
  /** Values. */
  values: Float32Array;
  /** Their squares; 0 where not finite. */
  squares: Float64Array;
  /** Mean square of the rounding error in the code's interval; 0 where not finite. */
  noises: Float64Array;
}

const known: Partial<Record<ElementFormat, Magnitudes>> = {};

function magnitudesOf(name: ElementFormat): Magnitudes {
  return (known[name] ??= makeMagnitudes(name));
}

function makeMagnitudes(name: ElementFormat): Magnitudes {
  const { bits, mantissaBits, max } = formats[name];
  const count = 2 ** (bits - 1);
  const values = formatTable(name).subarray(0, count);
  const largest = values.indexOf(max);
  const squares = new Float64Array(count);
  const noises = new Float64Array(count);
  for (let code = 0; code <= largest; code += 1) {
    squares[code] = values[code] ** 2;
    // The interval that rounds to v reaches a below and b above it. Evenly spread values have the mean square error
    // ∫ (x − v)² dx / (a + b) = (a³ + b³) / 3 (a + b).
    const below = code === 0 ? values[1] : values[code] - values[code - 1];
    const above = code === largest ? below : values[code + 1] - values[code];
    const [a, b] = [below / 2, above / 2];
    noises[code] = (a ** 3 + b ** 3) / (3 * (a + b));
  }
  return { mask: count - 1, firstNormal: 2 ** mantissaBits, largest, values, squares, noises };
}
