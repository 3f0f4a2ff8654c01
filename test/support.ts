// What the packages' tests share. It imports nothing, so that the tests of every package can use it.

/**
 * The kernels a test runs on: always the reference, and the native ones where this process has them.
 * @param reference - `referenceKernels()`
 * @param loaded - `loadKernels()`
 * @returns names and kernels, for `describe.each`
 */
export function implementationsOf<K extends { readonly implementation: string }>(
  reference: K,
  loaded: K,
): [name: string, kernels: K][] {
  const list: [string, K][] = [['reference', reference]];
  if (loaded.implementation === 'native') list.push(['native', loaded]);
  return list;
}

/**
 * A stream of reproducible numbers (mulberry32).
 * @param seed - any integer
 * @returns numbers in [0, 1)
 */
export function randomFrom(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Reproducible numbers, evenly spread.
 * @param count - how many
 * @param seed - any integer
 * @param size - they lie in (−size, size)
 * @returns FP32 values
 */
export function values(count: number, seed: number, size = 1): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: count }, () => size * (2 * random() - 1));
}

/**
 * Signal-to-noise ratio of an approximation in decibels, infinite where it is exact.
 * @param exact - the values meant
 * @param approximate - the values had
 * @returns 10 · log₁₀(Σ exact² / Σ difference²)
 */
export function decibels(exact: ArrayLike<number>, approximate: ArrayLike<number>): number {
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < exact.length; i += 1) {
    signal += exact[i] ** 2;
    noise += (exact[i] - approximate[i]) ** 2;
  }
  return 10 * Math.log10(signal / noise);
}

/**
 * The largest difference between two lists of the same length.
 * @param a - one
 * @param b - the other
 * @returns max |a − b|; NaN where either holds one
 */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return NaN;
  let worst = 0;
  for (let i = 0; i < a.length; i += 1) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}

/**
 * Where two lists differ first; far faster than a deep comparison of long arrays. Zeros of different sign
 * differ, NaN equals itself.
 * @param a - one
 * @param b - the other
 * @returns an index, or −1 where the lists are the same
 */
export function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i += 1) if (!Object.is(a[i], b[i])) return i;
  return -1;
}

/** What JSON may have anywhere. */
const junk = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  3,
  1e300,
  2 ** 53,
  '',
  'F32',
  'yes',
  [],
  [1],
  [0, 4],
  [-4, 4],
  ['a'],
  {},
  { a: 1 },
];

/**
 * Replaces, removes or adds something somewhere in a JSON value.
 * @param value - what JSON was parsed to
 * @param random - see {@link randomFrom}
 * @returns a damaged copy
 */
export function mutateJson(value: unknown, random: () => number): unknown {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  if (typeof value !== 'object' || value === null || random() < 0.15) return pick(junk);
  const copy = structuredClone(value) as Record<string, unknown>;
  const keys = Object.keys(copy);
  const key = pick(keys);
  if (keys.length === 0 || random() < 0.1)
    copy[pick(['x', '__proto__', 'dtype', 'a'])] = pick(junk);
  else if (random() < 0.15) Reflect.deleteProperty(copy, key);
  else copy[key] = mutateJson(copy[key], random);
  return copy;
}
