// YaRN, the extension of rotary embeddings to contexts longer than those trained on (§4.3; arXiv 2309.00071): slow pairs of
// rotary dimensions turn as many times slower as the context becomes longer, fast ones stay as they are, and the softmax
// becomes a little sharper.

/** YaRN's settings. V3: factor 40 over 4,096 positions, β 32 and 1. */
export interface YarnConfig {
  /** How many times longer the context becomes, above 1. */
  factor: number;
  /** Length the model was trained at. */
  originalMaxSequence: number;
  /** Rotations above which a dimension is left as it is. */
  betaFast: number;
  /** Rotations below which a dimension is interpolated fully, at most `betaFast`. */
  betaSlow: number;
  /** Weight of the attention factor on the tables, above 0; they are divided by that of the scores. */
  mscale: number;
  /** Weight of the attention factor on the scores; 0 for none. */
  mscaleAllDim: number;
}

/** What is wrong with a configuration of YaRN. */
export interface YarnFault {
  /** Which key. */
  key: keyof YarnConfig;
  /** What its value is not. */
  is: string;
  /** The remedy. */
  hint: string;
}

const above0 = { is: 'not a positive number', hint: 'set it above 0' };

/**
 * Looks for what cannot be extended by.
 * @param yarn - the settings
 * @returns the first fault, or null where there is none
 */
export function yarnFault(yarn: YarnConfig): YarnFault | null {
  const { factor, originalMaxSequence, betaFast, betaSlow, mscale, mscaleAllDim } = yarn;
  const positive = (value: number): boolean => value > 0 && Number.isFinite(value);
  if (!(factor > 1) || !Number.isFinite(factor))
    return {
      key: 'factor',
      is: 'not a number above 1',
      hint: 'say how many times longer the context becomes, or leave YaRN out (null)',
    };
  if (!Number.isSafeInteger(originalMaxSequence) || originalMaxSequence < 1)
    return {
      key: 'originalMaxSequence',
      is: 'not a whole number from 1 up',
      hint: 'set it to the length that the model was trained at',
    };
  if (!positive(betaFast)) return { key: 'betaFast', ...above0 };
  if (!positive(betaSlow)) return { key: 'betaSlow', ...above0 };
  if (betaSlow > betaFast)
    return {
      key: 'betaSlow',
      is: `more than betaFast (${betaFast})`,
      hint: 'V3 has betaFast 32 and betaSlow 1',
    };
  // DeepSeek's code takes a weight of 0 as none, others take it as one that was left out: nobody can mean both.
  if (!positive(mscale))
    return {
      key: 'mscale',
      is: 'not a positive number',
      hint: 'give it the weight of mscaleAllDim, as V3 does, for tables that are not scaled',
    };
  if (!(mscaleAllDim >= 0) || !Number.isFinite(mscaleAllDim))
    return {
      key: 'mscaleAllDim',
      is: 'negative or not finite',
      hint: 'set it to 0 or more',
    };
  return null;
}

/**
 * Refuses settings that cannot be.
 * @param yarn - the settings, or null
 * @throws ERR_BALEEN_MLA_YARN, with the key as its path
 */
export function checkYarn(yarn: YarnConfig | null): void {
  const fault = yarn && yarnFault(yarn);
  if (!fault) return;
  const { key, is, hint } = fault;
  const error = new Error(`yarn.${key} (${yarn[key]}) is ${is}`);
  throw Object.assign(error, { code: 'ERR_BALEEN_MLA_YARN', path: `yarn.${key}`, hint });
}

/**
 * YaRN is for models whose longest sequence exceeds the one they were trained at: the published code leaves a shorter one's
 * frequencies and scores as they were trained.
 * @param yarn - the settings, or null
 * @param maxSequence - the model's longest sequence
 * @returns the settings where they apply, else null
 * @throws ERR_BALEEN_MLA_YARN for settings that cannot be
 */
export function yarnBeyond(yarn: YarnConfig | null, maxSequence: number): YarnConfig | null {
  checkYarn(yarn);
  return yarn && maxSequence > yarn.originalMaxSequence ? yarn : null;
}

/** √t⁻¹ of the paper, weighted: 0.1 · weight · ln factor + 1. */
function attentionFactor({ factor }: YarnConfig, weight: number): number {
  return 0.1 * weight * Math.log(factor) + 1;
}

/**
 * Factor on the rotary tables.
 * @param yarn - the settings, or null
 * @returns 1 where both weights are the same, as V3's are
 */
export function tableFactor(yarn: YarnConfig | null): number {
  if (!yarn) return 1;
  return attentionFactor(yarn, yarn.mscale) / attentionFactor(yarn, yarn.mscaleAllDim);
}

/**
 * Factor on the attention scores: 1/√width, times YaRN's attention factor squared.
 * @param width - width of queries and keys
 * @param yarn - interpolation, or null; see {@link yarnBeyond}
 * @returns the factor; 0.135234 for V3's long-context model
 * @throws ERR_BALEEN_MLA_YARN for settings that cannot be
 */
export function softmaxScale(width: number, yarn: YarnConfig | null): number {
  checkYarn(yarn);
  const scale = 1 / Math.sqrt(width);
  return yarn ? scale * attentionFactor(yarn, yarn.mscaleAllDim) ** 2 : scale;
}

/**
 * The frequency that each pair of rotary dimensions turns by in the longer context.
 * @param frequencies - those trained with, width / 2 of them
 * @param theta - their base
 * @param yarn - the settings
 * @returns frequency / factor for slow pairs, the frequency itself for fast ones, a mixture in between
 */
export function extendedFrequencies(
  frequencies: Float64Array,
  theta: number,
  yarn: YarnConfig,
): Float64Array {
  const width = 2 * frequencies.length;
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
