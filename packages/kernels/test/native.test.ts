// Every kernel of the addon against the reference, on every instruction set the machine has: equal to the bit where the
// contract fixes bits, within a tolerance elsewhere, never writing beside its outputs, and the same for 1, 2 and 3 threads.
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

import {
  type CpuStorage,
  kernelNames,
  nativeKernels,
  referenceKernels,
  setThreads,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';
import { afterEach, describe, expect, test } from 'vitest';

import { cases } from './cases';
import { largeCases } from './cases-large';
import { Arena, expectClose, expectSameBits, scaledArrays } from './compare';

const native = nativeKernels();
const required = !['', '0', undefined].includes(process.env.BALEEN_REQUIRE_NATIVE);

test.skipIf(native === null && !required)('the addon is there', () => {
  expect(native).not.toBeNull();
});

describe.skipIf(native === null)('native kernels', () => {
  if (!native) return;
  const [bestIsa, threadsBefore] = [native.isa, native.threads];
  afterEach(() => {
    native.setIsa(bestIsa);
    native.setThreads(threadsBefore);
  });
  const reference = referenceKernels();

  test('pools of 1 to 256 threads, or one of every core', () => {
    const doors = [
      (threads: number) => {
        native.setThreads(threads);
      },
      setThreads,
    ];
    for (const set of doors) {
      for (const threads of [-1, 1.5, 257, 400, Number.NaN]) {
        expect(() => {
          set(threads);
        }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_CONFIG_THREADS', path: 'threads' }));
        expect(native.threads).toBe(threadsBefore);
      }
      set(256);
      expect(native.threads).toBe(256);
      set(0);
      expect(native.threads).toBe(Math.min(availableParallelism(), 64));
      native.setThreads(threadsBefore);
    }
  });

  test('storage has all its bytes from the start of a cache line on', () => {
    const folder = fileURLToPath(new URL('../native', import.meta.url));
    const load = createRequire(import.meta.url)('node-gyp-build') as (path: string) => {
      address(array: Uint8Array): number;
    };
    const addon = load(folder);
    for (const size of [0, 1, 64, 5000, 1 << 22]) {
      const storage = native.createStorage(size) as CpuStorage;
      const start = storage.lineStart ?? 0;
      expect(addon.address(new Uint8Array(storage.buffer, start)) % 64).toBe(0);
      expect(start + size).toBeLessThanOrEqual(storage.buffer.byteLength);
      expect(storage.byteLength).toBe(storage.buffer.byteLength);
    }
  });

  test('a norm of more numbers than any cache holds is that of its rows', () => {
    const [rows, cols] = [16 * 1025, 1024];
    const epsilon = 1e-6;
    const arena = new Arena(3);
    const [few, weight] = [arena.floats(16 * cols), viewOf(arena.floats(cols))];
    const x = new Float32Array(rows * cols);
    for (let r = 0; r < rows; r += 16) x.set(few, r * cols);
    const storage = native.createStorage(x.byteLength) as CpuStorage;
    const byteOffset = storage.lineStart ?? 0;
    const rstd = new Float32Array(rows);
    for (const isa of native.isas) {
      native.setIsa(isa);
      const [expected, roots] = [new Float32Array(few.length), new Float32Array(16)];
      const sizes = { rows: 16, cols, epsilon };
      native.rmsNorm(viewOf(expected), viewOf(roots), viewOf(few), weight, sizes);
      const y = { storage, byteOffset, dtype: 'f32', size: x.length } as const;
      native.rmsNorm(y, viewOf(rstd), viewOf(x), weight, { rows, cols, epsilon });
      const values = new Float32Array(storage.buffer, byteOffset, x.length);
      for (let r = 0; r < rows; r += 16) {
        const what = `${isa}, rows from ${String(r)} on`;
        expectSameBits(values.subarray(r * cols, (r + 16) * cols), expected, what);
        expectSameBits(rstd.subarray(r, r + 16), roots, `${what}: rstd`);
      }
    }
  });

  // Blocks of 50 columns begin in the middle of vectors, which cannot be written past the caches.
  test.each([
    [1, 128],
    [128, 1],
    [128, 128],
    [64, 50],
  ])('codes of more numbers than any cache holds, in %i×%i, are decoded as few are', (h, w) => {
    const [few, times, cols] = [128, 129, 1024];
    const size = few * times * cols;
    const part = new Arena(5).scaled(few, cols, [h, w]);
    const { codes, scales } = scaledArrays(part);
    const [manyCodes, manyScales] = [new Uint8Array(size), new Float32Array(scales.length * times)];
    for (let i = 0; i < times; i += 1) {
      manyCodes.set(codes, i * codes.length);
      manyScales.set(scales, i * scales.length);
    }
    const whole = { ...part, codes: viewOf(manyCodes), scales: viewOf(manyScales) };
    const storage = native.createStorage(4 * size) as CpuStorage;
    const byteOffset = storage.lineStart ?? 0;
    const expected = new Float32Array(few * cols);
    reference.dequantize(viewOf(expected), part, { rows: few, cols });
    for (const isa of native.isas) {
      native.setIsa(isa);
      const out = { storage, byteOffset, dtype: 'f32', size } as const;
      native.dequantize(out, whole, { rows: few * times, cols });
      const values = new Float32Array(storage.buffer, byteOffset, size);
      for (let i = 0; i < times; i += 1)
        expectSameBits(
          values.subarray(i * expected.length, (i + 1) * expected.length),
          expected,
          `${isa}, rows from ${String(i * few)} on`,
        );
    }
  });

  test('an instruction set that is not there is refused', () => {
    expect(() => {
      native.setIsa('sse9');
    }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_CONFIG_ISA' }));
    expect(native.isa).toBe(bestIsa);
  });

  for (const kernel of kernelNames)
    test(`${kernel}: as the reference, on ${native.isas.join(', ')}`, () => {
      for (const { label, tolerance, run } of [...cases, ...largeCases].filter(
        (c) => c.kernel === kernel,
      )) {
        const expected = run(reference, new Arena(1));
        for (const isa of native.isas) {
          native.setIsa(isa);
          let first: Readonly<Record<string, ViewArray>> | null = null;
          for (const threads of isa === bestIsa ? [1, 2, 3] : [2]) {
            native.setThreads(threads);
            const arena = new Arena(1);
            const actual = run(native, arena);
            arena.verify();
            for (const [name, values] of Object.entries(actual)) {
              const what = `${isa}, ${String(threads)} threads, ${label}: ${name}`;
              if (first) expectSameBits(values, first[name], `${what}, against fewer threads`);
              else if (tolerance === 'bits') expectSameBits(values, expected[name], what);
              else expectClose(values, expected[name], tolerance, what);
            }
            first ??= actual;
          }
        }
      }
    });
});
