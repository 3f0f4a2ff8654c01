// Kernels that compute nothing: shapes and bytes only. They size a training step before it runs, and prove that no code
// above decides anything by reading values.
import { byteLength, checkCall, wrapKernels } from '../checks';
import type { Kernels } from '../kernels';
import { splitCall } from '../signature';
import { type KernelName, kernelNames, signatures } from '../signatures';
import { isScaled, type Operand, type Storage } from '../storage';

/** What one kernel call costs at least: the terms of a roofline. */
export interface KernelCost {
  /** Which kernel. */
  readonly kernel: KernelName;
  /** Floating-point operations of its products; 0 for kernels bound by memory. */
  readonly flops: number;
  /** Bytes that must be read and written, each once; what is added to counts twice. */
  readonly bytes: number;
  /** Which peak its products meet. */
  readonly unit: 'fp32' | 'bf16' | 'none';
}

/**
 * The null backend: its storages have a size and no memory.
 * @param options - `onCall` is told the cost of every call
 * @returns an implementation of `Kernels` that checks sizes and computes nothing
 */
export function nullKernels(options: { onCall?: (cost: KernelCost) => void } = {}): Kernels {
  const nothing = Object.fromEntries(kernelNames.map((name) => [name, () => undefined]));
  const kernels = {
    implementation: 'null',
    isa: 'none',
    threads: 1,
    createStorage: (length: number): Storage => ({ backend: 'null', byteLength: length }),
    flush: () => undefined,
    ...nothing,
  } as unknown as Kernels;
  return wrapKernels(kernels, (name) => (...args) => {
    checkCall(name, args);
    options.onCall?.(costOf(name, args));
  });
}

/**
 * What a call costs. Sizes that depend on values (how rows fall into groups) count as the sizes given say.
 * @param kernel - its name
 * @param args - its arguments
 * @returns operations and bytes
 */
export function costOf(kernel: KernelName, args: readonly unknown[]): KernelCost {
  const signature = signatures[kernel];
  const { operands, sizes } = splitCall(signature, args);
  const work = signature.flops?.(sizes, operands);
  let bytes = signature.bytes?.(sizes, operands);
  if (bytes === undefined) {
    bytes = 0;
    for (let i = 0; i < operands.length; i += 1) {
      const operand = operands[i];
      if (!operand) continue;
      const mode = signature.traffic[i];
      const twice = mode === 'u' || (mode === 'w' && sizes.accumulate === true);
      bytes += operandBytes(operand) * (twice ? 2 : 1);
    }
  }
  return { kernel, flops: work?.flops ?? 0, bytes, unit: work?.unit ?? 'none' };
}

function operandBytes(operand: Operand): number {
  return isScaled(operand)
    ? byteLength(operand.codes) + byteLength(operand.scales)
    : byteLength(operand);
}
