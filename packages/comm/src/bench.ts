// The door of @baleen/comm/bench: every operation on threads and under MPI, beside a copy by all ranks at once.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { BenchOperation, RankCase, RankOptions } from './bench-rank';
import { commError } from './errors';
import { threads } from './threads';

export type { BenchOperation } from './bench-rank';

/** What carries the data. */
export type BenchTransport = 'threads' | 'mpi';

/** One operation at one size. */
export interface CommCase {
  /** What carried the data. */
  transport: BenchTransport;
  /** Which operation; `message` is one way of a message, `copy` no communication at all. */
  operation: BenchOperation;
  /** Bytes of the larger of each rank's arrays. */
  bytes: number;
  /** Median microseconds of a call. */
  us: number;
  /** Microseconds of a call in the best half millisecond: what it takes while nothing else runs. */
  bestUs: number;
  /** Bytes over the best time, GB/s; null of a barrier. */
  gbps: number | null;
  /**
   * What memory allows: the best time in which the ranks that move data (one of a message, all but the root of a broadcast)
   * copy, at once and by the kernel, as many bytes as they must read and write, over the best time of the operation,
   * measured in turn; null of a barrier.
   */
  ofCopy: number | null;
}

/** The line of `bench comm --json`. */
export interface CommBenchmark {
  /** Ranks. */
  ranks: number;
  /** Results, in the order measured. */
  cases: CommCase[];
  /** Why transports were left out, by name. */
  missing: Partial<Record<BenchTransport, string>>;
}

/** How to measure. */
export interface CommBenchmarkOptions {
  /** Ranks (default 2). */
  ranks?: number;
  /** What is measured (default: both, MPI where there is one). */
  transports?: readonly BenchTransport[];
  /** Bytes of each rank's arrays (default 8, 64 KiB, 16 MiB). */
  bytes?: readonly number[];
  /** Seconds a case is repeated for (default 0.2). */
  seconds?: number;
  /** Told the share that is done. */
  onProgress?: (share: number) => void;
}

/**
 * Bytes that a rank which moves data must read and write, over those of a copy of all. A sum reads what every rank has once;
 * then its parts are written to one rank or to all.
 */
function trafficOf(operation: BenchOperation, n: number): number {
  return operation === 'reduceScatter' ? (1 + 1 / n) / 2 : 1;
}

/**
 * Measures communicators. Ranks under MPI are started with mpirun, on this machine.
 * @param options - see {@link CommBenchmarkOptions}
 * @returns times and shares
 * @throws ERR_BALEEN_COMM_OPTIONS where an option is wrong; what a job throws
 */
export async function benchComm(options: CommBenchmarkOptions = {}): Promise<CommBenchmark> {
  const { ranks = 2, transports = ['threads', 'mpi'], onProgress } = options;
  const { bytes = [8, 65536, 2 ** 24], seconds = 0.2 } = options;
  if (!Number.isInteger(ranks) || ranks < 1 || ranks > 256)
    throw commError('OPTIONS', `ranks (${ranks}) is not 1 to 256`, 'give 1 to 256', {
      path: 'ranks',
    });
  const missing: CommBenchmark['missing'] = {};
  const cases: CommCase[] = [];
  let done = 0;
  for (const transport of transports) {
    const measured = await measurers[transport](ranks, { bytes, seconds });
    if (typeof measured === 'string') missing[transport] = measured;
    else cases.push(...measured.map((one) => shareOf(one, transport, ranks)));
    onProgress?.((done += 1) / transports.length);
  }
  return { ranks, cases, missing };
}

function shareOf(
  { operation, bytes, us, bestUs, bestCopyUs }: RankCase,
  transport: BenchTransport,
  ranks: number,
): CommCase {
  const some = bytes > 0;
  return {
    transport,
    operation,
    bytes,
    us,
    bestUs,
    gbps: some ? bytes / bestUs / 1000 : null,
    ofCopy: some ? (trafficOf(operation, ranks) * bestCopyUs) / bestUs : null,
  };
}

/** How each transport is measured; a string says why it cannot be. */
const measurers: Readonly<
  Record<BenchTransport, (ranks: number, options: RankOptions) => Promise<RankCase[] | string>>
> = {
  async threads(ranks, options) {
    // The same from src/ in the sources and from dist/ in the build.
    const module = new URL('../dist/bench-rank.js', import.meta.url);
    const [first] = await threads<RankCase[]>(ranks, module, options);
    return first;
  },
  mpi: (ranks, options) =>
    new Promise((resolve, reject) => {
      const program = fileURLToPath(new URL('../dist/bench-mpi.js', import.meta.url));
      const child = spawn(
        'mpirun',
        [
          ...['-n', String(ranks), '--allow-run-as-root', '--oversubscribe'],
          ...[process.execPath, program, JSON.stringify(options)],
        ],
        // Ranks run the build, whatever this process runs.
        { env: { ...process.env, NODE_OPTIONS: '' }, stdio: ['ignore', 'pipe', 'pipe'] },
      );
      let [out, err] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
      child.once('error', () => {
        resolve('mpirun is not installed (apt-get install openmpi-bin)');
      });
      child.once('close', (code) => {
        const line = out.split('\n').find((text) => text.startsWith('['));
        if (code === 0 && line) resolve(JSON.parse(line) as RankCase[]);
        else if (err.includes('ERR_BALEEN_COMM_MPI')) resolve(/Error: (.*)/.exec(err)?.[1] ?? err);
        else
          reject(
            commError('MPI', `mpirun ended with ${code}: ${err.trim()}`, 'see what it says above'),
          );
      });
    }),
};
