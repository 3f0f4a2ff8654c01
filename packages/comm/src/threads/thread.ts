// What the thread of a rank has beside its communicators: shared memory for arrays, and a mover for calls that it does not
// wait for.
import { MessageChannel, type MessagePort } from 'node:worker_threads';

import { bytesOf, type CommArray } from '../arrays';
import type { Call } from '../calls';
import type { Handle } from '../communicator';
import { commError } from '../errors';
import { callWord, type Lease, Mover, type Running } from '../movers';
import { signatureLength, writeSignature } from '../signature';
import { startWorker } from '../start-worker';
import { Bells } from './bells';
import { Buffers } from './buffers';
import { Ends, type Surroundings } from './job';
import { located } from './memory';
import { Staging } from './staging';
import type { Order, Place } from './tasks';

/** What a job gives to each of its threads. */
export interface JobMemory {
  readonly ranks: number;
  readonly channel: string;
  readonly bells: Int32Array;
  readonly ends: SharedArrayBuffer;
  /** The group of all. */
  readonly world: SharedArrayBuffer;
  readonly spins: number;
  /** Milliseconds that a call waits where it says nothing. */
  readonly deadlineMs: number;
}

/** What a mover begins with. */
export interface MoverData {
  readonly job: JobMemory;
  readonly rank: number;
  readonly port: MessagePort;
  /** Set to 1 once the mover hears of new shared memory. */
  readonly ready: Int32Array;
}

/** What a rank tells its mover. */
export type ToMover =
  | { buffers: [number, SharedArrayBuffer][] }
  | { group: number; memory: SharedArrayBuffer; rank: number; members: readonly number[] }
  | { leave: number }
  | { id: number; on: number; order: Order; words: Int32Array };

/**
 * What a thread works with.
 * @param job - what the job gave it
 * @param rank - of the job
 * @param thread - number of the thread; see bells.ts
 * @param spins - how often it looks before it sleeps
 * @returns its surroundings
 */
export function surroundingsOf(
  job: JobMemory,
  rank: number,
  thread: number,
  spins: number = job.spins,
): Surroundings {
  return {
    ranks: job.ranks,
    bells: new Bells(job.bells, thread, spins),
    buffers: new Buffers(job.channel, rank),
    ends: new Ends(job.ends, job.ranks),
  };
}

/** The thread of a rank. */
export class RankThread {
  readonly surroundings: Surroundings;
  readonly mover: Mover;
  private readonly staging = new Staging();
  /** Groups that the mover knows, by number. */
  private readonly groups = new Set<number>();

  /**
   * @param job - what the job gave it
   * @param rank - of the job
   */
  constructor(
    readonly job: JobMemory,
    readonly rank: number,
  ) {
    this.surroundings = surroundingsOf(job, rank, rank);
    this.mover = new Mover(this.surroundings.bells, job.ranks + rank, () => this.startMover());
  }

  /**
   * Brings a call's arrays into shared memory where they are not.
   * @param call - a checked call
   * @param descriptor - filled with the call's signature and the places of its arrays
   * @param size - ranks of its group; 0 for a message
   * @param receives - whether `out` is filled: it is not on the root of a broadcast
   * @returns what is to be done at the end
   */
  lease(call: Call, descriptor: Float64Array, size: number, receives: boolean): Lease {
    const length = signatureLength(size);
    writeSignature(descriptor, call, size);
    const blocks: SharedArrayBuffer[] = [];
    const { buffers } = this.surroundings;
    const place = (array: CommArray, buffer: number, byte: number, filled: boolean): CommArray => {
      if (array.length === 0) return array;
      if (array.buffer instanceof SharedArrayBuffer) {
        descriptor[length + buffer] = buffers.idOf(array.buffer);
        descriptor[length + byte] = array.byteOffset;
        return array;
      }
      const block = this.staging.take(array.byteLength);
      blocks.push(block);
      descriptor[length + buffer] = buffers.idOf(block);
      descriptor[length + byte] = 0;
      const bytes = new Uint8Array(block, 0, array.byteLength);
      if (filled) bytes.set(bytesOf(array));
      return bytes;
    };
    place(call.x, located.xBuffer, located.xByte, call.operation !== 'broadcast' || !receives);
    // The array of a broadcast is both.
    let out = call.out;
    if (call.operation === 'broadcast') {
      descriptor.copyWithin(length + located.outBuffer, length + located.xBuffer, length + 2);
      if (blocks.length > 0) out = new Uint8Array(blocks[0], 0, call.out.byteLength);
    } else out = place(call.out, located.outBuffer, located.outByte, false);
    return {
      end: (well) => {
        if (well && receives && out !== call.out) bytesOf(call.out).set(out);
        for (const block of blocks) this.staging.give(block);
      },
    };
  }

  /**
   * Gives a call to the mover.
   * @param order - the call
   * @param on - number of its group
   * @param place - this rank's place in the group
   * @param lease - its arrays
   * @param signal - gives it up
   * @returns its handle
   */
  submit(
    order: Omit<Order, 'cancel'>,
    on: number,
    place: Place,
    lease: Lease,
    signal: AbortSignal | undefined,
  ): Handle {
    const { port } = this.mover.start();
    const { memory, rank, members } = place;
    if (!this.groups.has(on)) {
      this.groups.add(on);
      port.postMessage({ group: on, memory: memory.buffer, rank, members } satisfies ToMover);
    }
    return this.mover.submit(
      (id, words): ToMover => ({
        id,
        on,
        order: { ...order, cancel: words.subarray(callWord.cancel) },
        words,
      }),
      memory.record,
      lease,
      signal,
    );
  }

  /**
   * Leaves a group.
   * @param on - its number
   */
  leave(on: number): void {
    if (this.groups.delete(on)) this.mover.tell({ leave: on } satisfies ToMover);
  }

  /** Ends the mover and stops listening. */
  close(): void {
    this.mover.close();
    this.surroundings.buffers.close();
  }

  private startMover(): Running {
    const { port1: port, port2 } = new MessageChannel();
    const ready = new Int32Array(new SharedArrayBuffer(4));
    const { job, rank } = this;
    const data: MoverData = { job, rank, port: port2, ready };
    const worker = startWorker('mover', data, [port2]);
    Atomics.wait(ready, 0, 0, 30_000);
    if (Atomics.load(ready, 0) === 0)
      throw commError(
        'THREADS',
        'the thread that moves data of non-blocking calls did not start within 30 s',
        'see whether the machine still starts threads',
      );
    // From here on it hears of new memory itself; of what came before, this thread tells it.
    port.postMessage({ buffers: this.surroundings.buffers.all() } satisfies ToMover);
    return { port, worker };
  }
}
