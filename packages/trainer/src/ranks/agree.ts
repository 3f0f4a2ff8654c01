// What ranks must do together: stop.
import type { Communicator } from '@baleen/comm';

/**
 * Whether some rank was told to stop.
 * @param ranks - all that must stop together; collective
 * @param signal - this rank's
 * @returns the same on all of them
 */
export function agreeToStop(ranks: Communicator, signal: AbortSignal | undefined): boolean {
  const own = signal?.aborted ? 1 : 0;
  if (ranks.size === 1) return own === 1;
  const sum = Int32Array.of(own);
  ranks.allReduce(sum, sum);
  return sum[0] > 0;
}
