// What one rank does in a benchmark of communicators: every operation at every size, in turn with copies.
import { loadKernels, viewOf } from '@baleen/kernels';

import type { Communicator } from './communicator';
import { goesPast } from './copy';

/** How to measure. */
export interface RankOptions {
  /** Sizes of what each rank has before or after the operation, bytes. */
  bytes: readonly number[];
  /** Seconds that a case is repeated for. */
  seconds: number;
}

/** One operation at one size. */
export interface RankCase {
  /** Which; `message` is one way of a message between ranks 0 and 1, `copy` no communication at all. */
  operation: BenchOperation;
  /** Bytes of the larger of each rank's arrays. */
  bytes: number;
  /** Median microseconds of a call. */
  us: number;
  /** Microseconds of a call in the best half millisecond: what it takes while nothing else runs. */
  bestUs: number;
  /** The same of a copy of so many bytes, at once by the ranks that move data, measured in turn with the operation. */
  bestCopyUs: number;
}

/** What is measured. */
export type BenchOperation =
  | 'copy'
  | 'barrier'
  | 'message'
  | 'broadcast'
  | 'allReduce'
  | 'reduceScatter'
  | 'allGather'
  | 'allToAll';

const collectives = ['broadcast', 'allReduce', 'reduceScatter', 'allGather', 'allToAll'] as const;

/** Microseconds that are measured at once, so that reading the clock costs nothing. */
const batchUs = 500;

function shared(bytes: number): Float32Array {
  // Touched, so that the first call does not wait for pages.
  return new Float32Array(new SharedArrayBuffer(bytes)).fill(1);
}

/** The calls of one operation. */
function callOf(communicator: Communicator, operation: BenchOperation, bytes: number): () => void {
  const { rank, size } = communicator;
  const [x, out] = [shared(bytes), shared(bytes)];
  const part = x.length / size;
  switch (operation) {
    case 'copy': {
      // The kernel that all transports copy with, in one piece.
      const kernels = loadKernels();
      const [to, from] = [viewOf(out), viewOf(x)];
      const sizes = { past: goesPast(bytes) };
      return () => {
        kernels.copy(to, from, sizes);
      };
    }
    case 'barrier':
      return () => {
        communicator.barrier();
      };
    case 'message':
      return () => {
        if (rank === 0) communicator.send(x, 1);
        else if (rank === 1) communicator.recv(out, 0);
        if (rank === 0) communicator.recv(out, 1);
        else if (rank === 1) communicator.send(x, 0);
      };
    case 'broadcast':
      return () => {
        communicator.broadcast(x, 0);
      };
    case 'reduceScatter':
      return () => {
        communicator.reduceScatter(out.subarray(0, part), x);
      };
    case 'allGather':
      return () => {
        communicator.allGather(out, x.subarray(0, part));
      };
    default:
      return () => {
        communicator[operation](out, x);
      };
  }
}

/** Whether a rank reads and writes in an operation: who receives a message or a broadcast does. */
function movesData(operation: BenchOperation, rank: number): boolean {
  if (operation === 'message') return rank === 1;
  return operation !== 'broadcast' || rank !== 0;
}

/** Times of calls, µs, the shortest first, measured in turn: machines drift. Collective. */
function timesOf(
  communicator: Communicator,
  calls: readonly (() => void)[],
  seconds: number,
): number[][] {
  const timed = (call: () => void, count: number): number => {
    communicator.barrier();
    const start = performance.now();
    for (let i = 0; i < count; i += 1) call();
    // Until the last rank has ended.
    communicator.barrier();
    return (1000 * (performance.now() - start)) / count;
  };
  // Every rank must make as many calls: rank 0 decides.
  const counts = new Int32Array(calls.length + 1);
  let round = 0;
  calls.forEach((call, i) => {
    timed(call, 2);
    const once = Math.max(0.1, timed(call, 3));
    counts[i] = Math.min(2000, Math.max(1, Math.ceil(batchUs / once)));
    round += counts[i] * once;
  });
  counts[calls.length] = Math.min(200, Math.max(5, Math.ceil((seconds * 1e6) / round)));
  communicator.broadcast(counts, 0);
  const samples = counts[calls.length];
  const own = calls.map(() => new Float64Array(samples));
  for (let i = 0; i < samples; i += 1)
    calls.forEach((call, which) => {
      own[which][i] = timed(call, counts[which]);
    });
  // As seen by the rank that saw it begin first: others may have been late.
  return own.map((times) => {
    const all = new Float64Array(samples * communicator.size);
    communicator.allGather(all, times);
    return Array.from(times, (_, i) => {
      const seen = Array.from({ length: communicator.size }, (_, rank) => all[rank * samples + i]);
      return Math.max(...seen);
    }).sort((a, b) => a - b);
  });
}

/**
 * Measures every operation.
 * @param communicator - this rank's end
 * @param options - see {@link RankOptions}
 * @returns times as this rank saw them
 */
export default function measure(communicator: Communicator, options: RankOptions): RankCase[] {
  const { size } = communicator;
  const whole = (bytes: number): number => Math.ceil(bytes / (4 * size)) * 4 * size;
  const cases: RankCase[] = [];
  const add = (operation: BenchOperation, bytes: number, ways = 1): void => {
    const copy = callOf(communicator, 'copy', bytes);
    const calls = [
      callOf(communicator, operation, bytes),
      movesData(operation, communicator.rank) ? copy : () => undefined,
    ];
    const [times, copies] = timesOf(communicator, calls, options.seconds);
    const us = times[times.length >> 1] / ways;
    cases.push({ operation, bytes, us, bestUs: times[0] / ways, bestCopyUs: copies[0] });
  };
  add('barrier', 0);
  for (const bytes of options.bytes.map(whole)) {
    add('copy', bytes);
    if (size > 1) add('message', bytes, 2);
    for (const operation of collectives) add(operation, bytes);
  }
  return cases;
}
