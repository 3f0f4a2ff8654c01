// What an audit looks for beyond what loading a checkpoint refuses: signs that a single weight cannot give, and losses of
// precision that a model survives.
import {
  type CodeStatistics,
  type ErrorStatistics,
  type FormatName,
  type Fp8Type,
  formats,
  type ScaleStatistics,
} from '@baleen/fp8';

import type { WeightQuantization } from './hugging-face';

/** Something wrong with a tensor, or with the checkpoint as a whole. */
export interface AuditFinding {
  /** `ERR_BALEEN_CHECKPOINT_…`: the codes that loading refuses a checkpoint with, and those of audits alone. */
  code: string;
  /** The tensor, or null where it is no single one. */
  tensor: string | null;
  /** File, or file and tensor, or the key in config.json. */
  path: string;
  /** What is wrong, with its value. */
  message: string;
  /** The remedy. */
  hint: string;
}

/** What quantising made, or would make, of a weight. */
export interface WeightAudit {
  /** The weight's name. */
  name: string;
  /** The file it is in. */
  file: string;
  /** F8_E4M3: codes and scales are the checkpoint's. BF16, F32: they are what the recipe makes of it. */
  dtype: 'F8_E4M3' | 'BF16' | 'F32';
  /** Format of its codes, the checkpoint's or the recipe's. */
  format: Fp8Type;
  /** Rows and columns. */
  shape: readonly number[];
  /** What the codes tell. */
  codes: CodeStatistics;
  /** What the scales tell. */
  scales: ScaleStatistics;
  /** What quantising changed; null of F8_E4M3, where the values are not known. */
  errors: ErrorStatistics | null;
}

/**
 * The least ratio of signal to noise that a format has while values are above its smallest normal one: rounding to m
 * mantissa bits moves a value by at most 2⁻⁽ᵐ⁺¹⁾ of itself.
 * @param format - of the codes
 * @returns decibels: 24.1 for E4M3
 */
export function leastSignalToNoise(format: FormatName): number {
  return 20 * Math.log10(2 ** (formats[format].mantissaBits + 1));
}

/**
 * The ratio of signal to noise to judge a weight by.
 * @param weight - its audit
 * @returns decibels: measured where the values are known, else what such codes have on average; NaN of a matrix of zeros
 */
export function signalToNoiseOf({ codes, errors }: WeightAudit): number {
  return errors ? errors.signalToNoise : codes.expectedSignalToNoise;
}

/**
 * Looks at one weight's statistics.
 * @param weight - its audit
 * @returns findings
 */
export function* checkStatistics(weight: WeightAudit): Generator<AuditFinding> {
  const { name, file, format, errors, codes } = weight;
  const finding = (what: string, message: string, hint: string): AuditFinding => ({
    code: `ERR_BALEEN_CHECKPOINT_${what}`,
    tensor: name,
    path: `${file}: ${name}`,
    message,
    hint,
  });
  if (errors && errors.nonFinite > 0)
    yield finding(
      'NOT_FINITE',
      `${name} holds ${errors.nonFinite} values that are not finite in ${file}`,
      'the checkpoint is from a run that diverged: use an earlier one',
    );
  const ratio = signalToNoiseOf(weight);
  const least = leastSignalToNoise(format);
  if (ratio < least)
    yield finding(
      'PRECISION',
      `${name} has ${ratio.toFixed(1)} dB of signal to noise in FP8, below the ${least.toFixed(1)} dB of ${format.toUpperCase()}'s normal values: ${percent(codes.zeros, codes.values)} of its codes are zero, ${percent(codes.subnormals, codes.values)} subnormal, the largest value is ${codes.maxAbsolute.toPrecision(3)}`,
      `scales are larger than the values need: quantise with amax / ${formats[format].max}; weights below 1e-4, where V3 stops making scales smaller, are lost to FP8 and belong in BF16`,
    );
}

function percent(count: number, of: number): string {
  return `${((100 * count) / of).toFixed(1)} %`;
}

/** Fewest scales that can be powers of two by design only: a scale of BF16 weights is one by chance in 128. */
const fewestScales = 8;
/** How many times larger or smaller than others weights must be to be wrong; 448 is what is forgotten, or applied twice. */
const farFrom = 128;

/**
 * Looks at all weights together.
 * @param weights - every audited weight
 * @param context - `quantization`: what config.json says, undefined where there is none; `plain`: root mean squares of
 *   matrices that are not FP8; `source`: the checkpoint's name
 * @returns findings
 */
export function* checkTogether(
  weights: readonly WeightAudit[],
  context: {
    quantization: WeightQuantization | null | undefined;
    plain: readonly number[];
    source: string;
  },
): Generator<AuditFinding> {
  const { quantization, plain, source } = context;
  const coded = weights.filter(({ dtype }) => dtype === 'F8_E4M3');
  if (coded.length === 0) return;
  const count = (key: 'scales' | 'powersOfTwo'): number =>
    coded.reduce((sum, { scales }) => sum + scales[key], 0);
  const scales = count('scales');
  if (
    quantization?.scaleFormat === 'fp32' &&
    scales >= fewestScales &&
    count('powersOfTwo') === scales
  )
    yield {
      code: 'ERR_BALEEN_CHECKPOINT_SCALE_FORMAT',
      tensor: null,
      path: 'config.json.quantization_config.scale_fmt',
      message: `all ${scales} scales of ${source} are powers of two, but config.json has no quantization_config.scale_fmt`,
      hint: 'set it to "ue8m0", as DeepSeek-V3.1 has it: engines choose by it how they scale activations, and these weights were trained or exported for powers of two',
    };
  yield* checkMagnitudes(coded, plain);
}

/** Weights far larger or smaller than the checkpoint's others: their scales lack a factor, or have it twice. */
function* checkMagnitudes(
  coded: readonly WeightAudit[],
  plain: readonly number[],
): Generator<AuditFinding> {
  const sizes = coded.map(({ codes }) => codes.rootMeanSquare).filter((size) => size > 0);
  const typical = median(sizes);
  const others = median(plain.filter((size) => size > 0));
  const hint =
    'scales must be amax / 448 of their block: store them with that factor, once; a weight is code · scale';
  const isFar = (size: number, than: number): boolean =>
    size > farFrom * than || size * farFrom < than;
  if (isFar(typical, others)) {
    yield {
      code: 'ERR_BALEEN_CHECKPOINT_MAGNITUDE',
      tensor: null,
      path: coded[0].file,
      message: `FP8 weights decode to a root mean square of ${typical.toPrecision(3)} (the median of ${sizes.length}), matrices in BF16 or F32 beside them have ${others.toPrecision(3)}`,
      hint,
    };
    return;
  }
  for (const { name, file, codes } of coded)
    if (sizes.length > 2 && codes.rootMeanSquare > 0 && isFar(codes.rootMeanSquare, typical))
      yield {
        code: 'ERR_BALEEN_CHECKPOINT_MAGNITUDE',
        tensor: name,
        path: `${file}: ${name}`,
        message: `${name} decodes to a root mean square of ${codes.rootMeanSquare.toPrecision(3)} in ${file}, the median of the checkpoint's FP8 weights is ${typical.toPrecision(3)}`,
        hint,
      };
}

/** The median, the lower one of an even number; NaN of none. */
function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  return sorted.length === 0 ? NaN : sorted[(sorted.length - 1) >> 1];
}
