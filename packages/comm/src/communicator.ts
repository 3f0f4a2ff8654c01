// The communicator: what a rank can say to the others. Threads, MPI and a single rank implement it, and nothing above this
// package knows which of them it has.
//
// Legend: n ranks; a *piece* is the part of an array that goes to, or comes from, one rank. Pieces lie one after another in
// the order of ranks.
import type { CommArray } from './arrays';
import type { Traffic } from './traffic';

/** What every call can be told. */
export interface CallOptions {
  /** Milliseconds until the call gives up and names the ranks it waited for (default: that of the communicator). */
  deadlineMs?: number;
  /**
   * Gives the call up. It is then given up on every rank, for the others wait for this one. A blocking call looks at it
   * only before it begins: while it blocks, nothing could raise it.
   */
  signal?: AbortSignal;
  /**
   * Milliseconds from the call until what this rank has to send leaves it (default 0), without using a processor:
   * how a slow link is emulated.
   */
  delayMs?: number;
}

/** Options of {@link Operations.allGather} and {@link Operations.reduceScatter}. */
export interface PieceOptions extends CallOptions {
  /** Elements of each rank's piece [n], the same on every rank (default: equal pieces). */
  counts?: ArrayLike<number>;
}

/** Options of {@link Operations.allToAll}. */
export interface ExchangeOptions extends CallOptions {
  /** Elements for each rank [n] (default: equal pieces). */
  sendCounts?: ArrayLike<number>;
  /** Elements from each rank [n]: what that rank has in `sendCounts` for this one (default: equal pieces). */
  recvCounts?: ArrayLike<number>;
}

/**
 * What ranks do together. All but `send` and `recv` are collective: every rank of the communicator makes the same calls
 * in the same order. A call that does not match those of the others throws on every rank, and so does one that waits for
 * a rank which is no more: nothing hangs. A communicator on which a call failed is of no use any more, since the ranks
 * no longer agree on what came through; it throws the same error from then on.
 *
 * Sums are taken in the order of ranks, ((x₀ + x₁) + x₂) + …, each addition rounded, whatever arrives first and
 * however the work is split: the same bits on every rank, every transport and every run. BF16 is added in FP32 and
 * rounded once, to nearest even; 32-bit integers wrap; bytes have no sum.
 *
 * What arrays hold after a failed call is undefined, and others may still write to its output.
 *
 * Memory: `out` may be `x` in `allReduce`, and where one of both holds the pieces of all ranks, the other may be this
 * rank's piece of it. Otherwise they may not overlap.
 *
 * Every call throws, with `ranks` where others are to blame, and with `jobRanks`, the same ranks as the job counts them:
 * - ERR_BALEEN_COMM_RANK, _TYPE, _SIZES, _OVERLAP, _OPTIONS: an argument is wrong. Nothing was sent, and the communicator
 *   can be used on.
 * - ERR_BALEEN_COMM_MISMATCH: ranks called different operations, or the same with other types, sizes or roots.
 * - ERR_BALEEN_COMM_RANK_FAILED: a rank threw, died or closed its communicator.
 * - ERR_BALEEN_COMM_DEADLINE: ranks did not come in time.
 * - ERR_BALEEN_COMM_ABORTED: a rank gave the call up.
 * - ERR_BALEEN_COMM_CLOSED: this rank closed the communicator before.
 *
 * @typeParam Result - nothing where calls block, {@link Handle} where they do not
 */
export interface Operations<Result> {
  /**
   * Sends elements to a rank, which receives as many. Messages between two ranks arrive in the order of their calls.
   * It ends when the other has received: a send never rests on memory in between.
   * @param x - what to send
   * @param to - the other rank
   * @param options - see {@link CallOptions}
   */
  send(x: CommArray, to: number, options?: CallOptions): Result;
  /**
   * Receives elements from a rank.
   * @param out - filled; as many as were sent, of the same type
   * @param from - the other rank
   * @param options - see {@link CallOptions}
   */
  recv(out: CommArray, from: number, options?: CallOptions): Result;
  /**
   * Gives every rank what one has.
   * @param x - read on the root, filled elsewhere; the same size everywhere
   * @param root - the rank that has it
   * @param options - see {@link CallOptions}
   */
  broadcast(x: CommArray, root: number, options?: CallOptions): Result;
  /**
   * Adds the arrays of all ranks, element by element, and gives every rank the sum.
   * @param out - the sum, as many elements as `x`; may be `x`
   * @param x - this rank's summand
   * @param options - see {@link CallOptions}
   */
  allReduce(out: CommArray, x: CommArray, options?: CallOptions): Result;
  /**
   * Adds the arrays of all ranks and gives each rank its piece of the sum.
   * @param out - this rank's piece
   * @param x - this rank's summand: the pieces of all ranks
   * @param options - sizes of the pieces, where they differ
   */
  reduceScatter(out: CommArray, x: CommArray, options?: PieceOptions): Result;
  /**
   * Gives every rank the pieces of all.
   * @param out - the pieces of all ranks
   * @param x - this rank's piece
   * @param options - sizes of the pieces, where they differ
   */
  allGather(out: CommArray, x: CommArray, options?: PieceOptions): Result;
  /**
   * Gives every rank a piece of its own from every other.
   * @param out - the pieces from each rank
   * @param x - the pieces for each rank
   * @param options - sizes of the pieces, where they differ; zero is a size
   */
  allToAll(out: CommArray, x: CommArray, options?: ExchangeOptions): Result;
  /**
   * Waits until every rank has called it.
   * @param options - see {@link CallOptions}
   */
  barrier(options?: CallOptions): Result;
}

/** A call under way. Its arrays must not be touched until it has ended. */
export interface Handle {
  /** Resolves when the call has ended, rejects with what it would have thrown. */
  readonly done: Promise<void>;
  /**
   * Blocks this thread until the call has ended. In the main thread of a browser nothing may block: `done` does not.
   * @throws what the call would have thrown
   */
  wait(): void;
}

/** A rank's end of a group of ranks that exchange data. Calls block until they have ended; those of `start` do not. */
export interface Communicator extends Operations<void> {
  /** This rank, from 0. */
  readonly rank: number;
  /** Ranks in the group. */
  readonly size: number;
  /**
   * The same calls without waiting. They progress beside whatever JavaScript does, long kernels included. Blocking and
   * non-blocking calls are one sequence: an `allReduce` on one rank meets `start.allReduce` on another.
   */
  readonly start: Operations<Handle>;
  /** What this rank has called here, and the bytes that went over the transport for it. */
  readonly traffic: Traffic;
  /**
   * Milliseconds that this rank's thread has spent in blocking calls and in waiting for others, here and on all groups that were
   * split off one another. What is left of a span of time it computed.
   */
  readonly spentMs: number;
  /**
   * Cuts the group into groups. Collective, and blocks.
   * @param color - ranks that give the same whole number from 0 form a group; null: this rank is in none
   * @param key - ranks of a group are numbered by it, ties by their rank here (default 0)
   * @param options - see {@link CallOptions}
   * @returns this rank's end of its group, or null
   */
  split(color: number | null, key?: number, options?: CallOptions): Communicator | null;
  /**
   * Ends this rank's part. Calls that others make on the group from then on fail and name this rank, and groups that were
   * split off live on. Closing twice does nothing.
   */
  close(): void;
}
