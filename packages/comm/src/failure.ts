// How calls fail that other ranks are to blame for. The first failure of a group is written where all threads that serve it
// read it, and every call on the group throws it from then on.
import { commError } from './errors';

/** What goes wrong with a call that others are to blame for, by the end of its code, and the remedy. */
const hints = {
  MISMATCH: 'make the same calls in the same order, with the same types and sizes, on every rank',
  RANK_FAILED: 'look for what that rank reported',
  DEADLINE: 'see what that rank does instead, or give a longer deadlineMs',
  ABORTED: 'a call that one rank gives up is given up on all; go on with another communicator',
} as const;

/** How a group failed, as every rank throws it. */
export interface Failure {
  /** End of the error's code. */
  readonly what: keyof typeof hints;
  /** Who did what. */
  readonly message: string;
  /** Ranks of the group that are to blame. */
  readonly ranks: readonly number[];
  /** The same ranks as the job counts them. */
  readonly jobRanks: readonly number[];
}

/**
 * A failure of a group.
 * @param what - end of the error's code
 * @param message - who did what
 * @param ranks - of the group, that are to blame
 * @param members - ranks of the job by their rank in the group
 * @returns see {@link Failure}
 */
export function blame(
  what: Failure['what'],
  message: string,
  ranks: readonly number[],
  members: readonly number[],
): Failure {
  return { what, message, ranks, jobRanks: ranks.map((rank) => members[rank]) };
}

/**
 * A failure to throw.
 * @param failure - how a call failed
 * @returns the error
 */
function errorOfFailure({ what, message, ranks, jobRanks }: Failure): Error {
  return commError(what, message, hints[what], { ranks, jobRanks });
}

const textBytes = 16384;
const state = { none: 0, beingWritten: 1, written: 2 } as const;

/** How a group failed, in shared memory. */
export class FailureRecord {
  /** Bytes that a record takes. */
  static readonly bytes: number = 8 + textBytes;
  private readonly words: Int32Array;
  private readonly text: Uint8Array;

  /**
   * @param buffer - zeros at first
   * @param byte - where the record begins, a multiple of 4
   */
  constructor(buffer: SharedArrayBuffer, byte: number) {
    this.words = new Int32Array(buffer, byte, 2);
    this.text = new Uint8Array(buffer, byte + 8, textBytes);
  }

  /** Whether the group failed. */
  get failed(): boolean {
    return Atomics.load(this.words, 0) !== state.none;
  }

  /**
   * Writes how the group failed, if nobody has yet.
   * @param failure - how
   * @returns whether this was the first
   */
  fail(failure: Failure): boolean {
    const { none, beingWritten, written } = state;
    if (Atomics.compareExchange(this.words, 0, none, beingWritten) !== none) return false;
    let bytes = new TextEncoder().encode(JSON.stringify(failure));
    if (bytes.length > textBytes) {
      const message = `${failure.message.slice(0, textBytes / 8)} …`;
      bytes = new TextEncoder().encode(JSON.stringify({ ...failure, message }));
    }
    this.text.set(bytes);
    this.words[1] = bytes.length;
    Atomics.store(this.words, 0, written);
    return true;
  }

  /**
   * How the group failed.
   * @returns null while it has not
   */
  get(): Failure | null {
    if (!this.failed) return null;
    while (Atomics.load(this.words, 0) !== state.written);
    // A decoder does not read shared memory.
    const bytes = this.text.slice(0, this.words[1]);
    return JSON.parse(new TextDecoder().decode(bytes)) as Failure;
  }

  /**
   * How the group failed, to throw.
   * @returns the error
   */
  error(): Error {
    const failure = this.get();
    if (!failure) throw new Error('a call failed on a group that has not');
    return errorOfFailure(failure);
  }
}
