// When a kernel ran.
import type { KernelName } from './signatures';

/** One call of a kernel. */
export interface KernelSpan {
  /** Which. */
  readonly kernel: KernelName;
  /** When it began, in seconds on the clock of `performance.now()`. */
  readonly begin: number;
  /** When it ended. */
  readonly end: number;
}
