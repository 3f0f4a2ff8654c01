// Lets a program look at every kernel call, with its memory, when it has run: what an audit of a training step reads. The
// calls themselves are passed on as they are, so that nothing computed changes.
import { wrapKernels } from './checks';
import type { Kernels } from './kernels';
import { splitCall } from './signature';
import { type KernelName, signatures } from './signatures';
import { isScaled, type Operand, type View } from './storage';

/** A call that has run. */
export interface KernelCall {
  /** Which kernel. */
  readonly kernel: KernelName;
  /** Its operands, in the kernel's order. */
  readonly operands: readonly (Operand | null | undefined)[];
  /** Its sizes, switches, and the views that are given beside them. */
  readonly sizes: Readonly<Record<string, number | boolean | View | undefined>>;
  /** What it wrote, codes and scales apart. */
  readonly written: readonly View[];
}

/**
 * Kernels whose calls somebody sees.
 * @param kernels - an implementation
 * @param after - told of each call when it has run; it may read memory, and must change none
 * @returns kernels to use in their place. They record nothing: a recording that is made again would pass by
 */
export function observeKernels(kernels: Kernels, after: (call: KernelCall) => void): Kernels {
  return wrapKernels(kernels, (kernel, call) => {
    const signature = signatures[kernel];
    return (...args) => {
      call(...args);
      const { operands, sizes } = splitCall(signature, args);
      kernels.flush();
      const written = operands.flatMap((operand, index) => {
        if (!operand || signature.traffic[index] === 'r') return [];
        return isScaled(operand) ? [operand.codes, operand.scales] : [operand];
      });
      after({ kernel, operands, sizes, written });
    };
  });
}
