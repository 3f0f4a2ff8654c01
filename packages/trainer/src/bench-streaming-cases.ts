// What `bench kernels` measures of kernels that memory bounds: each streams a matrix, and is held against the copy.
import { writeTensor } from '@baleen/tensor';

import type { KernelCase } from './bench-case';
import { block, Operands } from './bench-operands';

/** Kernels that stream a matrix of FP32 of r rows: [rows, cols] (parameters for AdamW). */
export function streamingCases(r: number): KernelCase[] {
  const c = 1024;
  const count = r * c;
  const streamed = (
    kernel: string,
    bytesAnElement: number,
    prepare: KernelCase['prepare'],
    shape: readonly number[] = [r, c],
  ): KernelCase => ({
    kernel,
    shape,
    of: 'copy',
    work: bytesAnElement * count,
    everyThread: true,
    prepare,
  });
  const quantizer = (name: string, blockRows: number, blockCols: number): KernelCase =>
    streamed(`quantize-${name}`, 5, (kernels) => {
      const make = new Operands(kernels);
      const [x, out] = [make.f32(r, c), make.scaled([r, c], blockRows, blockCols)];
      return () => {
        kernels.quantize(out, x, { rows: r, cols: c });
      };
    });
  // A byte of codes read, FP32 written.
  const dequantizer = (name: string, blockRows: number, blockCols: number): KernelCase =>
    streamed(`dequantize-${name}`, 5, (kernels) => {
      const make = new Operands(kernels);
      const [x, out] = [make.fp8([r, c], blockRows, blockCols), make.f32(r, c)];
      return () => {
        kernels.dequantize(out, x, { rows: r, cols: c });
      };
    });
  return [
    streamed('rms-norm', 8, (kernels) => {
      const make = new Operands(kernels);
      const [out, rstd, x, weight] = [make.f32(r, c), make.f32(r), make.f32(r, c), make.f32(c)];
      return () => {
        kernels.rmsNorm(out, rstd, x, weight, { rows: r, cols: c, epsilon: 1e-6 });
      };
    }),
    streamed('swiglu', 12, (kernels) => {
      const make = new Operands(kernels);
      const [out, gate, up] = [make.f32(r, c), make.f32(r, c), make.f32(r, c)];
      return () => {
        kernels.swiglu(out, gate, up);
      };
    }),
    quantizer('1x128', 1, block),
    quantizer('128x1', block, 1),
    quantizer('128x128', block, block),
    dequantizer('1x128', 1, block),
    dequantizer('128x1', block, 1),
    dequantizer('128x128', block, block),
    // A gradient read once, and its codes both ways.
    streamed('quantize-both', 6, (kernels) => {
      const make = new Operands(kernels);
      const x = make.f32(r, c);
      const [rowwise, columnwise] = [make.scaled([r, c], 1, block), make.scaled([r, c], block, 1)];
      return () => {
        kernels.quantizeBoth(rowwise, columnwise, x, { rows: r, cols: c });
      };
    }),
    // A norm and an activation encoded where they are made: FP32 read, codes written.
    streamed('rms-norm-quantize', 5, (kernels) => {
      const make = new Operands(kernels);
      const [out, rstd] = [make.scaled([r, c], 1, block), make.f32(r)];
      const [x, weight] = [make.f32(r, c), make.f32(c)];
      return () => {
        const sizes = { rows: r, cols: c, epsilon: 1e-6 };
        kernels.rmsNormQuantize(out, null, rstd, x, weight, sizes);
      };
    }),
    streamed('swiglu-quantize', 9, (kernels) => {
      const make = new Operands(kernels);
      const [out, gate, up] = [make.scaled([r, c], 1, block), make.f32(r, c), make.f32(r, c)];
      return () => {
        kernels.swigluQuantize(out, gate, up, { rows: r, cols: c });
      };
    }),
    // FP32 parameter and BF16 moments read and written, the gradient read: 20 bytes a parameter.
    streamed(
      'adamw',
      20,
      (kernels) => {
        const make = new Operands(kernels);
        const [parameter, gradient] = [make.f32(count), make.f32(count)];
        const [first, second] = [make.bf16(count), make.bf16(count)];
        kernels.fill(second, 1);
        const [factor, finite] = [make.f32(1), make.i32([1])];
        kernels.fill(factor, 1);
        const rates = make.f32(3);
        writeTensor(rates, Float32Array.of(1e-6, 1.5, 2.5));
        return () => {
          kernels.adamw(parameter, gradient, first, second, factor, finite, rates, {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weightDecay: 0.1,
          });
        };
      },
      [count],
    ),
  ];
}
