// From the arguments of a call to what a transport carries out: everything that one rank can check alone is checked here.
import { type CommArray, type ElementType, elementTypeOf, overlap } from './arrays';
import type { CallOptions, ExchangeOptions, PieceOptions } from './communicator';
import { commError } from './errors';
import type { Operation } from './traffic';

/** A checked call. */
export interface Call {
  readonly operation: Operation;
  /** Type of all elements; bytes where there are none. */
  readonly type: ElementType;
  /** What this rank gives; of length 0 where it gives nothing. The array of a broadcast is both. */
  readonly x: CommArray;
  /** What this rank gets; of length 0 where it gets nothing. */
  readonly out: CommArray;
  /** The other rank of a message, the root of a broadcast, else −1. */
  readonly peer: number;
  /** Where the piece for each rank begins in `x`, and at [n] where the last ends; empty where `x` is not in pieces. */
  readonly sendOffsets: readonly number[];
  /** The same for pieces from each rank in `out`. */
  readonly recvOffsets: readonly number[];
}

const nothing = new Uint8Array(0);
const noOffsets: readonly number[] = [];

/** Who calls. */
export interface Caller {
  readonly rank: number;
  readonly size: number;
}

function refuse(what: string, path: string, message: string, hint: string): never {
  throw commError(what, message, hint, { path });
}

function typeOf(operation: Operation, path: string, array: CommArray): ElementType {
  const type = elementTypeOf(array);
  if (type !== null) return type;
  const name = Object.prototype.toString.call(array).slice(8, -1);
  return refuse(
    'TYPE',
    path,
    `${operation}: ${path} is of type ${name}, which does not travel`,
    'give a Float32Array, Float64Array, Int32Array, Uint16Array (BF16) or Uint8Array',
  );
}

function checkRank(operation: Operation, path: string, rank: number, { size }: Caller): void {
  if (!Number.isInteger(rank) || rank < 0 || rank >= size)
    refuse(
      'RANK',
      path,
      `${operation}: ${path} (${rank}) is not a rank of ${size}`,
      `ranks count from 0 to ${size - 1}`,
    );
}

/**
 * Checks the options of a call.
 * @param operation - what is called
 * @param options - its options
 * @throws ERR_BALEEN_COMM_OPTIONS
 */
export function checkOptions(operation: Operation | 'split', options: CallOptions): void {
  for (const path of ['deadlineMs', 'delayMs'] as const) {
    const value = options[path];
    if (value !== undefined && !(value >= 0))
      refuse(
        'OPTIONS',
        path,
        `${operation}: ${path} (${value}) is not a number from 0`,
        'give milliseconds',
      );
  }
}

/** Offsets of n equal pieces. */
function evenOffsets(piece: number, size: number): number[] {
  return Array.from({ length: size + 1 }, (_, rank) => rank * piece);
}

/** Offsets of pieces of the sizes given, which must make up an array. */
function offsetsOf(
  operation: Operation,
  path: string,
  counts: ArrayLike<number>,
  { size }: Caller,
  elements: number,
): number[] {
  if (counts.length !== size)
    refuse(
      'SIZES',
      path,
      `${operation}: ${path} has ${counts.length} entries for ${size} ranks`,
      'give one for each rank',
    );
  const offsets = [0];
  for (let rank = 0; rank < size; rank += 1) {
    const count = counts[rank];
    if (!Number.isSafeInteger(count) || count < 0)
      refuse(
        'SIZES',
        `${path}[${rank}]`,
        `${operation}: ${path}[${rank}] (${count}) is not a whole number from 0`,
        'count elements',
      );
    offsets.push(offsets[rank] + count);
  }
  if (offsets[size] !== elements)
    refuse(
      'SIZES',
      path,
      `${operation}: ${path} add up to ${offsets[size]}, the array has ${elements} elements`,
      'give an array of just that size, a subarray say',
    );
  return offsets;
}

function checkLength(operation: Operation, path: string, found: number, expected: number): void {
  if (found !== expected)
    refuse(
      'SIZES',
      path,
      `${operation}: ${path} has ${found} elements, expected ${expected}`,
      'give an array of just that size, a subarray say',
    );
}

/** The type of two arrays, which must be the same. */
function commonType(operation: Operation, out: CommArray, x: CommArray): ElementType {
  const [type, other] = [typeOf(operation, 'x', x), typeOf(operation, 'out', out)];
  if (type !== other)
    refuse('TYPE', 'out', `${operation}: out is ${other}, x is ${type}`, 'give both the same type');
  return type;
}

function checkSum(operation: Operation, type: ElementType): void {
  if (type === 'u8')
    refuse(
      'TYPE',
      'x',
      `${operation}: x is u8, and bytes have no sum`,
      'decode to FP32 first, or give 32-bit integers',
    );
}

/** Refuses overlapping memory, but for a piece that lies where it belongs. */
function checkApart(
  operation: Operation,
  whole: CommArray,
  piece: CommArray,
  offset: number,
): void {
  if (!overlap(whole, piece)) return;
  if (piece.byteOffset - whole.byteOffset === offset * whole.BYTES_PER_ELEMENT) return;
  refuse(
    'OVERLAP',
    'out',
    `${operation}: out and x share memory`,
    'give arrays that lie apart, or this rank’s own piece',
  );
}

/** Makes calls of arguments; each throws what is wrong with them. */
export const calls = {
  /** See `Operations.send`. */
  send(caller: Caller, x: CommArray, to: number): Call {
    const type = typeOf('send', 'x', x);
    checkRank('send', 'to', to, caller);
    if (to === caller.rank) notToItself('send', 'to', to);
    return { ...empty('send', type), x, peer: to };
  },
  /** See `Operations.recv`. */
  recv(caller: Caller, out: CommArray, from: number): Call {
    const type = typeOf('recv', 'out', out);
    checkRank('recv', 'from', from, caller);
    if (from === caller.rank) notToItself('recv', 'from', from);
    return { ...empty('recv', type), out, peer: from };
  },
  /** See `Operations.broadcast`. */
  broadcast(caller: Caller, x: CommArray, root: number): Call {
    const type = typeOf('broadcast', 'x', x);
    checkRank('broadcast', 'root', root, caller);
    return { ...empty('broadcast', type), x, out: x, peer: root };
  },
  /** See `Operations.allReduce`. */
  allReduce(_caller: Caller, out: CommArray, x: CommArray): Call {
    const type = commonType('allReduce', out, x);
    checkSum('allReduce', type);
    checkLength('allReduce', 'out', out.length, x.length);
    checkApart('allReduce', x, out, 0);
    return { ...empty('allReduce', type), x, out };
  },
  /** See `Operations.reduceScatter`. */
  reduceScatter(caller: Caller, out: CommArray, x: CommArray, options: PieceOptions): Call {
    const operation = 'reduceScatter';
    const type = commonType(operation, out, x);
    checkSum(operation, type);
    if (!options.counts) checkLength(operation, 'x', x.length, out.length * caller.size);
    const sendOffsets = options.counts
      ? offsetsOf(operation, 'counts', options.counts, caller, x.length)
      : evenOffsets(out.length, caller.size);
    checkLength(operation, 'out', out.length, pieceOf(sendOffsets, caller.rank));
    checkApart(operation, x, out, sendOffsets[caller.rank]);
    return { ...empty(operation, type), x, out, sendOffsets };
  },
  /** See `Operations.allGather`. */
  allGather(caller: Caller, out: CommArray, x: CommArray, options: PieceOptions): Call {
    const operation = 'allGather';
    const type = commonType(operation, out, x);
    if (!options.counts) checkLength(operation, 'out', out.length, x.length * caller.size);
    const recvOffsets = options.counts
      ? offsetsOf(operation, 'counts', options.counts, caller, out.length)
      : evenOffsets(x.length, caller.size);
    checkLength(operation, 'x', x.length, pieceOf(recvOffsets, caller.rank));
    checkApart(operation, out, x, recvOffsets[caller.rank]);
    return { ...empty(operation, type), x, out, recvOffsets };
  },
  /** See `Operations.allToAll`. */
  allToAll(caller: Caller, out: CommArray, x: CommArray, options: ExchangeOptions): Call {
    const operation = 'allToAll';
    const type = commonType(operation, out, x);
    const offsets = (path: 'sendCounts' | 'recvCounts', array: CommArray): number[] => {
      const counts = options[path];
      if (counts) return offsetsOf(operation, path, counts, caller, array.length);
      if (array.length % caller.size !== 0)
        refuse(
          'SIZES',
          path,
          `${operation}: ${array.length} elements are not ${caller.size} equal pieces`,
          `give ${path}`,
        );
      return evenOffsets(array.length / caller.size, caller.size);
    };
    const [sendOffsets, recvOffsets] = [offsets('sendCounts', x), offsets('recvCounts', out)];
    const [sent, received] = [sendOffsets, recvOffsets].map((o) => pieceOf(o, caller.rank));
    if (sent !== received)
      refuse(
        'SIZES',
        'recvCounts',
        `${operation}: rank ${caller.rank} sends ${sent} elements to itself and expects ${received}`,
        'recvCounts are what each rank has in sendCounts for this one',
      );
    if (overlap(out, x)) checkApart(operation, out, x, NaN);
    return { ...empty(operation, type), x, out, sendOffsets, recvOffsets };
  },
  /** See `Operations.barrier`. */
  barrier(): Call {
    return empty('barrier', 'u8');
  },
};

function empty(operation: Operation, type: ElementType): Call {
  return {
    operation,
    type,
    x: nothing,
    out: nothing,
    peer: -1,
    sendOffsets: noOffsets,
    recvOffsets: noOffsets,
  };
}

function notToItself(operation: Operation, path: string, rank: number): never {
  return refuse(
    'RANK',
    path,
    `${operation}: ${path} (${rank}) is this rank itself`,
    'copy within a rank without a communicator',
  );
}

/**
 * The size of a piece.
 * @param offsets - where pieces begin
 * @param rank - whose it is
 * @returns elements
 */
export function pieceOf(offsets: readonly number[], rank: number): number {
  return offsets[rank + 1] - offsets[rank];
}
