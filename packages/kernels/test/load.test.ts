// The kernels of a process are one object, even for two copies of this package.
import { loadKernels, viewOf } from '@baleen/kernels';
import { expect, test, vi } from 'vitest';

test('every copy of the package gets the same kernels, and they compute', async () => {
  const first = loadKernels();
  expect(loadKernels()).toBe(first);
  vi.resetModules();
  const copy = await import('@baleen/kernels');
  expect(copy.loadKernels).not.toBe(loadKernels);
  expect(copy.loadKernels()).toBe(first);

  const out = new Float32Array(1);
  first.sum(viewOf(out), viewOf(Float32Array.of(1, 2, 3)));
  expect(out[0]).toBe(6);
});
