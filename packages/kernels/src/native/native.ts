// The native kernels: one call into the C++ addon a kernel. Arguments travel as numbers in one shared array, addresses
// included, so nothing is allocated or copied at the border.
import { checked } from '../checks';
import type { Kernels } from '../kernels';
import { kernelNames, signatures, splitCall } from '../signatures';
import { cpuBuffer, createCpuStorage, type DType, type Operand, type View } from '../storage';

/** What the addon exports. */
interface Addon {
  /** Hands over the array arguments travel in. */
  bind(args: Float64Array): void;
  /** Runs kernel number `op` on the arguments in the array. */
  run(op: number): void;
  /** The kernels' names, by number. */
  ops(): string[];
  /** Address of a buffer's first byte. */
  address(buffer: ArrayBufferLike): number;
  /** Instruction sets this machine has, best first. */
  isas(): string[];
  /** Chooses one. */
  setIsa(name: string): void;
  setThreads(threads: number): void;
  /** [GFLOP/s of FP32, GFLOP/s of BF16 dot products, GB/s of copying]. */
  peaks(): number[];
}

/** The native kernels with their controls. */
export interface NativeKernels extends Kernels {
  /** Instruction sets this machine has, best first. */
  readonly isas: readonly string[];
  /** Uses another instruction set from now on. */
  setIsa(name: string): void;
  /** Resizes the thread pool. */
  setThreads(threads: number): void;
  /** See `measurePeaks`. */
  peaks(): { fp32: number; bf16Dot: number; copy: number };
}

const dtypes: Readonly<Record<DType, number>> = { f32: 0, bf16: 1, e4m3: 2, i32: 3 };

/**
 * Loads the addon: the one built in this checkout, else a prebuilt one.
 * @returns the kernels, or why there are none
 */
export function loadNative(): { kernels: NativeKernels } | { kernels: null; reason: string } {
  // Not an import: bundlers for the browser must not see Node's modules.
  const builtin =
    typeof process === 'undefined' ? undefined : process.getBuiltinModule?.('node:module');
  const url = process.getBuiltinModule?.('node:url');
  if (!builtin || !url) return { kernels: null, reason: 'not running on Node.js' };
  let addon: Addon;
  try {
    const require = builtin.createRequire(import.meta.url);
    const load = require('node-gyp-build') as (folder: string) => Addon;
    // From src/native/ in the sources, from dist/ in the build.
    const folder = import.meta.url.endsWith('.ts') ? '../../native' : '../native';
    addon = load(url.fileURLToPath(new URL(folder, import.meta.url)));
  } catch (error) {
    return {
      kernels: null,
      reason: (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '',
    };
  }
  return { kernels: bindAddon(addon) };
}

function bindAddon(addon: Addon): NativeKernels {
  const slots = new Float64Array(128);
  addon.bind(slots);
  const numbers = new Map(addon.ops().map((name, index) => [name, index]));
  const addresses = new WeakMap<ArrayBufferLike, number>();
  let next = 0;
  const putView = (view: View | null | undefined): void => {
    if (!view) {
      slots.fill(0, next, next + 3);
      next += 3;
      return;
    }
    const buffer = cpuBuffer(view);
    let base = addresses.get(buffer);
    if (base === undefined) {
      base = addon.address(buffer);
      addresses.set(buffer, base);
    }
    slots[next++] = base + view.byteOffset;
    slots[next++] = dtypes[view.dtype];
    slots[next++] = view.size;
  };
  const putOperand = (operand: Operand | null | undefined): void => {
    const scaled = operand && 'codes' in operand ? operand : null;
    putView(scaled ? scaled.codes : (operand as View | null));
    putView(scaled?.scales);
    slots[next++] = scaled?.blockRows ?? 0;
    slots[next++] = scaled?.blockCols ?? 0;
  };
  const isas = addon.isas();
  const state = { isa: isas[0] ?? 'baseline', threads: 1 };
  const kernels: Record<string, unknown> = {
    implementation: 'native',
    isas,
    createStorage: createCpuStorage,
    flush: () => undefined,
    setIsa: (name: string) => {
      if (!isas.includes(name))
        throw Object.assign(
          new Error(`BALEEN_ISA is "${name}"; this machine has ${isas.join(', ')}`),
          { code: 'ERR_BALEEN_CONFIG_ISA', path: 'BALEEN_ISA', hint: 'choose one of these' },
        );
      addon.setIsa(name);
      state.isa = name;
    },
    setThreads: (threads: number) => {
      addon.setThreads(threads);
      state.threads = threads;
    },
    peaks: () => {
      const [fp32 = 0, bf16Dot = 0, copy = 0] = addon.peaks();
      return { fp32, bf16Dot, copy };
    },
  };
  Object.defineProperty(kernels, 'isa', { get: () => state.isa, enumerable: true });
  Object.defineProperty(kernels, 'threads', { get: () => state.threads, enumerable: true });
  for (const name of kernelNames) {
    const signature = signatures[name];
    const op = numbers.get(name);
    if (op === undefined) throw new Error(`the addon has no kernel ${name}: rebuild it`);
    kernels[name] = (...args: unknown[]): void => {
      const { operands, sizes, value } = splitCall(signature, args);
      next = 0;
      for (let i = 0; i < operands.length; i += 1)
        if (signature.args[i] === 'o') putOperand(operands[i]);
        else putView(operands[i] as View | null);
      for (const key of signature.keys)
        if (key.startsWith('@')) putView(sizes[key.slice(1)] as View | undefined);
        else slots[next++] = Number(sizes[key] ?? 0);
      slots[next] = value;
      addon.run(op);
    };
  }
  const native = checked(kernels as unknown as Kernels) as NativeKernels;
  const wanted = process.env.BALEEN_ISA;
  if (wanted) native.setIsa(wanted);
  const cores = process.getBuiltinModule?.('node:os')?.availableParallelism() ?? 1;
  native.setThreads(Math.min(cores, 64));
  return native;
}
