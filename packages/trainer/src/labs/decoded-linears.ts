// Linear layers that compute what FP8 ones do, up to the rounding of FP32, and whose gradients are exact: inputs and weights
// are quantised and decoded again, products run in FP32, and gradients of outputs are not quantised at all. What an FP8
// layer's gradients differ in from these is the error of its backward pass alone.
import { dequantize, quantize, quantizeActivations } from '@baleen/fp8';
import {
  dequantize as dequantizeOnTape,
  emptyTensor,
  type LinearFactory,
  linearFactory,
  type Parameter,
  type Pools,
  type Tensor,
  writeTensor,
} from '@baleen/tensor';

/**
 * The factory: V3's forward pass, exact gradients.
 * @returns a factory for a decoder in FP8
 */
export function decodedLinears(): LinearFactory {
  return linearFactory({
    precision: 'fp8',
    prepare: (tape, x, powerOfTwo) =>
      dequantizeOnTape(tape, quantizeActivations(tape, x, { powerOfTwo })),
    weight: decodedWeight,
    gradient: (_, grad) => ({ rowwise: grad, columnwise: grad }),
    columnwise: (_, x) => x,
  });
}

function decodedWeight({ kernels }: Pools, weight: Parameter): Tensor {
  const [rows, cols] = weight.shape.slice(-2);
  return weight.derived(
    'decoded',
    (pool) => emptyTensor(pool, weight.shape),
    (form) => {
      const values = weight.data.readSync() as Float32Array;
      // Every expert has blocks of its own.
      const stack = values.length / (rows * cols);
      const quantized = quantize(values, { rows, cols, stack }, { block: '128x128', kernels });
      writeTensor(form, dequantize(quantized, { kernels }));
    },
  );
}
