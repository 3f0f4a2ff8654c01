// Random numbers that follow from a seed, and are the same on every machine: initial weights, the order of documents,
// sampled tokens. Runs resume and repeat to the bit because of them, so their values never change.

/**
 * A stream of evenly spread numbers: mulberry32, 32 bits of state, every number a multiple of 2⁻³².
 * @param seed - any integer; its low 32 bits count
 * @returns numbers in [0, 1)
 *
 * @example
 * ```ts
 * import { mulberry32 } from '@baleen/tensor';
 * const random = mulberry32(0);
 * console.log(random().toFixed(6), random().toFixed(6)); // => 0.266429 0.000330
 * ```
 */
export function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A stream of standard normal numbers: Box–Muller pairs over {@link mulberry32}.
 * @param seed - any integer; its low 32 bits count
 * @returns numbers of mean 0 and variance 1
 */
export function gaussian(seed: number): () => number {
  const random = mulberry32(seed);
  // The middle of each step of 2⁻³², never 0: the logarithm is finite.
  const uniform = (): number => random() + 2 ** -33;
  let spare: number | null = null;
  return () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
