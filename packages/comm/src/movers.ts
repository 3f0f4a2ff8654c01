// Calls that a rank does not wait for, as its own thread sees them: a thread beside it, the mover, carries them out, says in
// shared words when they have ended, and sends a message about it where somebody waits for a promise.
import type { MessagePort, Worker } from 'node:worker_threads';

import type { Handle } from './communicator';
import type { FailureRecord } from './failure';
import type { Bells } from './threads/bells';

/** States of a call that a mover has. */
export const state = { underWay: 0, ended: 1, failed: 2 } as const;

/** Words of such a call: its state, whether somebody waits for a message about it, whether the rank gave it up. */
export const callWord = { state: 0, wanted: 1, cancel: 2, count: 3 } as const;

/** What is done when a call has ended. */
export interface Lease {
  /** Brings the result to where it belongs, if the call went well, and gives memory back. */
  end(well: boolean): void;
}

/** A mover that runs. */
export interface Running {
  readonly port: MessagePort;
  readonly worker: Worker;
}

/** A rank's mover, which starts with the first call. */
export class Mover {
  private readonly pending = new Map<number, PendingCall>();
  private running: Running | null = null;
  private nextId = 0;
  private expected = 0;

  /**
   * @param bells - of the rank's thread
   * @param thread - number of the mover's thread
   * @param begin - starts it
   */
  constructor(
    readonly bells: Bells,
    private readonly thread: number,
    private readonly begin: () => Running,
  ) {}

  /**
   * Tells the mover something, if it runs.
   * @param message - for its port
   */
  tell(message: unknown): void {
    this.running?.port.postMessage(message);
    this.wake();
  }

  /**
   * Gives a call to the mover.
   * @param call - makes the message of the call's number and words
   * @param record - how its group failed
   * @param lease - what is to be done at its end
   * @param signal - gives it up
   * @returns its handle
   */
  submit(
    call: (id: number, words: Int32Array) => unknown,
    record: FailureRecord,
    lease: Lease,
    signal: AbortSignal | undefined,
  ): Handle {
    // Calls that nobody asked about have ended as well.
    for (const other of this.pending.values()) other.look();
    const { port } = this.start();
    const words = new Int32Array(new SharedArrayBuffer(4 * callWord.count));
    const id = this.nextId++;
    const handle = new PendingCall(this, id, words, record, lease);
    this.pending.set(id, handle);
    port.postMessage(call(id, words));
    this.wake();
    if (signal) handle.listen(signal);
    return handle;
  }

  /** Starts it, unless it runs. */
  start(): Running {
    if (this.running) return this.running;
    this.running = this.begin();
    this.running.worker.unref();
    this.running.port.on('message', (ended: number) => {
      this.pending.get(ended)?.look();
    });
    this.running.port.unref();
    return this.running;
  }

  /** Whether it was started. */
  get started(): boolean {
    return this.running !== null;
  }

  /** Wakes it. */
  wake(): void {
    if (this.running) this.bells.wake(this.thread);
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
    if (this.expected > 0) this.running?.port.ref();
    else this.running?.port.unref();
  }

  /** Resolves when no call is under way any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.pending.values()].map((call) => call.done));
  }

  /** Ends it. */
  close(): void {
    this.running?.port.close();
    void this.running?.worker.terminate();
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
    private readonly mover: Mover,
    private readonly id: number,
    private readonly words: Int32Array,
    private readonly record: FailureRecord,
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
      this.mover.expect(1);
      // The mover writes the state and then looks whether a message is wanted: one of both sees the other.
      Atomics.store(this.words, callWord.wanted, 1);
      this.look();
    }
    return this.promise;
  }

  wait(): void {
    this.mover.bells.wait(
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
      this.mover.wake();
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
    this.mover.drop(this.id);
    const error = now === state.failed ? this.record.error() : null;
    this.outcome = { error };
    if (this.promise) {
      this.mover.expect(-1);
      this.tell(error);
    }
    return this.outcome;
  }

  private tell(error: Error | null): void {
    if (error) this.reject?.(error);
    else this.resolve?.();
  }
}
