// `benchKernels`: peaks, shares and the cases of the contract; and every case runs.
import { nativeKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { kernelCases } from '../src/bench-kernel-cases';
import { benchKernels } from '../src/index';

const native = nativeKernels();

test('the cases count the work of what they run', () => {
  const find = (kernel: string) => kernelCases().filter((one) => one.kernel === kernel);
  expect(find('gemm-fp8').map(({ shape, work }) => [shape, work])).toEqual([
    [[1024, 1024, 1024], 2 * 1024 ** 3],
  ]);
  // Pairs that see each other: 8 sequences × 8 heads × 256 · 257 / 2, over 64 + 32 columns.
  expect(find('attention-forward')[0]).toMatchObject({
    shape: [8, 256, 8, 64, 32],
    work: 2 * 64 * ((256 * 257) / 2) * 96,
    of: 'bf16Dot',
  });
  // 8 heads of 2 · (576 + 512) operations a token, and 1,152 bytes of it, the queries and outputs beside.
  const [latent] = find('latent-attention');
  expect(latent).toMatchObject({ shape: [228, 1024, 8], work: 228 * 1024 * 8 * 2 * 1088 });
  expect(latent.bytes).toBe(228 * (1024 * 1152 + 2 * 8 * 1088));
  expect(find('adamw')[0]).toMatchObject({ shape: [2 ** 24], work: 20 * 2 ** 24, of: 'copy' });
  // FP32 read once, a byte of codes written.
  expect(find('rms-norm-quantize')[0]).toMatchObject({ work: (4 + 1) * 2 ** 24, of: 'copy' });
  expect(find('swiglu-quantize')[0]).toMatchObject({ work: (8 + 1) * 2 ** 24, of: 'copy' });
  // A byte of codes read, FP32 written, whatever shares a scale.
  for (const blocks of ['1x128', '128x1', '128x128'])
    expect(find(`dequantize-${blocks}`)).toMatchObject([
      { shape: [16384, 1024], work: (1 + 4) * 2 ** 24, of: 'copy', everyThread: true },
    ]);
  const shapes = new Set(kernelCases().map(({ kernel, shape }) => `${kernel} ${shape.join('×')}`));
  expect(shapes.size).toBe(kernelCases().length);
});

describe.skipIf(native === null)('measured', () => {
  if (!native) return;
  test('rates and shares hold together, on one thread and on several', async () => {
    const threads = native.threads;
    const shares: number[] = [];
    const { peak, peaks, cases } = await benchKernels({
      only: 'grouped-gemm-fp8',
      threads: 2,
      seconds: 0,
      onProgress: (share) => shares.push(share),
    });
    expect(peaks.map((each) => each.threads)).toEqual([1, 2]);
    const { threads: one, ...own } = peaks[0];
    expect(one).toBe(1);
    expect(peak).toEqual(own);
    for (const rate of Object.values(own)) expect(rate).toBeGreaterThan(0);
    expect(cases.map((one) => [one.kernel, one.threads])).toEqual([
      ['grouped-gemm-fp8', 1],
      ['grouped-gemm-fp8-weight-gradient', 1],
      ['grouped-gemm-fp8', 2],
      ['grouped-gemm-fp8-weight-gradient', 2],
    ]);
    for (const one of cases) {
      const own = peaks.find((each) => each.threads === one.threads);
      expect(one.gbps).toBeUndefined();
      expect(one.ofPeak).toBeCloseTo((one.gflops ?? 0) / one.peak, 10);
      expect(one.peak).toBeLessThanOrEqual(own?.bf16Dot ?? 0);
      expect(one.ofPeak).toBeGreaterThan(0);
    }
    expect(shares).toEqual([0.25, 0.5, 0.75, 1]);
    expect(native.threads).toBe(threads);
  });

  test('a name that no kernel has is refused, with the names there are', async () => {
    await expect(benchKernels({ only: 'gemv' })).rejects.toMatchObject({
      code: 'ERR_BALEEN_USAGE_ONLY',
      hint: expect.stringContaining('gemm-fp8') as string,
    });
  });

  test('quantise and dequantise read GB/s beside the copy', async () => {
    const { peak, cases } = await benchKernels({
      only: 'quantize-128x128',
      threads: 1,
      seconds: 0,
    });
    expect(peak.copy).toBeGreaterThan(0);
    expect(cases.map(({ kernel, of }) => [kernel, of])).toEqual([
      ['quantize-128x128', 'copy'],
      ['dequantize-128x128', 'copy'],
    ]);
    for (const { gbps = 0, ofPeak, peak: copy } of cases)
      expect(ofPeak).toBeCloseTo(gbps / copy, 10);
  });

  test('decoding is held against arithmetic or reading, whichever takes longer', async () => {
    const { cases, peaks } = await benchKernels({
      only: 'latent-attention',
      threads: 1,
      seconds: 0,
      scale: 1 / 64,
    });
    expect(cases.map(({ shape }) => shape[2])).toEqual([8, 16, 128, 8, 16, 128]);
    for (const { of, peak, gflops = 0, ofPeak, roofline } of cases) {
      const { intensity = 0, ridge = 0 } = roofline ?? {};
      expect(of).toBe(intensity > ridge ? 'bf16Dot' : 'read');
      // Readings between which the kernel ran may be lower than the highest.
      expect(peak).toBeLessThanOrEqual(
        Math.min(peaks[0].bf16Dot, intensity * peaks[0].read) * 1.001,
      );
      expect(ofPeak).toBeCloseTo(gflops / peak, 10);
    }
  });

  test('every case runs', () => {
    for (const one of kernelCases(0.01)) {
      if (one.shape.includes(4096)) continue; // the same kernels as at 256, for seconds
      const run = one.prepare(native);
      expect(run, one.kernel).not.toThrow();
    }
  });
});
