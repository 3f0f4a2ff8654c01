// The one class behind every communicator: it checks and counts calls, and hands them to a transport.
import type { CommArray } from './arrays';
import { bytesOfCall } from './call-bytes';
import { type Call, calls, checkOptions } from './calls';
import type {
  CallOptions,
  Communicator,
  ExchangeOptions,
  Handle,
  Operations,
  PieceOptions,
} from './communicator';
import { commError } from './errors';
import { type Counters, emptyTraffic } from './traffic';

/** What a transport does for one rank of one group. The calls it gets are checked. */
export interface Transport {
  readonly rank: number;
  readonly size: number;
  /** Carries a call out. */
  run(call: Call, options: CallOptions): void;
  /** Begins a call. */
  begin(call: Call, options: CallOptions): Handle;
  /** Cuts the group; see `Communicator.split`. */
  split(color: number, key: number, options: CallOptions): Transport | null;
  /** Ends this rank's part; called once. */
  close(): void;
}

/** The color of a rank that is in no group. */
export const noColor = -1;

const plain: CallOptions = {};

/** Time that a rank spent in calls, on all groups that were split off one. */
interface Clock {
  ms: number;
}

/** One rank's end of a group, over any transport. */
export class Group implements Communicator {
  readonly rank: number;
  readonly size: number;
  readonly start: Operations<Handle>;
  readonly traffic: Counters = emptyTraffic();
  private closed = false;

  /**
   * Makes the communicator of a transport.
   * @param transport - its end of the group
   * @param clock - that of the group it was split off
   */
  constructor(
    private readonly transport: Transport,
    private readonly clock: Clock = { ms: 0 },
  ) {
    this.rank = transport.rank;
    this.size = transport.size;
    this.start = starters(this, (call, options) => {
      this.prepare(call, options);
      const handle = during(this.clock, () => this.transport.begin(call, options));
      return timed(handle, this.clock);
    });
  }

  get spentMs(): number {
    return this.clock.ms;
  }

  send(x: CommArray, to: number, options: CallOptions = plain): void {
    this.run(calls.send(this, x, to), options);
  }

  recv(out: CommArray, from: number, options: CallOptions = plain): void {
    this.run(calls.recv(this, out, from), options);
  }

  broadcast(x: CommArray, root: number, options: CallOptions = plain): void {
    this.run(calls.broadcast(this, x, root), options);
  }

  allReduce(out: CommArray, x: CommArray, options: CallOptions = plain): void {
    this.run(calls.allReduce(this, out, x), options);
  }

  reduceScatter(out: CommArray, x: CommArray, options: PieceOptions = plain): void {
    this.run(calls.reduceScatter(this, out, x, options), options);
  }

  allGather(out: CommArray, x: CommArray, options: PieceOptions = plain): void {
    this.run(calls.allGather(this, out, x, options), options);
  }

  allToAll(out: CommArray, x: CommArray, options: ExchangeOptions = plain): void {
    this.run(calls.allToAll(this, out, x, options), options);
  }

  barrier(options: CallOptions = plain): void {
    this.run(calls.barrier(), options);
  }

  split(color: number | null, key = 0, options: CallOptions = plain): Communicator | null {
    this.checkOpen('split');
    checkOptions('split', options);
    const limit = 2 ** 31;
    const fits = (value: number): boolean => Number.isInteger(value) && Math.abs(value) < limit;
    if (color !== null && (!fits(color) || color < 0))
      throw commError(
        'OPTIONS',
        `split: color (${color}) is not a whole number from 0`,
        'give a number below 2^31, or null',
        { path: 'color' },
      );
    if (!fits(key))
      throw commError(
        'OPTIONS',
        `split: key (${key}) is not a whole number`,
        'give a number of 32 bits',
        { path: 'key' },
      );
    const transport = during(this.clock, () =>
      this.transport.split(color ?? noColor, key, options),
    );
    return transport && new Group(transport, this.clock);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.transport.close();
  }

  private run(call: Call, options: CallOptions): void {
    this.prepare(call, options);
    during(this.clock, () => {
      this.transport.run(call, options);
    });
  }

  private prepare(call: Call, options: CallOptions): void {
    this.checkOpen(call.operation);
    checkOptions(call.operation, options);
    const [sent, received] = bytesOfCall(call, this.rank, this.size);
    const counter = this.traffic[call.operation];
    counter.calls += 1;
    counter.sentBytes += sent;
    counter.receivedBytes += received;
  }

  private checkOpen(what: string): void {
    if (this.closed)
      throw commError(
        'CLOSED',
        `${what}: rank ${this.rank} has closed this communicator`,
        'close it after the last call',
      );
  }
}

/** Adds the time that a piece of work takes. */
function during<T>(clock: Clock, work: () => T): T {
  const begin = performance.now();
  try {
    return work();
  } finally {
    clock.ms += performance.now() - begin;
  }
}

/** A handle whose `wait` is counted. */
function timed(handle: Handle, clock: Clock): Handle {
  return {
    get done() {
      return handle.done;
    },
    wait: () => {
      during(clock, () => {
        handle.wait();
      });
    },
  };
}

/** The operations as calls that begin. */
function starters(
  caller: Group,
  begin: (call: Call, options: CallOptions) => Handle,
): Operations<Handle> {
  return {
    send: (x, to, options = plain) => begin(calls.send(caller, x, to), options),
    recv: (out, from, options = plain) => begin(calls.recv(caller, out, from), options),
    broadcast: (x, root, options = plain) => begin(calls.broadcast(caller, x, root), options),
    allReduce: (out, x, options = plain) => begin(calls.allReduce(caller, out, x), options),
    reduceScatter: (out, x, options = plain) =>
      begin(calls.reduceScatter(caller, out, x, options), options),
    allGather: (out, x, options = plain) =>
      begin(calls.allGather(caller, out, x, options), options),
    allToAll: (out, x, options = plain) => begin(calls.allToAll(caller, out, x, options), options),
    barrier: (options = plain) => begin(calls.barrier(), options),
  };
}
