// The communicator of one: what has a rank and a size works alone as well, and copies where others would send.
import type { Call } from './calls';
import type { CallOptions, Communicator, Handle } from './communicator';
import { copyElements, goesPast } from './copy';
import { commError } from './errors';
import { Group, noColor, type Transport } from './group';
import { endedHandle, failedHandle } from './handles';

function run({ operation, x, out }: Call, options: CallOptions): void {
  if (options.signal?.aborted)
    throw commError(
      'ABORTED',
      `${operation}: rank 0 gave it up, its signal was raised before it began`,
      'a signal that was raised once cannot be used again',
      { ranks: [0] },
    );
  copyElements(out, 0, x, 0, x.length, goesPast(x.byteLength));
}

const alone: Transport = {
  rank: 0,
  size: 1,
  run,
  begin(call: Call, options: CallOptions): Handle {
    try {
      run(call, options);
      return endedHandle;
    } catch (error) {
      return failedHandle(error as Error);
    }
  },
  split: (color: number) => (color === noColor ? null : alone),
  close: () => undefined,
};

/**
 * The communicator of one rank, for programs that have no others.
 * @returns a new one
 *
 * @example
 * ```ts
 * import { self } from '@baleen/comm';
 * const communicator = self();
 * const sum = new Float32Array(2);
 * communicator.allReduce(sum, Float32Array.of(1, 2));
 * console.log(communicator.rank, communicator.size, sum.join(' ')); // => 0 1 1 2
 * ```
 */
export function self(): Communicator {
  return new Group(alone);
}
