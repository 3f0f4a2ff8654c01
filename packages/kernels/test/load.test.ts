// The kernels of a process are one object, even for two copies of this package.
import { existsSync } from 'node:fs';

import { describeKernels, loadKernels, viewOf } from '@baleen/kernels';
import { afterEach, describe, expect, test, vi } from 'vitest';

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

describe('what describeKernels says to do', () => {
  const key = Symbol.for('baleen.kernels');
  const globals = globalThis as unknown as Record<symbol, unknown>;
  const mine = globals[key];
  afterEach(() => {
    globals[key] = mine;
    vi.unstubAllEnvs();
    vi.doUnmock('../src/native');
    vi.resetModules();
    vi.restoreAllMocks();
  });

  test('about BALEEN_KERNELS=reference: to unset it', () => {
    globals[key] = undefined;
    vi.stubEnv('BALEEN_KERNELS', 'reference');
    expect(describeKernels()).toEqual({
      implementation: 'reference',
      isa: 'javascript',
      threads: 1,
      reason: 'BALEEN_KERNELS is reference',
      hint: 'unset BALEEN_KERNELS to use the native kernels',
    });
  });

  test('about an addon that is not there: to build it, with a command that can be typed', async () => {
    vi.doMock('../src/native', () => ({
      loadNative: () => ({ kernels: null, reason: 'no addon' }),
    }));
    vi.resetModules();
    globals[key] = undefined;
    vi.stubEnv('BALEEN_KERNELS', undefined);
    vi.stubEnv('BALEEN_REQUIRE_NATIVE', undefined);
    const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const copy = await import('../src/load');
    const { reason, hint = '' } = copy.describeKernels();
    expect(reason).toBe('no addon');
    const path = /`node (.*)`$/.exec(hint)?.[1] ?? '';
    expect(existsSync(path), path).toBe(true);
    expect(said.mock.calls.join('')).toContain(hint);
  });

  test('of native kernels is nothing', () => {
    const report = describeKernels();
    if (report.implementation === 'native')
      expect(Object.keys(report)).toEqual(['implementation', 'isa', 'threads']);
    else expect(report.hint).toBeDefined();
  });
});
