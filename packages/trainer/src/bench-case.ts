// What a kernel benchmark's case is.
import type { Kernels } from '@baleen/kernels';

/** The peak a case is held against. */
export type PeakName = 'fp32' | 'bf16Dot' | 'copy';

/** One measurement to take. */
export interface KernelCase {
  /** Its name, as the results say it. */
  kernel: string;
  /** Sizes, in the order the name's documentation gives. */
  shape: readonly number[];
  /** The peak it is held against. */
  of: PeakName;
  /** Floating-point operations (peaks in FLOP/s) or bytes read plus written once (copy). */
  work: number;
  /** Measured with all threads too, besides one. */
  everyThread: boolean;
  /** Takes memory and returns the work; the memory is let go when the function is. */
  prepare(kernels: Kernels): () => void;
}
