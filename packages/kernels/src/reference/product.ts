// The product of two decoded matrices, in the one order that the contract fixes (contract/matrix.ts, `gemm`; paper §3.3.2),
// or summed another way (summation.ts).
//
// Storing to a Float32Array rounds to FP32, and so does Math.fround; a product of two BF16 or FP8 values is exact before
// that.
import { decodeArray, decodeBf16Array } from '../codec';
import { bf16, f32, formatOf, isScaled, type Operand } from '../storage';
import { type Summation, type TensorCore, v3Promotion } from '../summation';
import { bytesOf } from './memory';
import { exponentsOf, tensorCoreSum } from './tensor-core';

/** A matrix ready to multiply: decoded values, and apart from them the scales they still lack. */
export interface Matrix {
  /** Rows. */
  rows: number;
  /** Columns. */
  cols: number;
  /** Values [rows, cols]. */
  values: Float32Array;
  /** Exponents of the values' codes (`exponentsOf`), which only a tensor core asks for; else empty. */
  exponents: Int16Array;
  /** One scale a block of blockRows × blockCols values; null where values are whole. */
  scales: {
    /** [⌈rows / blockRows⌉, cols]. */
    values: Float32Array;
    /** Columns of scales. */
    cols: number;
    /** Rows of a block. */
    blockRows: number;
    /** Columns of a block. */
    blockCols: number;
  } | null;
}

const noExponents = new Int16Array(0);

/**
 * Decodes `rows` rows of `cols` columns from row `first` on; its scales start at row `scaleRow` of the scales. What a tensor
 * core multiplies gets exponents as well.
 */
export function decode(
  x: Operand,
  first: number,
  rows: number,
  cols: number,
  scaleRow = 0,
  { tensorCore }: Summation = {},
): Matrix {
  const [from, to] = [first * cols, (first + rows) * cols];
  if (isScaled(x)) {
    const { blockRows, blockCols } = x;
    const scaleCols = Math.ceil(cols / blockCols);
    const scaleRows = Math.ceil(rows / blockRows);
    const scales = f32(x.scales).subarray(scaleRow * scaleCols, (scaleRow + scaleRows) * scaleCols);
    const codes = bytesOf(x.codes).subarray(from, to);
    return {
      rows,
      cols,
      values: decodeArray(codes, formatOf(x)),
      exponents: tensorCore ? exponentsOf(codes, formatOf(x)) : noExponents,
      scales: { values: scales, cols: scaleCols, blockRows, blockCols },
    };
  }
  const values =
    x.dtype === 'bf16' ? decodeBf16Array(bf16(x).subarray(from, to)) : f32(x).subarray(from, to);
  return { rows, cols, values, exponents: noExponents, scales: null };
}

function transposeValues<A extends Float32Array | Int16Array>(values: A, cols: number): A {
  const out = values.slice() as A;
  const rows = values.length / cols;
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < cols; c += 1) out[c * rows + r] = values[r * cols + c];
  return out;
}

/**
 * Rows and columns swapped, scales as well.
 * @param matrix - the matrix
 * @returns its transpose
 */
export function transpose(matrix: Matrix): Matrix {
  const { rows, cols, values, exponents, scales } = matrix;
  return {
    rows: cols,
    cols: rows,
    values: transposeValues(values, cols),
    exponents: transposeValues(exponents, cols),
    scales: scales && {
      values: transposeValues(scales.values, scales.cols),
      cols: scales.values.length / scales.cols,
      blockRows: scales.blockCols,
      blockCols: scales.blockRows,
    },
  };
}

/** b's scales, one for every (block of k, column): [⌈k / block rows⌉, n]. */
function scalesByColumn({ rows, cols, scales }: Matrix): Float32Array | null {
  if (!scales) return null;
  const blocks = Math.ceil(rows / scales.blockRows);
  const out = new Float32Array(blocks * cols);
  for (let block = 0; block < blocks; block += 1)
    for (let j = 0; j < cols; j += 1)
      out[block * cols + j] = scales.values[block * scales.cols + Math.floor(j / scales.blockCols)];
  return out;
}

/** Where partial sums of k products end: at every promotion, and where a scale ends on either side. */
function bordersOf(k: number, lengths: readonly number[]): number[] {
  const borders = [];
  for (let at = 0; at < k; ) {
    at = Math.min(k, ...lengths.map((length) => (Math.floor(at / length) + 1) * length));
    borders.push(at);
  }
  return borders;
}

/**
 * Adds products to the accumulators of two rows of a, which start at a0 and a1:
 * acc0[j] += a[a0 + kk] · b[bRow + kk, j] for kk = 0 … count − 1 in turn, each addition rounded. Four kk at a time, and
 * two rows for each value of b, only save loads and stores.
 */
function addProducts(
  acc0: Float32Array,
  acc1: Float32Array,
  a: Float32Array,
  a0: number,
  a1: number,
  b: Float32Array,
  bRow: number,
  n: number,
  count: number,
): void {
  const { fround } = Math;
  let kk = 0;
  for (; kk + 4 <= count; kk += 4) {
    const x0 = a[a0 + kk];
    const x1 = a[a0 + kk + 1];
    const x2 = a[a0 + kk + 2];
    const x3 = a[a0 + kk + 3];
    const y0 = a[a1 + kk];
    const y1 = a[a1 + kk + 1];
    const y2 = a[a1 + kk + 2];
    const y3 = a[a1 + kk + 3];
    const at0 = (bRow + kk) * n;
    const at1 = at0 + n;
    const at2 = at1 + n;
    const at3 = at2 + n;
    for (let j = 0; j < n; j += 1) {
      const b0 = b[at0 + j];
      const b1 = b[at1 + j];
      const b2 = b[at2 + j];
      const b3 = b[at3 + j];
      acc0[j] = fround(fround(fround(acc0[j] + x0 * b0) + x1 * b1) + x2 * b2) + x3 * b3;
      acc1[j] = fround(fround(fround(acc1[j] + y0 * b0) + y1 * b1) + y2 * b2) + y3 * b3;
    }
  }
  for (; kk < count; kk += 1) {
    const x = a[a0 + kk];
    const y = a[a1 + kk];
    const at = (bRow + kk) * n;
    for (let j = 0; j < n; j += 1) {
      acc0[j] = acc0[j] + x * b[at + j];
      acc1[j] = acc1[j] + y * b[at + j];
    }
  }
}

/** sum = fl(sum + fl(acc · fl(scaleA · scaleB))) over a row, without scales fl(sum + acc). */
function promote(
  sum: Float32Array,
  acc: Float32Array,
  scaleA: number,
  scalesB: Float32Array | null,
  scaleAt: number,
): void {
  const { fround } = Math;
  if (scalesB)
    for (let j = 0; j < sum.length; j += 1) {
      const scale = fround(scaleA * scalesB[scaleAt + j]);
      sum[j] = sum[j] + fround(acc[j] * scale);
    }
  else for (let j = 0; j < sum.length; j += 1) sum[j] = sum[j] + acc[j];
}

function scaleOfRow(scales: Matrix['scales'], row: number, k0: number): number {
  if (!scales) return 1;
  const at = Math.floor(row / scales.blockRows) * scales.cols + Math.floor(k0 / scales.blockCols);
  return scales.values[at];
}

/** Makes partial sums of a row of a, and of the next where there is one: products k0 … k1 − 1 of every column of b. */
type PartialSums = (
  acc0: Float32Array,
  acc1: Float32Array,
  row: number,
  next: number,
  k0: number,
  k1: number,
) => void;

/** In FP32. */
function floatSums(a: Matrix, b: Matrix): PartialSums {
  const [k, n] = [a.cols, b.cols];
  return (acc0, acc1, row, next, k0, k1) => {
    acc0.fill(0);
    acc1.fill(0);
    const [a0, a1] = [row * k + k0, next * k + k0];
    addProducts(acc0, acc1, a.values, a0, a1, b.values, k0, n, k1 - k0);
  };
}

/** As a tensor core makes them, an element at a time. */
function tensorCoreSums(a: Matrix, b: Matrix, core: TensorCore): PartialSums {
  const k = a.cols;
  const columns = transpose(b);
  return (acc0, acc1, row, next, k0, k1) => {
    for (let j = 0; j < acc0.length; j += 1) {
      const at = j * k + k0;
      acc0[j] = tensorCoreSum(a, row * k + k0, columns, at, k1 - k0, core);
      if (next > row) acc1[j] = tensorCoreSum(a, next * k + k0, columns, at, k1 - k0, core);
    }
  };
}

/**
 * c [m, n] = a · b: partial sums of the products, each promoted as sum = fl(sum + fl(partial · s)) with
 * s = fl(scale of a · scale of b), without scales as fl(sum + partial).
 * @param c - the result; added to where `accumulate`
 * @param a - [m, k]
 * @param b - [k, n]
 * @param accumulate - c = fl(c + sum)
 * @param summation - how products are summed; a tensor core needs both matrices' exponents
 */
export function multiply(
  c: Float32Array,
  a: Matrix,
  b: Matrix,
  accumulate: boolean,
  { promotion = v3Promotion, tensorCore }: Summation = {},
): void {
  const [m, k, n] = [a.rows, a.cols, b.cols];
  const [acc0, acc1] = [new Float32Array(n), new Float32Array(n)];
  const [sum0, sum1] = [new Float32Array(n), new Float32Array(n)];
  const scalesB = scalesByColumn(b);
  const blocksOfK = [a.scales?.blockCols, b.scales?.blockRows].filter((x) => x !== undefined);
  const borders = bordersOf(k, [promotion, ...blocksOfK]);
  const partialSums = tensorCore ? tensorCoreSums(a, b, tensorCore) : floatSums(a, b);
  const store = (row: number, sum: Float32Array): void => {
    const out = c.subarray(row * n, (row + 1) * n);
    if (accumulate) for (let j = 0; j < n; j += 1) out[j] = out[j] + sum[j];
    else out.set(sum);
  };
  for (let row = 0; row < m; row += 2) {
    const next = Math.min(row + 1, m - 1); // an odd last row is computed twice and stored once
    sum0.fill(0);
    sum1.fill(0);
    let k0 = 0;
    for (const k1 of borders) {
      partialSums(acc0, acc1, row, next, k0, k1);
      const scaleAt = b.scales ? Math.floor(k0 / b.scales.blockRows) * n : 0;
      promote(sum0, acc0, scaleOfRow(a.scales, row, k0), scalesB, scaleAt);
      promote(sum1, acc1, scaleOfRow(a.scales, next, k0), scalesB, scaleAt);
      k0 = k1;
    }
    store(row, sum0);
    if (next > row) store(next, sum1);
  }
}
