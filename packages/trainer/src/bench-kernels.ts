// Measures single kernels against what the processor reaches with nothing but registers and streams. Machines drift, so
// peaks are read in the same process every few seconds, and a kernel is held against the higher of the readings before and
// after it.
import { type Kernels, nativeKernels, type Peaks, setThreads } from '@baleen/kernels';
import { roofline } from '@baleen/mla';

import type { KernelCase, PeakName } from './bench-case';
import { kernelCases } from './bench-kernel-cases';
import { median } from './bench-step';

/** Peaks on so many threads, in GFLOP/s and GB/s. */
export interface ThreadPeaks extends Peaks {
  /** Threads. */
  threads: number;
}

/** One kernel's result. */
export interface KernelResult {
  /** Which kernel; those of several calls are named for what they make up. */
  kernel: string;
  /** Sizes: [m, n, k] of a product; `docs/performance.md` has the others. */
  shape: number[];
  /** Threads it ran on. */
  threads: number;
  /** Median rate of kernels held against a compute peak, in GFLOP/s. */
  gflops?: number;
  /** Median rate of kernels held against the copy, in GB/s read plus written. */
  gbps?: number;
  /** The peak it is held against. */
  of: PeakName;
  /** That peak on as many threads, about when the kernel ran, in the same unit as its rate. */
  peak: number;
  /** Where arithmetic and reading compete. */
  roofline?: {
    /** Operations a byte. */
    intensity: number;
    /** From how many on arithmetic is the peak. */
    ridge: number;
  };
  /** Rate over that peak. */
  ofPeak: number;
}

/** The line of `bench kernels --json`. */
export interface KernelBenchmark {
  /** Highest peaks of one thread. */
  peak: Peaks;
  /** Highest peaks by number of threads. */
  peaks: ThreadPeaks[];
  /** Results, in the order measured. */
  cases: KernelResult[];
}

/** Seconds after which peaks are read again. */
const readEvery = 3;

/** How to measure. */
export interface KernelBenchmarkOptions {
  /** Only kernels whose name contains this. */
  only?: string;
  /** Threads of the runs on several (0, the default: every core). */
  threads?: number;
  /** Of the cases that stream memory (default 1: 64 MiB of FP32, 256 MiB of caches). */
  scale?: number;
  /** Seconds a case is repeated for (default 0.25), after two runs to warm up. */
  seconds?: number;
  /** Told the share of all cases that are done, after each. */
  onProgress?: (share: number) => void;
}

/**
 * Measures the native kernels.
 * @param options - see {@link KernelBenchmarkOptions}
 * @returns peaks and rates
 * @throws with code ERR_BALEEN_KERNELS_NATIVE without native kernels, ERR_BALEEN_USAGE_ONLY if no case is left
 */
export async function benchKernels(options: KernelBenchmarkOptions = {}): Promise<KernelBenchmark> {
  const { only = '', threads = 0, seconds = 0.25, scale = 1, onProgress } = options;
  const kernels = nativeKernels();
  if (!kernels)
    throw Object.assign(
      new Error('only native kernels are measured against a peak, and there are none'),
      {
        code: 'ERR_BALEEN_KERNELS_NATIVE',
        hint: '`baleen doctor` says why they did not load',
      },
    );
  const cases = kernelCases(scale).filter(({ kernel }) => kernel.includes(only));
  if (cases.length === 0)
    throw Object.assign(new Error(`no kernel's name contains "${only}"`), {
      code: 'ERR_BALEEN_USAGE_ONLY',
      path: '--only',
      hint: `there are ${[...new Set(kernelCases().map(({ kernel }) => kernel))].join(', ')}`,
    });
  const before = kernels.threads;
  setThreads(threads);
  const most = kernels.threads;
  const turns = [...new Set([1, most])].map((count) => ({
    count,
    cases: cases.filter(({ everyThread }) => everyThread || count === 1),
  }));
  const total = turns.reduce((sum, turn) => sum + turn.cases.length, 0);
  const peaks: ThreadPeaks[] = [];
  const results: KernelResult[] = [];
  let done = 0;
  try {
    for (const turn of turns) {
      setThreads(turn.count);
      const readings = [kernels.peaks()];
      let read = performance.now();
      const timed: { each: KernelCase; rate: number; reading: number }[] = [];
      for (const each of turn.cases) {
        const rate = each.work / measure(kernels, each, seconds) / 1e9;
        timed.push({ each, rate, reading: readings.length - 1 });
        if (timed.length === turn.cases.length || performance.now() - read > readEvery * 1000) {
          readings.push(kernels.peaks());
          read = performance.now();
        }
        onProgress?.((done += 1) / total);
        // Kernels block this thread: let signals and timers through.
        await new Promise(setImmediate);
      }
      peaks.push({ threads: turn.count, ...best(readings) });
      for (const { each, rate, reading } of timed) {
        const { kernel, shape } = each;
        const { of, peak, ...point } = peakOf(each, best(readings.slice(reading, reading + 2)));
        results.push({
          kernel,
          shape: [...shape],
          threads: turn.count,
          [of === 'copy' ? 'gbps' : 'gflops']: rate,
          of,
          peak,
          ofPeak: rate / peak,
          ...point,
        });
      }
    }
  } finally {
    setThreads(before);
  }
  const [{ fp32, bf16Dot, copy, read }] = peaks;
  return { peak: { fp32, bf16Dot, copy, read }, peaks, cases: results };
}

/** What a case is held against: its peak, or what reading allows where that is less. */
function peakOf(
  { of, work, bytes }: KernelCase,
  peaks: Peaks,
): Pick<KernelResult, 'of' | 'peak' | 'roofline'> {
  if (bytes === undefined) return { of, peak: peaks[of] };
  const { intensity, ridge, bound } = roofline(
    { flops: work, bytes },
    { flopsPerSecond: peaks[of] * 1e9, bytesPerSecond: peaks.read * 1e9 },
  );
  const point = { intensity, ridge };
  return bound === 'compute'
    ? { of, peak: peaks[of], roofline: point }
    : { of: 'read', peak: intensity * peaks.read, roofline: point };
}

/** Median seconds of one run, repeated for at least so long. */
function measure(kernels: Kernels, each: KernelCase, least: number): number {
  const run = each.prepare(kernels);
  run();
  run();
  const times: number[] = [];
  const begin = performance.now();
  do {
    const start = performance.now();
    run();
    times.push((performance.now() - start) / 1000);
  } while (times.length < 5 || performance.now() - begin < least * 1000);
  return median(times);
}

/** The most of each. */
function best(readings: readonly Peaks[]): Peaks {
  const most = (name: PeakName): number => Math.max(...readings.map((reading) => reading[name]));
  return {
    fp32: most('fp32'),
    bf16Dot: most('bf16Dot'),
    copy: most('copy'),
    read: most('read'),
  };
}
