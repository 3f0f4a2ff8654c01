// The memory through which the ranks of a group meet: how far each is, what it called, and how the group failed.
//
// Legend: n ranks. Calls on a group are numbered, collective ones in one row, messages in a row for each pair of ranks.
// Words count calls of a row and wrap; they are compared by their difference.
import { FailureRecord } from '../failure';
import { signatureLength } from '../signature';

/** Words of a cache line. */
const line = 16;

/** Words on a rank's line: calls it came to, calls whose data it has moved, calls it ended, and whether it has closed. */
export const word = { posted: 0, moved: 1, ended: 2, closed: 3 } as const;

/** Words of a pair of ranks, each on a line of its own: the sender's calls posted and ended, the receiver's received. */
export const messageWord: Readonly<Record<'sent' | 'sendEnded' | 'received', number>> = {
  sent: 0,
  sendEnded: 1,
  received: line,
} as const;

/** Where the arrays of a call are, after its signature: numbers of buffers and bytes into them. */
export const located = { xBuffer: 0, xByte: 1, outBuffer: 2, outByte: 3, count: 4 } as const;

/**
 * Whether a row has come to a call.
 * @param count - how far it is
 * @param call - number of the call
 * @returns true where that call is among those counted
 */
export function reached(count: number, call: number): boolean {
  return ((count - call) | 0) > 0;
}

/** A view of a group's memory. */
export class GroupMemory {
  readonly words: Int32Array;
  /** Descriptors of collective calls, by whether their number is odd, and by rank. */
  readonly collective: readonly (readonly Float64Array[])[];
  /** Descriptors of messages from a rank to another [n · n]. */
  readonly messages: readonly Float64Array[];
  /** Where a descriptor's `located` begins. */
  readonly locatedAt: number;
  /** How the group failed. */
  readonly record: FailureRecord;

  /**
   * @param buffer - see `GroupMemory.make`
   * @param size - ranks, n
   */
  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly size: number,
  ) {
    const { words, width, messageWidth } = GroupMemory.sizes(size);
    this.locatedAt = signatureLength(size);
    this.words = new Int32Array(buffer, 0, words);
    let byte = 4 * words;
    const take = (length: number): Float64Array => {
      const array = new Float64Array(buffer, byte, length);
      byte += 8 * length;
      return array;
    };
    this.collective = [0, 1].map(() => Array.from({ length: size }, () => take(width)));
    this.messages = Array.from({ length: size * size }, () => take(messageWidth));
    this.record = new FailureRecord(buffer, byte);
  }

  /**
   * Memory for a group.
   * @param size - ranks, n
   * @returns zeros, shared
   */
  static make(size: number): SharedArrayBuffer {
    const { words, width, messageWidth } = GroupMemory.sizes(size);
    return new SharedArrayBuffer(
      4 * words + 8 * (2 * size * width + size * size * messageWidth) + FailureRecord.bytes,
    );
  }

  private static sizes(size: number): { words: number; width: number; messageWidth: number } {
    return {
      words: line * (size + 2 * size * size),
      width: signatureLength(size) + located.count,
      messageWidth: signatureLength(0) + located.count,
    };
  }

  /** Index of a rank's word. */
  at(rank: number, name: number): number {
    return line * rank + name;
  }

  /** Index of a word of the messages from a rank to another. */
  atMessage(from: number, to: number, name: number): number {
    return line * (this.size + 2 * (from * this.size + to)) + name;
  }
}
