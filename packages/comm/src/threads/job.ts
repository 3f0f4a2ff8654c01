// What the threads of a job share besides their groups: bells, and how each rank ended.
import type { Bells } from './bells';
import type { Buffers } from './buffers';

/** Bytes for what a rank's end has to say. */
const textBytes = 2048;

/** How a rank is. */
export const rankState = { running: 0, beingWritten: 1, ended: 2, failed: 3 } as const;

/** How ranks ended, in shared memory. */
export class Ends {
  private readonly states: Int32Array;
  private readonly texts: Uint8Array;

  /**
   * @param buffer - see `Ends.memory`
   * @param size - ranks of the job
   */
  constructor(buffer: SharedArrayBuffer, size: number) {
    this.states = new Int32Array(buffer, 0, 2 * size);
    this.texts = new Uint8Array(buffer, 8 * size);
  }

  /**
   * Memory for the ends of ranks.
   * @param size - ranks of the job
   * @returns zeros, shared
   */
  static memory(size: number): SharedArrayBuffer {
    return new SharedArrayBuffer(size * (8 + textBytes));
  }

  /**
   * Writes how a rank ended, unless that is known.
   * @param rank - of the job
   * @param state - `rankState.ended` or `failed`
   * @param text - what it did, after its name
   */
  set(rank: number, state: number, text: string): void {
    const { running, beingWritten } = rankState;
    if (Atomics.compareExchange(this.states, 2 * rank, running, beingWritten) !== running) return;
    const bytes = new TextEncoder().encode(text.slice(0, textBytes / 4));
    this.texts.set(bytes, rank * textBytes);
    this.states[2 * rank + 1] = bytes.length;
    Atomics.store(this.states, 2 * rank, state);
  }

  /**
   * What a rank did that ended it; null while it runs.
   * @param rank - of the job
   * @returns words that go after its name
   */
  of(rank: number): string | null {
    if (Atomics.load(this.states, 2 * rank) < rankState.ended) return null;
    const from = rank * textBytes;
    return new TextDecoder().decode(this.texts.slice(from, from + this.states[2 * rank + 1]));
  }
}

/** What a thread of a job works with. */
export interface Surroundings {
  /** Ranks of the job. */
  readonly ranks: number;
  readonly bells: Bells;
  readonly buffers: Buffers;
  readonly ends: Ends;
}
