// Work in several calls, one after the other: begun at once, and taken on by whoever waits for it.
import type { Handle } from '../communicator';

/** An exchange under way. Its arrays must not be touched until it has ended. */
export interface ExchangeHandle<T> {
  /** Resolves when the exchange has ended, rejects with what it would have thrown. */
  readonly done: Promise<void>;
  /**
   * Blocks this thread until then.
   * @returns what arrived
   * @throws what the exchange would have thrown
   */
  wait(): T;
}

/** Steps between which a call is waited for. */
export class Progress<T> implements ExchangeHandle<T> {
  private pending: Handle | null = null;
  private result: { value: T } | null = null;

  /**
   * Runs them up to the first call.
   * @param steps - yields the call to wait for before it goes on
   */
  constructor(private readonly steps: Generator<Handle, T, void>) {
    this.goOn(null);
  }

  get done(): Promise<void> {
    return this.run();
  }

  wait(): T {
    while (this.pending) {
      const call = this.pending;
      call.wait();
      this.goOn(call);
    }
    return (this.result as { value: T }).value;
  }

  private async run(): Promise<void> {
    while (this.pending) {
      const call = this.pending;
      await call.done;
      this.goOn(call);
    }
  }

  /** Takes the steps on from a call that has ended, unless another who waits for it has done so. */
  private goOn(from: Handle | null): void {
    if (this.pending !== from) return;
    const step = this.steps.next();
    if (step.done) this.result = { value: step.value };
    this.pending = step.done ? null : step.value;
  }
}
