// Paired differences and what can be said of them: the mean, its 95 % interval by Student's t, and the smallest effect that
// so many pairs with such a spread can tell from none.

/** What a list of values says. */
export interface Summary {
  /** The mean. */
  mean: number;
  /** Its 95 % interval; null without a spread to make one from. */
  ci95: readonly [number, number] | null;
  /** Number of values. */
  n: number;
  /** Distance from no effect that four of five repetitions would find; null likewise. */
  smallestResolvable: number | null;
}

/** Share of repetitions in which an effect of the smallest resolvable size is told from none. */
const power = 0.8;

/**
 * Summarises independent values.
 * @param values - one or more
 * @returns mean m; interval m ± t₀.₉₇₅ · s / √n; smallest resolvable effect (t₀.₉₇₅ + t₀.₈) · s / √n, with s the sample
 * standard deviation and t the quantiles of Student's distribution with n − 1 degrees of freedom
 */
export function summarize(values: readonly number[]): Summary {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2 || !Number.isFinite(mean)) return { mean, ci95: null, n, smallestResolvable: null };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const error = Math.sqrt(squares / (n - 1) / n);
  const half = studentQuantile(0.975, n - 1) * error;
  return {
    mean,
    ci95: [mean - half, mean + half],
    n,
    smallestResolvable: half + studentQuantile(power, n - 1) * error,
  };
}

/**
 * The same of factors, through their logarithms.
 * @param values - factors above 0
 * @returns the geometric mean and its interval; the smallest factor above 1 that is told from 1
 */
export function summarizeRatios(values: readonly number[]): Summary {
  const { mean, ci95, n, smallestResolvable } = summarize(values.map(Math.log));
  return {
    mean: Math.exp(mean),
    ci95: ci95 && [Math.exp(ci95[0]), Math.exp(ci95[1])],
    n,
    smallestResolvable: smallestResolvable === null ? null : Math.exp(smallestResolvable),
  };
}

/**
 * Differences of runs that share seed and data order, as shares of the first.
 * @param base - one value a pair
 * @param other - the other's, in the same order
 * @returns (other − base) / base, pair by pair
 */
export function relativeDifferences(base: readonly number[], other: readonly number[]): number[] {
  return base.map((value, i) => (other[i] - value) / value);
}

/**
 * The quantile of Student's t distribution.
 * @param p - probability from 0.5 up to, but not, 1
 * @param freedom - degrees of freedom, a whole number from 1 up
 * @returns t with P(T ≤ t) = p
 */
export function studentQuantile(p: number, freedom: number): number {
  let [low, high] = [0, 1];
  while (studentWithin(high, freedom) < 2 * p - 1) [low, high] = [high, 2 * high];
  for (let i = 0; i < 60; i += 1) {
    const middle = (low + high) / 2;
    if (studentWithin(middle, freedom) < 2 * p - 1) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** P(|T| ≤ t), which is a finite sum where the degrees of freedom are whole (Abramowitz and Stegun, 26.7.3 and 26.7.4). */
function studentWithin(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom));
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  const odd = freedom % 2 === 1;
  let term = odd ? cos : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= (cos * cos * (k - 1)) / k;
    sum += term;
  }
  return odd ? (2 / Math.PI) * (angle + sin * sum) : sin * sum;
}
