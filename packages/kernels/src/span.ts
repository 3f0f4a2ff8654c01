// When a kernel ran, and on what sizes.
import { elements, type Operands, type Sizes } from './signature';
import { type KernelName, signatures } from './signatures';
import type { DType } from './storage';

/** An operand's type and size. */
export interface OperandSize {
  /** Type of its elements; of a scaled operand, of its codes. */
  readonly dtype: DType;
  /** Elements. */
  readonly size: number;
}

/** What a call was made on. */
export interface KernelSizes {
  /** Operands in the kernel's order; null for one that was left out. */
  readonly operands: readonly (OperandSize | null)[];
  /** Sizes and switches by name, as `rows` and `k`; a switch is 0 or 1, what was left out is 0. */
  readonly sizes: Readonly<Record<string, number>>;
}

/** One call of a kernel. */
export interface KernelSpan extends KernelSizes {
  /** Which. */
  readonly kernel: KernelName;
  /** When it began, in seconds on the clock of `performance.now()`. */
  readonly begin: number;
  /** When it ended. */
  readonly end: number;
}

/**
 * What a call was made on.
 * @param kernel - which
 * @param operands - its operands
 * @param sizes - its sizes
 * @returns types and numbers alone
 */
export function sizesOf(kernel: KernelName, operands: Operands, sizes: Sizes): KernelSizes {
  return {
    operands: operands.map((operand) => {
      if (!operand) return null;
      const { dtype, size } = elements(operand);
      return { dtype, size };
    }),
    sizes: Object.fromEntries(
      signatures[kernel].keys
        .filter((key) => !key.startsWith('@'))
        .map((key) => [key, Number(sizes[key] ?? 0)]),
    ),
  };
}
