// Small things that ranks tell each other: any JSON value of each, to all.
import type { Communicator } from '@baleen/comm';

/**
 * Hands every rank the values of all.
 * @param communicator - the ranks; collective
 * @param own - this rank's value, as JSON can say it
 * @returns the values, by rank
 */
export function gatherJson<T>(communicator: Communicator, own: T): T[] {
  if (communicator.size === 1) return [own];
  const bytes = new TextEncoder().encode(JSON.stringify(own));
  const sizes = new Int32Array(communicator.size);
  communicator.allGather(sizes, Int32Array.of(bytes.length));
  const all = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  communicator.allGather(all, bytes, { counts: [...sizes] });
  let start = 0;
  return Array.from(sizes, (size) => {
    const text = new TextDecoder().decode(all.subarray(start, start + size));
    start += size;
    return JSON.parse(text) as T;
  });
}
