// What loads say, on typed arrays: imbalance (arXiv 2408.15664, §4.1), spread, and who is chosen with whom. Nothing is
// allocated where `out` is given.
import { checkLength, checkPlaces, checkWhole, refuse } from './checks';

/** Tokens each expert got: an array of any kind. */
export type Counts = Iterable<number> & ArrayLike<number>;

/**
 * How far the busiest expert is above the mean: (max − mean) / mean (arXiv 2408.15664, §4.1).
 * @param counts - tokens each expert got
 * @returns 0 for perfect balance
 */
export function maxViolation(counts: Counts): number {
  let total = 0;
  let top = 0;
  for (const count of counts) {
    total += count;
    top = Math.max(top, count);
  }
  const mean = total / counts.length;
  return mean === 0 ? 0 : (top - mean) / mean;
}

/**
 * How evenly loads are spread: the entropy of their shares over that of equal ones.
 * @param counts - tokens each expert got
 * @returns 1 for perfect balance, 0 where one expert gets all; 1 without any tokens, and of a single expert
 */
export function loadEntropy(counts: Counts): number {
  let total = 0;
  for (const count of counts) total += count;
  if (total === 0 || counts.length < 2) return 1;
  let entropy = 0;
  for (const count of counts) if (count > 0) entropy -= (count / total) * Math.log(count / total);
  return entropy / Math.log(counts.length);
}

/**
 * How many experts have which load. Bin b holds loads from b · width up to, but not, (b + 1) · width times the mean; the
 * last one also what lies above.
 * @param counts - tokens each expert got
 * @param options - `bins` (default 8), `width` of one in means (default 0.25), and where the result goes (replaced)
 * @returns experts in each bin [bins]
 */
export function loadHistogram(
  counts: Counts,
  options: { bins?: number; width?: number; out?: Int32Array } = {},
): Int32Array {
  const { bins = options.out?.length ?? 8, width = 0.25 } = options;
  checkWhole({ bins }, 1);
  if (!(width > 0)) refuse('width', `width (${width}) is not above 0`, 'take 0.25');
  const out = options.out ?? new Int32Array(bins);
  checkLength('out', out, { bins });
  out.fill(0);
  let total = 0;
  for (const count of counts) total += count;
  const mean = total / counts.length;
  for (const count of counts) {
    // In doubles 0.3 / 0.1 is below 3, and so would its bin be.
    const bin = mean === 0 ? 0 : Math.floor((count * counts.length) / (total * width) + 1e-9);
    out[Math.min(bins - 1, bin)] += 1;
  }
  return out;
}

/** Sizes of a choice. */
export interface ChoiceSizes {
  /** Tokens. */
  tokens: number;
  /** Experts. */
  experts: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
}

function checkChoice(indices: Int32Array, { tokens, experts, expertsPerToken }: ChoiceSizes): void {
  checkWhole({ tokens }, 0);
  checkWhole({ experts, expertsPerToken }, 1);
  checkLength('indices', indices, { tokens, expertsPerToken });
  checkPlaces('indices', indices, experts);
}

/**
 * How often two experts serve the same token.
 * @param indices - chosen experts [tokens, expertsPerToken]
 * @param sizes - see {@link ChoiceSizes}
 * @param options - where the result goes, and whether it is added to what is there
 * @returns [experts, experts], symmetric; an expert with itself is its load
 */
export function coActivation(
  indices: Int32Array,
  sizes: ChoiceSizes,
  options: { out?: Int32Array; accumulate?: boolean } = {},
): Int32Array {
  checkChoice(indices, sizes);
  const { tokens, experts, expertsPerToken: k } = sizes;
  const out = options.out ?? new Int32Array(experts * experts);
  checkLength('out', out, { experts, 'experts ': experts });
  if (options.accumulate !== true) out.fill(0);
  for (let t = 0; t < tokens; t += 1)
    for (let i = 0; i < k; i += 1)
      for (let j = 0; j < k; j += 1) out[indices[t * k + i] * experts + indices[t * k + j]] += 1;
  return out;
}

/**
 * Loads by domain: what code, mathematics or a language asks of each expert (§4.5.3, figure 9).
 * @param indices - chosen experts [tokens, expertsPerToken]
 * @param domains - each token's domain, 0 … number − 1 [tokens]
 * @param sizes - see {@link ChoiceSizes}, and the number of `domains`
 * @param options - where the result goes, and whether it is added to what is there
 * @returns tokens each expert got from each domain [domains, experts]
 */
export function domainLoads(
  indices: Int32Array,
  domains: Int32Array,
  sizes: ChoiceSizes & { domains: number },
  options: { out?: Int32Array; accumulate?: boolean } = {},
): Int32Array {
  checkChoice(indices, sizes);
  const { tokens, experts, expertsPerToken: k } = sizes;
  checkWhole({ domains: sizes.domains }, 1);
  checkLength('domains', domains, { tokens });
  checkPlaces('domains', domains, sizes.domains);
  const out = options.out ?? new Int32Array(sizes.domains * experts);
  checkLength('out', out, { domains: sizes.domains, experts });
  if (options.accumulate !== true) out.fill(0);
  for (let slot = 0; slot < tokens * k; slot += 1)
    out[domains[Math.floor(slot / k)] * experts + indices[slot]] += 1;
  return out;
}
