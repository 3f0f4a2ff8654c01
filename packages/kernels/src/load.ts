// Chooses the kernels: native where the addon loads, the reference elsewhere. Each thread of JavaScript chooses for itself;
// the native kernels' pool and instruction set belong to the process, and the addon keeps them.
import type { Kernels } from './kernels';
import { checkThreads, loadNative, type NativeKernels, type Peaks } from './native';
import { referenceKernels } from './reference';

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
  hint?: string;
}

const stateKey = Symbol.for('baleen.kernels');

/** State of this JavaScript thread, so that two copies of this package in it have the same kernels. */
const globals = globalThis as unknown as Record<symbol, State | undefined>;

/** How to get the addon, with the path of its build as it is typed here. */
function buildHint(): string {
  let build = '';
  if (typeof process !== 'undefined' && 'getBuiltinModule' in process) {
    if (process.platform === 'win32') return 'run under WSL, where they are those of Linux';
    const builtin = process.getBuiltinModule.bind(process);
    // The same from src/ in the sources and from dist/ in the build; a bundle lies anywhere.
    const path = builtin('node:url').fileURLToPath(new URL('../native/build.mjs', import.meta.url));
    if (builtin('node:fs').existsSync(path)) {
      const near = builtin('node:path').relative(process.cwd(), path);
      build = near.startsWith('..') ? path : near;
    }
  }
  const where = build === '' ? 'native/build.mjs` in @baleen/kernels' : `${build}\``;
  return `install a C++20 compiler, make and Python, then run \`node ${where}`;
}

const environment = (name: string): string | undefined =>
  typeof process === 'undefined' ? undefined : process.env[name];

/** Whether an on/off variable of the environment is on. */
const isSet = (name: string): boolean => !['', '0', undefined].includes(environment(name));

/**
 * The kernels of this JavaScript thread, chosen once: native if its addon loads, else the reference (one line on stderr
 * then says so). `BALEEN_KERNELS=reference|native` forces a choice, and `BALEEN_REQUIRE_NATIVE=1` makes a missing addon an
 * error. The main thread and workers share one pool and one instruction set, which the first of them to load the native
 * kernels chooses (`BALEEN_ISA` forces a set); those that come later find what is in use.
 * @returns the same object every time
 */
export function loadKernels(): Kernels {
  return (globals[stateKey] ??= choose()).kernels;
}

function choose(): State {
  const forced = environment('BALEEN_KERNELS');
  if (forced !== undefined && forced !== 'reference' && forced !== 'native')
    throw Object.assign(new Error(`BALEEN_KERNELS is "${forced}", expected reference or native`), {
      code: 'ERR_BALEEN_CONFIG_KERNELS',
      path: 'BALEEN_KERNELS',
      hint: 'unset it to let Baleen choose',
    });
  if (forced === 'reference')
    return {
      kernels: referenceKernels(),
      native: null,
      reason: 'BALEEN_KERNELS is reference',
      hint: 'unset BALEEN_KERNELS to use the native kernels',
    };
  const loaded = loadNative();
  if (loaded.kernels) {
    loaded.start(environment('BALEEN_ISA'));
    return { kernels: loaded.kernels, native: loaded.kernels };
  }
  const { reason } = loaded;
  const hint = buildHint();
  if (forced === 'native' || isSet('BALEEN_REQUIRE_NATIVE'))
    throw Object.assign(new Error(`the native kernels did not load: ${reason}`), {
      code: 'ERR_BALEEN_KERNELS_NATIVE',
      hint,
    });
  const stderr = typeof process === 'undefined' ? undefined : process.stderr;
  if (typeof stderr?.write === 'function')
    stderr.write(
      `baleen: running on the reference kernels, some hundred times slower (${reason}); ${hint}\n`,
    );
  return { kernels: referenceKernels(), native: null, reason, hint };
}

/**
 * What `loadKernels` took, and why not the better one.
 * @returns the report
 */
export function describeKernels(): KernelsReport {
  const { implementation, isa, threads } = loadKernels();
  const { reason, hint } = globals[stateKey] ?? {};
  return {
    implementation,
    isa,
    threads,
    ...(reason === undefined ? {} : { reason }),
    ...(hint === undefined ? {} : { hint }),
  };
}

/**
 * The native kernels with a choice of instruction set, for tests and measurements.
 * @returns them, or null where the addon is not in use
 */
export function nativeKernels(): NativeKernels | null {
  loadKernels();
  return globals[stateKey]?.native ?? null;
}

/**
 * Sets the size of this process's thread pool, for all its workers too; results do not depend on it. One call at a time
 * uses the pool: a kernel called while it serves another worker runs on its caller's thread alone. The reference always
 * runs on one.
 * @param threads - 1 to 256, or 0 for every core (at most 64), divided among the ranks that a launcher started on this
 *   machine (Open MPI, MPICH, srun)
 */
export function setThreads(threads: number): void {
  checkThreads(threads);
  nativeKernels()?.setThreads(threads);
}

/**
 * Peaks of this machine's processor as the native kernels reach them with nothing but registers and streams, on the
 * current number of threads.
 * @returns the peaks; null without native kernels
 */
export function measurePeaks(): Peaks | null {
  return nativeKernels()?.peaks() ?? null;
}
