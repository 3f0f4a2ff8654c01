// The native kernels: one call into the C++ addon a kernel. Arguments travel as numbers in one shared array, addresses
// included: no data is copied at the border, but a call made from JavaScript allocates small objects, for its checks
// and its sizes. A recording that is replayed allocates nothing: its arguments are written out already.
import { checkOperands, detachedError } from '../checks';
import type { Kernels, Recording } from '../kernels';

import { type KernelName, kernelNames, signatures, splitCall } from '../signatures';
import type { KernelSizes, KernelSpan, OperandSize } from '../span';
import { type CpuStorage, cpuBuffer, type DType, type Operand, type View } from '../storage';
import { threadShare } from './cores';

/** What the addon exports (native/addon.cc). */
interface Addon {
  /** Hands over the array arguments travel in. */
  bind(args: Float64Array): void;
  /** Runs kernel number `op` on the arguments in the array. */
  run(op: number): void;
  /** Runs recorded calls: of each its kernel's number, the number of arguments, the arguments. */
  replay(calls: Float64Array): void;
  /** Begins to watch calls, or ends it and returns what was seen: of each its number, its begin and its end. */
  watch(on: boolean): Float64Array | undefined;
  /** How many calls were seen since. */
  seen(): number;
  /** The kernels' names, by number. */
  ops(): string[];
  /** Address of an array's first byte. */
  address(array: Uint8Array): number;
  /** Asks the system for large pages, where it has them. */
  largePages(array: Uint8Array): void;
  /** Instruction sets this machine has, best first. */
  isas(): string[];
  /** The one in use. */
  isa(): string;
  /** Chooses one, for the whole process. */
  setIsa(name: string): void;
  /** Chooses both for the process, once: afterwards it does nothing, on whatever thread. An empty name is the best. */
  start(isa: string, threads: number): void;
  /** Resizes the process's thread pool. */
  setThreads(threads: number): void;
  /** Threads of the pool. */
  threads(): number;
  /** [GFLOP/s of FP32, GFLOP/s of BF16 dot products, GB/s of copying, GB/s of reading]. */
  peaks(): number[];
}

/** What the processor can do at most, on the current number of threads. */
export interface Peaks {
  /** GFLOP/s of FP32 multiply-adds. */
  fp32: number;
  /** GFLOP/s of BF16 dot products. */
  bf16Dot: number;
  /** GB/s of copying, read plus written. */
  copy: number;
  /** GB/s of reading alone. */
  read: number;
}

/** The native kernels with their controls. */
export interface NativeKernels extends Kernels {
  /** Instruction sets this machine has, best first. */
  readonly isas: readonly string[];
  /** Uses another instruction set from now on, in the whole process. */
  setIsa(name: string): void;
  /** Resizes the thread pool: 1 to 256, or 0 for every core, at most 64; beside other ranks of a job, for its share. */
  setThreads(threads: number): void;
  /** See `measurePeaks`. */
  peaks(): Peaks;
  record(body: () => void): Recording;
  /** See `profileKernels`: begins to note when calls run. */
  watch(): void;
  /** Ends it. */
  watched(): KernelSpan[];
}

const dtypes: Readonly<Record<DType, number>> = {
  f32: 0,
  bf16: 1,
  e4m3: 2,
  i32: 3,
  e5m6: 4,
  e5m2: 5,
};
const dtypeNames = Object.keys(dtypes) as DType[];

/**
 * Refuses a number of threads that no pool can have.
 * @param threads - what must be a whole number from 0 to 256
 */
export function checkThreads(threads: number): void {
  if (!Number.isInteger(threads) || threads < 0 || threads > 256)
    throw Object.assign(new Error(`threads (${threads}) is not a whole number from 0 to 256`), {
      code: 'ERR_BALEEN_CONFIG_THREADS',
      path: 'threads',
      hint: 'give the number of cores to use, or 0 for all',
    });
}

/** Threads where nobody says how many. */
function everyCore(): number {
  const { availableParallelism, cpus } = process.getBuiltinModule('node:os');
  return threadShare({ all: cpus().length, allowed: availableParallelism(), env: process.env });
}

/** The kernels as they are loaded. */
export interface LoadedNative {
  kernels: NativeKernels;
  /**
   * Sizes the pool and chooses the instruction set, the best if none is named, where no thread of the process did yet:
   * a worker leaves both as it finds them.
   */
  start: (isa: string | undefined) => void;
}

/**
 * Loads the addon: the one built in this checkout, else a prebuilt one.
 * @returns the kernels, or why there are none
 */
export function loadNative(): LoadedNative | { kernels: null; reason: string } {
  // Not imports: bundlers for the browser must not see Node's modules.
  if (typeof process === 'undefined' || !('getBuiltinModule' in process))
    return { kernels: null, reason: 'not running on Node.js' };
  if (process.platform === 'win32')
    return { kernels: null, reason: 'there are no native kernels for Windows' };
  try {
    const builtin = process.getBuiltinModule.bind(process);
    const require = builtin('node:module').createRequire(import.meta.url);
    const load = require('node-gyp-build') as (folder: string) => Addon;
    // From src/native/ in the sources, from dist/ in the build.
    const folder = import.meta.url.endsWith('.ts') ? '../../native' : '../native';
    const path = builtin('node:url').fileURLToPath(new URL(folder, import.meta.url));
    return bindAddon(load(path));
  } catch (error) {
    const [reason = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    return { kernels: null, reason };
  }
}

/** Bytes of a cache line, and of the widest vectors. */
const line = 64;
/** Bytes from which memory asks for large pages: two of those that x64 has. */
const largeFrom = 4 << 20;

/**
 * Zeroed memory. Node.js hands out buffers 16 bytes past the start of a line, where every access of a whole
 * vector touches two: so there is a line more, and `lineStart` says how much of it to leave out.
 */
function createStorage(addon: Addon, byteLength: number): CpuStorage {
  const buffer = new ArrayBuffer(byteLength + line);
  const array = new Uint8Array(buffer);
  if (byteLength >= largeFrom) addon.largePages(array);
  const lineStart = (line - (addon.address(array) % line)) % line;
  return { backend: 'cpu', buffer, byteLength: buffer.byteLength, lineStart };
}

/** Writes arguments into the array the addon reads. */
class Slots {
  readonly array: Float64Array = new Float64Array(128);
  private next = 0;
  private readonly addresses = new WeakMap<ArrayBufferLike, number>();

  constructor(private readonly addon: Addon) {}

  /** The buffers whose addresses were written while a recording was made, with their sizes. */
  private touched: Map<ArrayBufferLike, number> | null = null;

  restart(): void {
    this.next = 0;
  }

  /** The call's arguments. */
  written(): Float64Array {
    return this.array.subarray(0, this.next);
  }

  /** Notes from now on, or no longer, which memory is named. */
  note(touched: Map<ArrayBufferLike, number> | null): void {
    this.touched = touched;
  }

  number(value: number): void {
    this.array[this.next++] = value;
  }

  view(view: View | null | undefined): void {
    if (!view) {
      this.array.fill(0, this.next, this.next + 3);
      this.next += 3;
      return;
    }
    const buffer = cpuBuffer(view);
    let base = this.addresses.get(buffer);
    if (base === undefined) {
      base = this.addon.address(new Uint8Array(buffer));
      this.addresses.set(buffer, base);
    }
    this.touched?.set(buffer, buffer.byteLength);
    this.number(base + view.byteOffset);
    this.number(dtypes[view.dtype]);
    this.number(view.size);
  }

  operand(operand: Operand | null | undefined): void {
    const scaled = operand && 'codes' in operand ? operand : null;
    this.view(scaled ? scaled.codes : (operand as View | null));
    this.view(scaled?.scales);
    this.number(scaled?.blockRows ?? 0);
    this.number(scaled?.blockCols ?? 0);
  }
}

/** Reads back from a call's arguments what it was made on: the inverse of {@link Slots}. */
function readSizes(kernel: KernelName, written: Float64Array): KernelSizes {
  const { args, keys } = signatures[kernel];
  let at = 0;
  const operands = Array.from(args, (kind): OperandSize | null => {
    const [address, dtype, size] = written.subarray(at, at + 3);
    at += kind === 'o' ? 8 : 3;
    return address === 0 ? null : { dtype: dtypeNames[dtype], size };
  });
  const sizes: Record<string, number> = {};
  for (const key of keys)
    if (key.startsWith('@')) at += 3;
    else sizes[key] = written[at++];
  return { operands, sizes };
}

/** The calls in what {@link Addon.replay} takes, each its kernel's number and its arguments. */
function* callsIn(calls: Float64Array): Generator<[number, Float64Array], void, void> {
  for (let at = 0; at < calls.length; at += 2 + calls[at + 1])
    yield [calls[at], calls.subarray(at + 2, at + 2 + calls[at + 1])];
}

/** Calls as the addon reads them, and the memory whose addresses stand in them: it must not go before they do. */
class NativeRecording implements Recording {
  private readonly memory: readonly ArrayBufferLike[];
  private readonly sizes: readonly number[];

  constructor(
    private readonly addon: Addon,
    private readonly calls: Float64Array,
    memory: ReadonlyMap<ArrayBufferLike, number>,
    private readonly note: (calls: Float64Array) => void,
  ) {
    this.memory = [...memory.keys()];
    this.sizes = [...memory.values()];
  }

  replay(): void {
    const { memory, sizes } = this;
    for (let i = 0; i < memory.length; i += 1)
      if (memory[i].byteLength < sizes[i])
        throw detachedError(
          `memory[${i}]`,
          `a recording names a buffer that has ${memory[i].byteLength} left of its ${sizes[i]} bytes (memory[${i}])`,
          'record the calls',
        );
    try {
      this.addon.replay(this.calls);
    } finally {
      this.note(this.calls);
    }
  }
}

function bindAddon(addon: Addon): LoadedNative {
  const slots = new Slots(addon);
  addon.bind(slots.array);
  const names = addon.ops() as KernelName[];
  const numbers = new Map(names.map((name, index) => [name as string, index]));
  const isas = addon.isas();
  const checkIsa = (name: string): void => {
    if (!isas.includes(name))
      throw Object.assign(
        new Error(`the instruction set "${name}" is not among this machine's: ${isas.join(', ')}`),
        {
          code: 'ERR_BALEEN_CONFIG_ISA',
          path: 'BALEEN_ISA',
          hint: `choose one of these${name === 'avx512bf16' ? '; avx512bf16 also needs AVX512_VBMI' : ''}`,
        },
      );
  };
  let recorded: number[] | null = null;
  let origin = 0;
  // The addon notes when calls run, those that throw left out. Their arguments are kept here, in the same order, with how
  // many it had seen by then: a recording may end before its last call.
  let noted: { calls: Float64Array; seen: number }[] | null = null;
  const note = (calls: Float64Array): void => {
    noted?.push({ calls, seen: addon.seen() });
  };
  const record = (body: () => void): Recording => {
    if (recorded)
      throw Object.assign(new Error('a recording is under way, and recordings do not nest'), {
        code: 'ERR_BALEEN_KERNELS_RECORDING',
        hint: 'end one recording before the next begins',
      });
    const calls: number[] = [];
    // Addresses mean nothing once their memory is gone: a recording keeps it.
    const memory = new Map<ArrayBufferLike, number>();
    recorded = calls;
    slots.note(memory);
    try {
      body();
    } finally {
      recorded = null;
      slots.note(null);
    }
    return new NativeRecording(addon, Float64Array.from(calls), memory, note);
  };
  const kernels: Record<string, unknown> = {
    implementation: 'native',
    record,
    isas,
    createStorage: (byteLength: number) => createStorage(addon, byteLength),
    flush: () => undefined,
    setIsa: (name: string) => {
      checkIsa(name);
      addon.setIsa(name);
    },
    watch: () => {
      // The addon reads the clock of process.hrtime, which began before performance.now() did.
      origin = Number(process.hrtime.bigint()) / 1e9 - performance.now() / 1000;
      noted = [];
      addon.watch(true);
    },
    watched: (): KernelSpan[] => {
      const seen = addon.watch(false) ?? new Float64Array(0);
      const calls: [number, Float64Array][] = [];
      for (const made of noted ?? [])
        for (const call of callsIn(made.calls)) {
          if (calls.length === made.seen) break;
          calls.push(call);
        }
      noted = null;
      return calls.map(([op, written], i) => {
        const kernel = names[op];
        const [begin, end] = seen.subarray(3 * i + 1, 3 * i + 3);
        return {
          kernel,
          begin: begin - origin,
          end: end - origin,
          ...readSizes(kernel, written),
        };
      });
    },
    setThreads: (threads: number) => {
      checkThreads(threads);
      addon.setThreads(threads === 0 ? everyCore() : threads);
    },
    peaks: () => {
      const [fp32 = 0, bf16Dot = 0, copy = 0, read = 0] = addon.peaks();
      return { fp32, bf16Dot, copy, read };
    },
  };
  Object.defineProperty(kernels, 'isa', { get: () => addon.isa(), enumerable: true });
  Object.defineProperty(kernels, 'threads', { get: () => addon.threads(), enumerable: true });
  for (const name of kernelNames) {
    const signature = signatures[name];
    const op = numbers.get(name);
    if (op === undefined)
      throw Object.assign(new Error(`the addon has no kernel ${name}`), {
        code: 'ERR_BALEEN_KERNELS_ADDON',
        hint: 'it is of another version: build it anew',
      });
    kernels[name] = (...args: unknown[]): void => {
      const { operands, sizes, value } = splitCall(signature, args);
      checkOperands(name, operands, sizes);
      slots.restart();
      for (let i = 0; i < operands.length; i += 1)
        if (signature.args[i] === 'o') slots.operand(operands[i]);
        else slots.view(operands[i] as View | null);
      for (const key of signature.keys)
        if (key.startsWith('@')) slots.view(sizes[key.slice(1)] as View | undefined);
        else slots.number(Number(sizes[key] ?? 0));
      slots.number(value);
      addon.run(op);
      if (!noted && !recorded) return;
      const written = slots.written();
      if (noted) note(Float64Array.of(op, written.length, ...written));
      recorded?.push(op, written.length, ...written);
    };
  }
  return {
    kernels: kernels as unknown as NativeKernels,
    start: (isa = '') => {
      if (isa !== '') checkIsa(isa);
      addon.start(isa, everyCore());
    },
  };
}
