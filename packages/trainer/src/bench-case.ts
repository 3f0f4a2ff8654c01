// What a kernel benchmark's case is.
import type { Kernels } from '@baleen/kernels';

/** The peak a case is held against; `read` is that of work which reading bounds, in GFLOP/s. */
export type PeakName = 'fp32' | 'bf16Dot' | 'copy' | 'read';

/** One measurement to take. */
export interface KernelCase {
  /** Its name, as the results say it. */
  kernel: string;
  /** Sizes, in the order the name's documentation gives. */
  shape: readonly number[];
  /** The peak it is held against. */
  of: Exclude<PeakName, 'read'>;
  /** Floating-point operations (peaks in FLOP/s) or bytes read plus written once (copy). */
  work: number;
  /** Bytes that such operations must at least read: where that takes longer, reading is the peak. */
  bytes?: number;
  /** Measured with all threads too, besides one. */
  everyThread: boolean;
  /** Takes memory and returns the work; the memory is let go when the function is. */
  prepare(kernels: Kernels): () => void;
}
