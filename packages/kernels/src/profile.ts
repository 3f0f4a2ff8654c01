// When kernels run: native ones note it themselves, also while a recording is made again; others are wrapped.
import { wrapKernels } from './checks';
import type { Kernels } from './kernels';
import type { NativeKernels } from './native';
import { splitCall } from './signature';
import { signatures } from './signatures';
import { type KernelSpan, sizesOf } from './span';

/** Kernels whose calls can be noted. */
export interface KernelProfile {
  /** Make the calls on these. */
  readonly kernels: Kernels;
  /** Notes calls from now on. */
  readonly start: () => void;
  /** Ends it and returns what was noted, in order. */
  readonly stop: () => KernelSpan[];
}

/**
 * Lets an implementation's calls be noted with their times.
 * @param kernels - an implementation
 * @returns kernels to use in its place, and the switch
 */
export function profileKernels(kernels: Kernels): KernelProfile {
  if (kernels.implementation === 'native' && kernels.record) {
    const native = kernels as NativeKernels;
    return {
      kernels,
      start: () => {
        native.watch();
      },
      stop: () => native.watched(),
    };
  }
  let spans: KernelSpan[] | null = null;
  return {
    kernels: wrapKernels(kernels, (kernel, call) => (...args) => {
      const begin = performance.now() / 1000;
      call(...args);
      const end = performance.now() / 1000;
      if (!spans) return;
      const { operands, sizes } = splitCall(signatures[kernel], args);
      spans.push({ kernel, begin, end, ...sizesOf(kernel, operands, sizes) });
    }),
    start: () => {
      spans = [];
    },
    stop: () => {
      const noted = spans ?? [];
      spans = null;
      return noted;
    },
  };
}
