// Chooses the kernels for this process: native where the addon loads, the reference elsewhere.
import { wrapKernels } from './checks';
import type { Kernels } from './kernels';
import { loadNative, type NativeKernels } from './native/native';
import { referenceKernels } from './reference';
import type { KernelName } from './signatures';

/** What `loadKernels` took, and why not the better one. */
export interface KernelsReport {
  /** The implementation in use. */
  readonly implementation: 'reference' | 'native' | 'null';
  /** Its instruction set. */
  readonly isa: string;
  /** Threads of the pool. */
  readonly threads: number;
  /** Why the native kernels are not in use, if they are not. */
  readonly reason?: string;
  /** What to do about it. */
  readonly hint?: string;
}

interface State {
  kernels: Kernels;
  native: NativeKernels | null;
  reason?: string;
}

const stateKey = Symbol.for('baleen.kernels');

/** Process state, so that two copies of this package share one thread pool. */
const globals = globalThis as unknown as Record<symbol, State | undefined>;

const buildHint =
  'install a C++20 compiler, make and Python 3, then run `node native/build.mjs` in the folder of @baleen/kernels';

/**
 * The kernels of this process, chosen once: native if its addon loads, else the reference (one line on stderr then says
 * so). `BALEEN_KERNELS=reference|native` forces a choice, `BALEEN_REQUIRE_NATIVE=1` makes a missing addon an error.
 * @returns the kernels
 */
export function loadKernels(): Kernels {
  return (globals[stateKey] ??= choose()).kernels;
}

function choose(): State {
  const environment = typeof process === 'undefined' ? {} : process.env;
  const forced = environment.BALEEN_KERNELS;
  if (forced !== undefined && forced !== 'reference' && forced !== 'native')
    throw Object.assign(new Error(`BALEEN_KERNELS is "${forced}", expected reference or native`), {
      code: 'ERR_BALEEN_CONFIG_KERNELS',
      path: 'BALEEN_KERNELS',
      hint: 'unset it to let Baleen choose',
    });
  if (forced === 'reference')
    return { kernels: referenceKernels(), native: null, reason: 'BALEEN_KERNELS=reference' };
  const loaded = loadNative();
  if (loaded.kernels) return { kernels: loaded.kernels, native: loaded.kernels };
  const required = environment.BALEEN_REQUIRE_NATIVE;
  if (forced === 'native' || (required !== undefined && required !== '' && required !== '0'))
    throw Object.assign(new Error(`the native kernels did not load: ${loaded.reason}`), {
      code: 'ERR_BALEEN_KERNELS_NATIVE',
      hint: buildHint,
    });
  // One line, once a process: which path runs, what it costs, how to get the better one. Browsers expect no other.
  if (typeof process !== 'undefined' && 'stderr' in process)
    process.stderr.write(
      `baleen: using the TypeScript kernels on one thread, 50 to 200 times slower than native: ${loaded.reason}. To build the native ones, ${buildHint}\n`,
    );
  return { kernels: referenceKernels(), native: null, reason: loaded.reason };
}

/**
 * What `loadKernels` took, and why not the better one.
 * @returns the report
 */
export function describeKernels(): KernelsReport {
  const { implementation, isa, threads } = loadKernels();
  const reason = globals[stateKey]?.reason;
  if (reason === undefined) return { implementation, isa, threads };
  return { implementation, isa, threads, reason, hint: buildHint };
}

/**
 * Sets the size of this process's thread pool; results do not depend on it. The reference always runs on one.
 * @param threads - 1 or more
 */
export function setThreads(threads: number): void {
  if (!Number.isInteger(threads) || threads < 1 || threads > 256)
    throw Object.assign(new Error(`threads (${threads}) is not a whole number from 1 to 256`), {
      code: 'ERR_BALEEN_CONFIG_THREADS',
      path: 'threads',
      hint: 'give the number of cores to use',
    });
  loadKernels();
  globals[stateKey]?.native?.setThreads(threads);
}

/**
 * Peaks of this machine's processor as the native kernels reach it with nothing but registers and streams, on the
 * current number of threads.
 * @returns GFLOP/s of FP32 and of BF16 dot products, GB/s of copying (read plus written); null without native kernels
 */
export function measurePeaks(): { fp32: number; bf16Dot: number; copy: number } | null {
  loadKernels();
  return globals[stateKey]?.native?.peaks() ?? null;
}

/**
 * Wraps kernels so that the time of every call is reported.
 * @param kernels - an implementation
 * @param onCall - told the kernel and its seconds
 * @returns the same, timed
 */
export function timedKernels(
  kernels: Kernels,
  onCall: (kernel: KernelName, seconds: number) => void,
): Kernels {
  return wrapKernels(kernels, (name, call) => (...args) => {
    const begin = performance.now();
    call(...args);
    onCall(name, (performance.now() - begin) / 1000);
  });
}
