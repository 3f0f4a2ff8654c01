// A norm and an activation that are quantised where they are made: one reading of their input, one node of the tape. The
// values, the gradients and their bits are those of the operation and of a quantisation after it, whose gradient passes
// unchanged.
import { matrixShape, rmsNormGradient, swigluGradients } from './ops';
import type { Parameter } from './parameter';
import type { Tape } from './tape';
import type { ScaledTensor, Tensor } from './tensor';

/**
 * `rmsNorm` of x, quantised into `out`.
 * @param tape - the tape
 * @param out - 1×128 tiles of x's shape; its scale format says how scales are chosen
 * @param x - [rows, cols] FP32
 * @param weight - [cols]
 * @param epsilon - ε
 * @param keep - whether the normed values are wanted in FP32 as well
 * @returns those, or null
 */
export function rmsNormInto(
  tape: Tape,
  out: ScaledTensor,
  x: Tensor,
  weight: Parameter,
  epsilon: number,
  keep: boolean,
): Tensor | null {
  const [rows, cols] = matrixShape(x);
  const normed = keep ? tape.empty(x.shape) : null;
  const rstd = tape.empty([rows]);
  tape.kernels.rmsNormQuantize(out, normed, rstd, x, weight.data, {
    rows,
    cols,
    epsilon,
    powerOfTwo: out.scaleFormat === 'powerOfTwo',
  });
  tape.record({
    name: 'rmsNorm quantize',
    inputs: [x],
    outputs: normed ? [out, normed] : [out],
    saved: [x, rstd],
    backward: ([first, second]) => {
      const grad = sumOf(tape, first, second);
      return grad ? [rmsNormGradient(tape, grad, x, weight, rstd)] : [];
    },
  });
  return normed;
}

/**
 * `swiglu` of gate and up, quantised into `out`.
 * @param tape - the tape
 * @param out - 1×128 tiles of their shape; its scale format says how scales are chosen
 * @param gate - [rows, cols] FP32
 * @param up - FP32 of the same shape
 */
export function swigluInto(tape: Tape, out: ScaledTensor, gate: Tensor, up: Tensor): void {
  const [rows, cols] = matrixShape(gate);
  tape.kernels.swigluQuantize(out, gate, up, {
    rows,
    cols,
    powerOfTwo: out.scaleFormat === 'powerOfTwo',
  });
  tape.record({
    name: 'swiglu quantize',
    inputs: [gate, up],
    outputs: [out],
    saved: [gate, up],
    backward: ([grad]) => (grad ? swigluGradients(tape, grad, gate, up) : []),
  });
}

/** What flows back into one value from two names of it. */
function sumOf(tape: Tape, a: Tensor | undefined, b: Tensor | undefined): Tensor | undefined {
  if (!a || !b) return a ?? b;
  const sum = tape.empty(a.shape);
  tape.kernels.add(sum, a, b);
  return sum;
}
