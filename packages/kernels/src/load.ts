// The kernels of this process, chosen once and shared by every copy of this package.
import type { Kernels } from './kernels';
import { referenceKernels } from './reference';

const stateKey = Symbol.for('baleen.kernels');
const globals = globalThis as unknown as Record<symbol, Kernels | undefined>;

/**
 * The kernels of this process.
 * @returns the reference kernels, the same object every time
 */
export function loadKernels(): Kernels {
  return (globals[stateKey] ??= referenceKernels());
}
