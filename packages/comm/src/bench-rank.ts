// What one rank does in a benchmark of communicators: every operation at every size, and a copy by all ranks at once.
import type { Communicator } from './communicator';

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
    case 'copy':
      return () => {
        out.set(x);
      };
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

/** Times of a call, µs, the shortest first; collective. */
function timesOf(communicator: Communicator, call: () => void, seconds: number): number[] {
  const timed = (calls: number): number => {
    communicator.barrier();
    const start = performance.now();
    for (let i = 0; i < calls; i += 1) call();
    return (1000 * (performance.now() - start)) / calls;
  };
  timed(2);
  // Every rank must make as many calls: rank 0 decides.
  const counts = new Int32Array(2);
  const once = Math.max(0.1, timed(3));
  counts[0] = Math.min(2000, Math.max(1, Math.ceil(batchUs / once)));
  counts[1] = Math.min(200, Math.max(5, Math.ceil((seconds * 1e6) / (counts[0] * once))));
  communicator.broadcast(counts, 0);
  return Array.from({ length: counts[1] }, () => timed(counts[0])).sort((a, b) => a - b);
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
    const call = callOf(communicator, operation, bytes);
    const times = timesOf(communicator, call, options.seconds).map((us) => us / ways);
    cases.push({ operation, bytes, us: times[times.length >> 1], bestUs: times[0] });
  };
  add('barrier', 0);
  for (const bytes of options.bytes.map(whole)) {
    add('copy', bytes);
    if (size > 1) add('message', bytes, 2);
    for (const operation of collectives) add(operation, bytes);
  }
  return cases;
}
