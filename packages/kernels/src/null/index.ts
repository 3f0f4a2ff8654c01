// Kernels that compute nothing: shapes and bytes only. They size a training step before it runs, and prove that no code
// above decides anything by reading values.
import { byteLength, checkCall, wrapKernels } from '../checks';
import type { Kernels } from '../kernels';
import { type KernelName, kernelNames, signatures, splitCall } from '../signatures';
import type { Storage } from '../storage';

/** What one kernel call would cost. */
export interface KernelCost {
  /** Which kernel. */
  readonly kernel: KernelName;
  /** Floating-point operations of its products; 0 for kernels bound by memory. */
  readonly flops: number;
  /** Bytes of all its views, each counted once. */
  readonly bytes: number;
  /** Which peak its products meet. */
  readonly unit: 'fp32' | 'bf16' | 'none';
}

/**
 * The null backend: its storages have a size and no memory.
 * @param options - `onCall` is told the cost of every call
 * @returns an implementation of `Kernels` that computes nothing
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
 * What a call costs.
 * @param kernel - its name
 * @param args - its arguments
 * @returns operations and bytes
 */
export function costOf(kernel: KernelName, args: readonly unknown[]): KernelCost {
  const signature = signatures[kernel];
  const { operands, sizes } = splitCall(signature, args);
  let bytes = 0;
  for (const operand of [...operands, sizes.dx, sizes.dweight, sizes.rowScale])
    if (operand && typeof operand === 'object')
      bytes +=
        'codes' in operand
          ? byteLength(operand.codes) + byteLength(operand.scales)
          : byteLength(operand);
  const work = signature.flops?.(sizes, operands);
  return { kernel, flops: work?.flops ?? 0, bytes, unit: work?.unit ?? 'none' };
}
