// From logits to the probabilities a token is drawn with, and the draw: what generation and the acceptance of drafts share.
import { type SizeChecks, sizeChecks } from '@baleen/kernels';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_MTP_SIZES');

/** How logits become probabilities. */
export interface SamplingShape {
  /** 0 leaves only the likeliest token (default); higher flattens the distribution. */
  temperature?: number;
  /** Keep the likeliest tokens that together reach this probability, at least one (default 1: all). */
  topP?: number;
}

/** Converts between an FP32 value and its bits. */
const value = new Float32Array(1);
const bits = new Uint32Array(value.buffer);

/**
 * Probabilities of each row's tokens. Of equally likely tokens those of smaller ids come first, at temperature 0 as in
 * top-p.
 * @param logits - [rows × vocab]; −∞ rules a token out
 * @param sizes - `vocab`, and `rows` (default 1)
 * @param options - see {@link SamplingShape}; where the probabilities go [rows × vocab]: nothing is allocated then, and
 *   `out` may be `logits` itself
 * @returns probabilities; each row adds up to 1, as nearly as FP32 says it
 * @throws ERR_BALEEN_MTP_SIZES where an array is of another length than the sizes say, ERR_BALEEN_MTP_LOGITS where a row
 * holds NaN or ∞, or rules every token out
 *
 * @example
 * ```ts
 * import { probabilities } from '@baleen/mtp';
 * const logits = Float32Array.from([0.1, 0.4, 0.2, 0.3], Math.log);
 * const kept = probabilities(logits, { vocab: 4 }, { temperature: 1, topP: 0.6 });
 * console.log(Array.from(kept, (p) => p.toFixed(3)).join(' ')); // => 0.000 0.571 0.000 0.429
 * ```
 */
export function probabilities(
  logits: Float32Array,
  sizes: { vocab: number; rows?: number },
  options: SamplingShape & { out?: Float32Array } = {},
): Float32Array {
  const { vocab, rows = 1 } = sizes;
  const { temperature = 0, topP = 1 } = options;
  checks.whole({ vocab, rows });
  checks.length('logits', logits, { rows, vocab });
  const out = options.out ?? new Float32Array(rows * vocab);
  checks.length('out', out, { rows, vocab });
  for (let start = 0; start < out.length; start += vocab) {
    const end = start + vocab;
    const best = likeliest(logits, start, end);
    const top = logits[best];
    if (temperature <= 0) {
      out.fill(0, start, end);
      out[best] = 1;
      continue;
    }
    let total = 0;
    for (let i = start; i < end; i += 1)
      total += out[i] = Math.fround(Math.exp((logits[i] - top) / temperature));
    if (topP < 1) total = keepLikeliest(out, start, end, topP * total);
    for (let i = start; i < end; i += 1) out[i] /= total;
  }
  return out;
}

/** Index of the largest value, the first of equals. */
function likeliest(logits: Float32Array, start: number, end: number): number {
  let best = start;
  for (let i = start; i < end; i += 1) {
    const logit = logits[i];
    if (Number.isNaN(logit)) best = i;
    else if (logit > logits[best]) best = i;
  }
  if (!Number.isFinite(logits[best]))
    throw Object.assign(
      new Error(
        `logits of row ${start / (end - start)}: token ${best - start} has ${logits[best]}, the largest of all`,
      ),
      {
        code: 'ERR_BALEEN_MTP_LOGITS',
        path: 'logits',
        hint: 'a model whose weights are finite gives finite logits; −∞ may rule out some tokens, not all',
      },
    );
  return best;
}

/**
 * Leaves the fewest of the largest weights that reach a sum, at least one. Bisects over the bits of the smallest kept
 * weight: positive FP32 values are ordered as their bits are.
 * @returns the sum of what is left
 */
function keepLikeliest(weights: Float32Array, start: number, end: number, sum: number): number {
  let least = 0;
  let beyond = 0x3f800001; // the largest weight is 1
  while (beyond - least > 1) {
    const middle = (least + beyond) >> 1;
    bits[0] = middle;
    let reached = 0;
    for (let i = start; i < end; i += 1) if (weights[i] >= value[0]) reached += weights[i];
    if (reached >= sum) least = middle;
    else beyond = middle;
  }
  bits[0] = least;
  const border = value[0];
  let kept = 0;
  for (let i = start; i < end; i += 1) if (weights[i] > border) kept += weights[i];
  for (let i = start; i < end; i += 1) {
    if (weights[i] > border) continue;
    if (weights[i] === border && (kept === 0 || kept < sum)) kept += border;
    else weights[i] = 0;
  }
  return kept;
}

/**
 * Draws a token.
 * @param weights - [vocab], not negative; they need not add up to 1
 * @param random - a number in [0, 1): the token at this share of their sum, in the order of ids
 * @returns the token
 * @throws ERR_BALEEN_MTP_DISTRIBUTION where the weights add up to nothing, or to no finite number
 *
 * @example
 * ```ts
 * import { draw } from '@baleen/mtp';
 * console.log(draw(Float32Array.of(0.25, 0, 0.75), 0.2), draw(Float32Array.of(0.25, 0, 0.75), 0.3)); // => 0 2
 * ```
 */
export function draw(weights: Float32Array, random: number): number {
  const token = drawRow(weights, null, 0, weights.length, random);
  return token < 0 ? noDistribution('weights', 0, sumOf(weights, 0, weights.length)) : token;
}

/**
 * Draws from a row of weights, or from what they have more than a row of others: max(0, weight − other).
 * @param weights - any array
 * @param others - what is taken off, as long; or null
 * @param start - where both rows begin
 * @param vocab - their length
 * @param random - a number in [0, 1)
 * @returns the token, or −1 where nothing is left or the sum is not finite
 */
export function drawRow(
  weights: Float32Array,
  others: Float32Array | null,
  start: number,
  vocab: number,
  random: number,
): number {
  const at = (i: number): number =>
    others ? Math.max(0, weights[start + i] - others[start + i]) : weights[start + i];
  let total = 0;
  for (let i = 0; i < vocab; i += 1) total += at(i);
  if (!(total > 0 && total < Infinity)) return -1;
  let rest = random * total;
  let last = -1;
  for (let i = 0; i < vocab; i += 1) {
    const weight = at(i);
    if (weight > 0) last = i;
    rest -= weight;
    if (rest < 0) return i;
  }
  // Rounding may leave a little over at the end.
  return last;
}

/** Sum of a row. */
export function sumOf(weights: Float32Array, start: number, vocab: number): number {
  let total = 0;
  for (let i = 0; i < vocab; i += 1) total += weights[start + i];
  return total;
}

/** Refuses a row that is no distribution. */
export function noDistribution(path: string, row: number, sum: number): never {
  throw Object.assign(new Error(`row ${row} of ${path} adds up to ${sum}`), {
    code: 'ERR_BALEEN_MTP_DISTRIBUTION',
    path,
    hint: 'give probabilities, such as `probabilities()` makes of logits',
  });
}
