// Which kernels run and, when they are not the native ones, why and what to do: never silent about a slow path.
import type { KernelsReport } from '@baleen/kernels';

/**
 * The kernels in words.
 * @param report - from `describeKernels()`
 * @returns one line; with the reason and the remedy below it when they are not native
 */
export function kernelLines({
  implementation,
  isa,
  threads,
  reason,
  hint,
}: KernelsReport): string[] {
  const crew = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  if (implementation === 'native') return [`native, ${isa}, ${crew}`];
  return [
    `${implementation} (plain TypeScript, one thread: much slower than native)`,
    ...(reason === undefined ? [] : [reason]),
    ...(hint === undefined ? [] : [hint]),
  ];
}
