// Seeded random numbers for the tests of data: the same cases in every run.

/**
 * Makes a generator of numbers in [0, 1): a 32-bit linear congruence, its high bits.
 * @param seed - decides them
 */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Documents of random tokens.
 * @param seed - decides them
 * @param count - documents
 * @param longest - tokens of one, at most; at least one
 */
export function randomDocuments(seed: number, count: number, longest: number): Int32Array[] {
  const random = randomNumbers(seed);
  return Array.from({ length: count }, () =>
    Int32Array.from({ length: 1 + Math.floor(random() * longest) }, () =>
      Math.floor(random() * 256),
    ),
  );
}
