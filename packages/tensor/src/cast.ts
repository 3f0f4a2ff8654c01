// Changes of an element type on the tape; gradients pass unchanged.
import { matrixShape } from './ops';
import type { Tape } from './tape';
import type { ScaledTensor, Tensor } from './tensor';

/**
 * The value in a product's precision, off the tape.
 * @param tape - whose memory it takes
 * @param x - FP32 (or BF16 already)
 * @param precision - FP32 leaves it as it is
 * @returns x or its BF16 form
 */
export function inPrecision(tape: Tape, x: Tensor, precision: 'fp32' | 'bf16'): Tensor {
  if (precision === 'fp32' || x.dtype === 'bf16') return x;
  const out = tape.empty(x.shape, 'bf16');
  tape.kernels.cast(out, x);
  return out;
}

/**
 * The value in a product's precision; its gradient passes unchanged.
 * @param tape - the tape
 * @param x - FP32 (or BF16 already)
 * @param precision - FP32 leaves it as it is
 * @returns x or its BF16 form
 */
export function castTo(tape: Tape, x: Tensor, precision: 'fp32' | 'bf16'): Tensor {
  const out = inPrecision(tape, x, precision);
  if (out !== x)
    tape.record({
      name: 'cast',
      inputs: [x],
      outputs: [out],
      saved: [],
      backward: ([grad]) => [grad],
    });
  return out;
}

/**
 * Decodes a scaled tensor; its gradient passes unchanged.
 * @param tape - the tape
 * @param x - [rows, cols] in FP8
 * @returns FP32
 */
export function dequantize(tape: Tape, x: ScaledTensor): Tensor {
  const [rows, cols] = matrixShape(x);
  const out = tape.empty([rows, cols]);
  tape.kernels.dequantize(out, x, { rows, cols });
  tape.record({
    name: 'dequantize',
    inputs: [x],
    outputs: [out],
    saved: [],
    backward: ([grad]) => [grad],
  });
  return out;
}
