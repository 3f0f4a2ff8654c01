// Calls are passed on as they are, and told with their memory when they have run.
import { expect, test } from 'vitest';

import { f32, type KernelCall, loadKernels, observeKernels, type View, viewOf } from '../src/index';

test('a call is told when it has run: kernel, operands, sizes, and what it wrote', () => {
  const calls: KernelCall[] = [];
  let seen = NaN;
  const kernels = observeKernels(loadKernels(), (call) => {
    calls.push(call);
    const [out] = call.operands;
    if (call.kernel === 'fill') [seen] = f32(out as View);
  });
  const x = Float32Array.of(1, -448);
  kernels.fill(viewOf(x.subarray(0, 1)), 3);
  expect(seen).toBe(3);
  const out = {
    codes: viewOf(new Uint8Array(2)),
    scales: viewOf(new Float32Array(1)),
    blockRows: 1,
    blockCols: 128,
  };
  const input = viewOf(x);
  kernels.quantize(out, input, { rows: 1, cols: 2 });
  expect(f32(out.scales)[0]).toBe(1);
  expect(calls.map(({ kernel }) => kernel)).toEqual(['fill', 'quantize']);
  expect(calls[1]).toEqual({
    kernel: 'quantize',
    operands: [out, input],
    sizes: { rows: 1, cols: 2 },
    written: [out.codes, out.scales],
  });
  // What would be made again from a recording could not be seen.
  expect(kernels.record).toBeUndefined();
});

test('a call that is refused is not told', () => {
  let told = 0;
  const kernels = observeKernels(loadKernels(), () => (told += 1));
  expect(() => {
    kernels.quantize(
      {
        codes: viewOf(new Uint8Array(1)),
        scales: viewOf(new Float32Array(1)),
        blockRows: 1,
        blockCols: 128,
      },
      viewOf(new Float32Array(2)),
      { rows: 1, cols: 2 },
    );
  }).toThrow('quantize: out holds 1 elements');
  expect(told).toBe(0);
});
