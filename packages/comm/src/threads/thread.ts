// What the thread of a rank has beside its communicators: shared memory for arrays, and a mover for calls that it does not
// wait for.
import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads';

import { bytesOf, type CommArray } from '../arrays';
import type { Call } from '../calls';
import type { Handle } from '../communicator';
import { commError } from '../errors';
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

/** States of a call that a mover has. */
export const state = { underWay: 0, ended: 1, failed: 2 } as const;

/** Words of such a call: its state, whether somebody waits for a message about it, whether the rank gave it up. */
export const callWord = { state: 0, wanted: 1, cancel: 2, count: 3 } as const;

/** What a rank tells its mover. */
export type ToMover =
  | { buffers: [number, SharedArrayBuffer][] }
  | { group: number; memory: SharedArrayBuffer; rank: number; members: readonly number[] }
  | { leave: number }
  | { id: number; on: number; order: Order; words: Int32Array };

/** Arrays of a call in shared memory. */
export interface Lease {
  /** Brings the result to where it belongs, if the call went well, and gives memory back. */
  end(well: boolean): void;
}

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
  private readonly staging = new Staging();
  private readonly pending = new Map<number, PendingCall>();
  private mover: { port: MessagePort; worker: Worker; groups: Set<number> } | null = null;
  private nextId = 0;

  /**
   * @param job - what the job gave it
   * @param rank - of the job
   */
  constructor(
    readonly job: JobMemory,
    readonly rank: number,
  ) {
    this.surroundings = surroundingsOf(job, rank, rank);
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
    this.reap();
    this.mover ??= this.startMover();
    const { port, groups } = this.mover;
    if (!groups.has(on)) {
      const { memory, rank, members } = place;
      groups.add(on);
      port.postMessage({ group: on, memory: memory.buffer, rank, members } satisfies ToMover);
    }
    const words = new Int32Array(new SharedArrayBuffer(4 * callWord.count));
    const cancel = words.subarray(callWord.cancel);
    const id = this.nextId++;
    const call = new PendingCall(this, id, words, place, lease);
    this.pending.set(id, call);
    port.postMessage({ id, on, order: { ...order, cancel }, words } satisfies ToMover);
    this.surroundings.bells.wake(this.job.ranks + this.rank);
    if (signal) call.listen(signal);
    return call;
  }

  /** Wakes the mover. */
  wakeMover(): void {
    this.surroundings.bells.wake(this.job.ranks + this.rank);
  }

  /**
   * Forgets a call that has ended.
   * @param id - its number
   */
  drop(id: number): void {
    this.pending.delete(id);
  }

  /**
   * Says whether a message from the mover is waited for: the thread's event loop lives on as long as that.
   * @param count - calls that wait for one: 1 more or 1 less
   */
  expect(count: 1 | -1): void {
    this.expected += count;
    if (this.expected > 0) this.mover?.port.ref();
    else this.mover?.port.unref();
  }
  private expected = 0;

  /**
   * Leaves a group.
   * @param on - its number
   */
  leave(on: number): void {
    if (this.mover?.groups.delete(on)) this.mover.port.postMessage({ leave: on } satisfies ToMover);
  }

  /** Resolves when no call is under way any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.pending.values()].map((call) => call.done));
  }

  /** Ends the mover and stops listening. */
  close(): void {
    this.mover?.port.close();
    void this.mover?.worker.terminate();
    this.surroundings.buffers.close();
  }

  /** Calls that nobody asked about have ended as well. */
  private reap(): void {
    for (const call of this.pending.values()) call.look();
  }

  private startMover(): { port: MessagePort; worker: Worker; groups: Set<number> } {
    const { port1: port, port2 } = new MessageChannel();
    const ready = new Int32Array(new SharedArrayBuffer(4));
    const { job, rank } = this;
    const data: MoverData = { job, rank, port: port2, ready };
    const worker = startWorker('mover', data, [port2]);
    worker.unref();
    Atomics.wait(ready, 0, 0, 30_000);
    if (Atomics.load(ready, 0) === 0)
      throw commError(
        'THREADS',
        'the thread that moves data of non-blocking calls did not start within 30 s',
        'see whether the machine still starts threads',
      );
    // From here on it hears of new memory itself; of what came before, this thread tells it.
    port.postMessage({ buffers: this.surroundings.buffers.all() } satisfies ToMover);
    port.on('message', (id: number) => {
      this.pending.get(id)?.look();
    });
    port.unref();
    return { port, worker, groups: new Set() };
  }
}

/** A call that the mover has. */
class PendingCall implements Handle {
  private outcome: { error: Error | null } | null = null;
  private promise: Promise<void> | null = null;
  private resolve: (() => void) | null = null;
  private reject: ((error: Error) => void) | null = null;
  private stopListening: (() => void) | null = null;

  constructor(
    private readonly thread: RankThread,
    private readonly id: number,
    private readonly words: Int32Array,
    private readonly place: Place,
    private readonly lease: Lease,
  ) {}

  get done(): Promise<void> {
    if (this.promise) return this.promise;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    if (this.outcome) this.tell(this.outcome.error);
    else {
      this.thread.expect(1);
      // The mover writes the state and then looks whether a message is wanted: one of both sees the other.
      Atomics.store(this.words, callWord.wanted, 1);
      this.look();
    }
    return this.promise;
  }

  wait(): void {
    this.thread.surroundings.bells.wait(
      () => Atomics.load(this.words, callWord.state) !== state.underWay,
      () => Infinity,
      () => undefined,
    );
    const error = this.look()?.error;
    if (error) throw error;
  }

  /**
   * Gives the call up when a signal is raised.
   * @param signal - not raised yet
   */
  listen(signal: AbortSignal): void {
    const abort = (): void => {
      Atomics.store(this.words, callWord.cancel, 1);
      this.thread.wakeMover();
    };
    signal.addEventListener('abort', abort, { once: true });
    this.stopListening = () => {
      signal.removeEventListener('abort', abort);
    };
  }

  /** Takes note if the call has ended. */
  look(): { error: Error | null } | null {
    if (this.outcome) return this.outcome;
    const now = Atomics.load(this.words, callWord.state);
    if (now === state.underWay) return null;
    this.lease.end(now === state.ended);
    this.stopListening?.();
    this.thread.drop(this.id);
    const error = now === state.failed ? errorOf(this.place) : null;
    this.outcome = { error };
    if (this.promise) {
      this.thread.expect(-1);
      this.tell(error);
    }
    return this.outcome;
  }

  private tell(error: Error | null): void {
    if (error) this.reject?.(error);
    else this.resolve?.();
  }
}

/**
 * How a group failed, to throw.
 * @param place - in the group
 * @returns the error
 */
export function errorOf({ memory }: Place): Error {
  const { what, message, hint, ranks } = memory.failure() ?? {
    what: 'RANK_FAILED',
    message: 'a call failed',
    hint: 'look for what the ranks reported',
    ranks: [],
  };
  return commError(what, message, hint, { ranks });
}
