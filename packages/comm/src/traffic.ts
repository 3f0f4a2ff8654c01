// Byte counters: what each operation was called for, and what had to travel for it whatever the transport.
/** The operations by name. */
export type Operation =
  | 'send'
  | 'recv'
  | 'broadcast'
  | 'allReduce'
  | 'reduceScatter'
  | 'allGather'
  | 'allToAll'
  | 'barrier';

/** What one operation was used for. */
export interface OperationTraffic {
  /** Calls. */
  calls: number;
  /** Bytes of this rank that other ranks received. */
  sentBytes: number;
  /** Bytes of other ranks that this rank received. */
  receivedBytes: number;
}

/**
 * Counters by operation. Bytes are the payload that a rank cannot do without: its own pieces do not count; of an
 * `allReduce` the sums of 1/n of the elements go out and those of the others come in, besides the summands.
 */
export type Traffic = Readonly<Record<Operation, Readonly<OperationTraffic>>>;

/** Counters that can be written. */
export type Counters = Record<Operation, OperationTraffic>;

/**
 * Counters at zero.
 * @returns one of each operation
 */
export function emptyTraffic(): Counters {
  const zero = (): OperationTraffic => ({ calls: 0, sentBytes: 0, receivedBytes: 0 });
  return {
    send: zero(),
    recv: zero(),
    broadcast: zero(),
    allReduce: zero(),
    reduceScatter: zero(),
    allGather: zero(),
    allToAll: zero(),
    barrier: zero(),
  };
}
