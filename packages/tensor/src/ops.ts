// The tape's basic operations. Each calls kernels forward, and records which calls make its gradient.
import type { Parameter } from './parameter';
import type { Tape } from './tape';
import { shapeError, type Tensor } from './tensor';

/**
 * a + b.
 * @param tape - the tape
 * @param a - FP32
 * @param b - FP32 of the same size
 * @returns the sum, in a's shape
 */
export function add(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const out = tape.empty(a.shape);
  tape.kernels.add(out, a, b);
  tape.record({
    name: 'add',
    inputs: [a, b],
    outputs: [out],
    saved: [],
    backward: ([grad]) => [grad, grad],
  });
  return out;
}

/**
 * RMSNorm: x / √(mean x² + ε) · weight, row by row.
 * @param tape - the tape
 * @param x - [rows, cols] FP32
 * @param weight - [cols]
 * @param epsilon - ε
 * @returns [rows, cols]
 */
export function rmsNorm(tape: Tape, x: Tensor, weight: Parameter, epsilon: number): Tensor {
  const [rows, cols] = matrixShape(x);
  const out = tape.empty(x.shape);
  const rstd = tape.empty([rows]);
  tape.kernels.rmsNorm(out, rstd, x, weight.data, { rows, cols, epsilon });
  tape.record({
    name: 'rmsNorm',
    inputs: [x],
    outputs: [out],
    saved: [x, rstd],
    backward: ([grad]) => (grad ? [rmsNormGradient(tape, grad, x, weight, rstd)] : []),
  });
  return out;
}

/**
 * The gradient of `rmsNorm`; the weight's is added to.
 * @param tape - the tape
 * @param grad - of the output
 * @param x - the input
 * @param weight - the weight
 * @param rstd - what forward kept
 * @returns the input's
 */
export function rmsNormGradient(
  tape: Tape,
  grad: Tensor,
  x: Tensor,
  weight: Parameter,
  rstd: Tensor,
): Tensor {
  const [rows, cols] = matrixShape(x);
  const dx = tape.empty(x.shape);
  tape.kernels.rmsNormBackward(dx, weight.grad, grad, x, weight.data, rstd, { rows, cols });
  return dx;
}

/**
 * SwiGLU: silu(gate) · up.
 * @param tape - the tape
 * @param gate - FP32
 * @param up - FP32 of the same size
 * @returns the product
 */
export function swiglu(tape: Tape, gate: Tensor, up: Tensor): Tensor {
  const out = tape.empty(gate.shape);
  tape.kernels.swiglu(out, gate, up);
  tape.record({
    name: 'swiglu',
    inputs: [gate, up],
    outputs: [out],
    saved: [gate, up],
    backward: ([grad]) => (grad ? swigluGradients(tape, grad, gate, up) : []),
  });
  return out;
}

/**
 * The gradients of `swiglu`.
 * @param tape - the tape
 * @param grad - of the output
 * @param gate - an input
 * @param up - the other
 * @returns those of gate and up
 */
export function swigluGradients(tape: Tape, grad: Tensor, gate: Tensor, up: Tensor): Tensor[] {
  const dgate = tape.empty(gate.shape);
  const dup = tape.empty(up.shape);
  tape.kernels.swigluBackward(dgate, dup, grad, gate, up);
  return [dgate, dup];
}

/**
 * Rows of a table.
 * @param tape - the tape
 * @param weight - [vocab, cols]
 * @param ids - [rows] I32
 * @returns [rows, cols]
 */
export function embedding(tape: Tape, weight: Parameter, ids: Tensor): Tensor {
  const [vocab, cols] = matrixShape(weight.data);
  const rows = ids.size;
  const out = tape.empty([rows, cols]);
  tape.kernels.embedding(out, weight.data, ids, { rows, cols });
  tape.record({
    name: 'embedding',
    inputs: [],
    outputs: [out],
    saved: [ids],
    backward: ([grad]) => {
      if (!grad) return [];
      tape.deferWeightGrad('embedding', [grad, ids], () => {
        tape.kernels.embeddingBackward(weight.grad, grad, ids, { rows, cols, vocab });
      });
      return [];
    },
  });
  return out;
}

/**
 * Columns of a matrix as matrices of their own.
 * @param tape - the tape
 * @param x - [rows, Σ widths]
 * @param widths - columns of each part
 * @returns the parts
 */
export function splitColumns(tape: Tape, x: Tensor, widths: readonly number[]): Tensor[] {
  const [rows, cols] = matrixShape(x);
  let end = 0;
  const parts = widths.map((width) => {
    const offset = end;
    end += width;
    if (end > cols) throw shapeError(`columns ${offset} … ${end} of a matrix of ${cols}`);
    return { out: tape.empty([rows, width]), width, offset };
  });
  for (const { out, width, offset } of parts)
    tape.kernels.copyStrided(out, x, {
      rows,
      cols: width,
      outStride: width,
      xStride: cols,
      xOffset: offset,
    });
  const outputs = parts.map(({ out }) => out);
  tape.record({
    name: 'splitColumns',
    inputs: [x],
    outputs,
    saved: [],
    backward: (grads) => {
      const covered = end === cols && parts.every((_, index) => grads[index] !== undefined);
      const dx = covered ? tape.empty(x.shape) : tape.zeros(x.shape);
      parts.forEach(({ width, offset }, index) => {
        const grad = grads[index];
        if (grad)
          tape.kernels.copyStrided(dx, grad, {
            rows,
            cols: width,
            outStride: cols,
            outOffset: offset,
            xStride: width,
          });
      });
      return [dx];
    },
  });
  return outputs;
}

/**
 * Matrices side by side.
 * @param tape - the tape
 * @param parts - each [rows, its width]
 * @returns [rows, Σ widths]
 */
export function concatColumns(tape: Tape, parts: readonly Tensor[]): Tensor {
  const shapes = parts.map(matrixShape);
  const rows = shapes[0]?.[0] ?? 0;
  const cols = shapes.reduce((sum, [, width]) => sum + width, 0);
  const out = tape.empty([rows, cols]);
  const each = (visit: (part: Tensor, width: number, offset: number) => void): void => {
    let offset = 0;
    parts.forEach((part) => {
      const width = matrixShape(part)[1];
      visit(part, width, offset);
      offset += width;
    });
  };
  each((part, width, offset) => {
    tape.kernels.copyStrided(out, part, {
      rows,
      cols: width,
      outStride: cols,
      outOffset: offset,
      xStride: width,
    });
  });
  tape.record({
    name: 'concatColumns',
    inputs: parts,
    outputs: [out],
    saved: [],
    backward: ([grad]) => {
      if (!grad) return [];
      const grads: Tensor[] = [];
      each((part, width, offset) => {
        const dpart = tape.empty(part.shape);
        tape.kernels.copyStrided(dpart, grad, {
          rows,
          cols: width,
          outStride: width,
          xStride: cols,
          xOffset: offset,
        });
        grads.push(dpart);
      });
      return grads;
    },
  });
  return out;
}

/**
 * Cuts every sequence: rows `start … start + count` of each of `batch` sequences.
 * @param tape - the tape
 * @param x - [batch · length, cols]
 * @param batch - sequences
 * @param start - first row kept of each
 * @param count - rows kept of each
 * @returns [batch · count, cols]
 */
export function sliceSequences(
  tape: Tape,
  x: Tensor,
  batch: number,
  start: number,
  count: number,
): Tensor {
  const [rows, cols] = matrixShape(x);
  const length = rows / batch;
  if (!Number.isInteger(length) || start < 0 || start + count > length)
    throw shapeError(`rows ${start} … ${start + count} of ${batch} sequences in ${rows} rows`);
  const out = tape.empty([batch * count, cols]);
  // A sequence is one long row here.
  const kept = { rows: batch, cols: count * cols };
  const whole = { stride: length * cols, offset: start * cols };
  tape.kernels.copyStrided(out, x, {
    ...kept,
    outStride: kept.cols,
    xStride: whole.stride,
    xOffset: whole.offset,
  });
  tape.record({
    name: 'sliceSequences',
    inputs: [x],
    outputs: [out],
    saved: [],
    backward: ([grad]) => {
      if (!grad) return [];
      const dx = tape.zeros(x.shape);
      tape.kernels.copyStrided(dx, grad, {
        ...kept,
        outStride: whole.stride,
        outOffset: whole.offset,
        xStride: kept.cols,
      });
      return [dx];
    },
  });
  return out;
}

/**
 * Matrices on top of each other.
 * @param tape - the tape
 * @param parts - each [its rows, cols]
 * @returns [Σ rows, cols]
 */
export function concatRows(tape: Tape, parts: readonly Tensor[]): Tensor {
  if (parts.length === 1) return parts[0];
  const shapes = parts.map(matrixShape);
  const cols = shapes[0]?.[1] ?? 0;
  const out = tape.empty([shapes.reduce((sum, [rows]) => sum + rows, 0), cols]);
  const rowsOf = (matrix: Tensor): Tensor[] => {
    let start = 0;
    return shapes.map(([rows]) => {
      const slice = matrix.rows(start, rows);
      start += rows;
      return slice;
    });
  };
  rowsOf(out).forEach((slice, index) => {
    tape.kernels.copy(slice, parts[index]);
  });
  tape.record({
    name: 'concatRows',
    inputs: parts,
    outputs: [out],
    saved: [],
    backward: ([grad]) => (grad ? rowsOf(grad) : []),
  });
  return out;
}

/** Rows and columns of a matrix; leading axes count as rows.
 * @param x - a tensor with at least one axis
 * @returns [rows, cols]
 */
export function matrixShape(x: { readonly shape: readonly number[] }): [number, number] {
  const cols = x.shape.at(-1) ?? 1;
  const rows = x.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  return [rows, cols];
}
