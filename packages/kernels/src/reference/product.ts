// The product of two decoded matrices, in the one order that the contract fixes (contract/matrix.ts, `gemm`; paper §3.3.2).
//
// Storing to a Float32Array rounds to FP32, and so does Math.fround; a product of two BF16 or FP8 values is exact before
// that.
import { decodeArray, decodeBf16Array } from '../codec';
import { bf16, f32, formatOf, isScaled, type Operand } from '../storage';
import { bytesOf } from './memory';

/** Partial sums are promoted to the FP32 sum every 128 of k (§3.3.2). */
export const promotion = 128;

/** A matrix ready to multiply: decoded values, and apart from them the scales they still lack. */
export interface Matrix {
  rows: number;
  cols: number;
  /** [rows, cols]. */
  values: Float32Array;
  scales: Scales | null;
}

/** One scale a block of blockRows × blockCols values. */
interface Scales {
  /** [⌈rows / blockRows⌉, cols]. */
  values: Float32Array;
  cols: number;
  blockRows: number;
  blockCols: number;
}

/** Decodes `rows` rows of `cols` columns from row `first` on; its scales start at row `scaleRow` of the scales. */
export function decode(
  x: Operand,
  first: number,
  rows: number,
  cols: number,
  scaleRow = 0,
): Matrix {
  const [from, to] = [first * cols, (first + rows) * cols];
  if (isScaled(x)) {
    const { blockRows, blockCols } = x;
    const scaleCols = Math.ceil(cols / blockCols);
    const scaleRows = Math.ceil(rows / blockRows);
    const scales = f32(x.scales).subarray(scaleRow * scaleCols, (scaleRow + scaleRows) * scaleCols);
    return {
      rows,
      cols,
      values: decodeArray(bytesOf(x.codes).subarray(from, to), formatOf(x)),
      scales: { values: scales, cols: scaleCols, blockRows, blockCols },
    };
  }
  const values =
    x.dtype === 'bf16' ? decodeBf16Array(bf16(x).subarray(from, to)) : f32(x).subarray(from, to);
  return { rows, cols, values, scales: null };
}

function transposeValues(values: Float32Array, cols: number): Float32Array {
  const out = new Float32Array(values.length);
  const rows = values.length / cols;
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < cols; c += 1) out[c * rows + r] = values[r * cols + c];
  return out;
}

/** Rows and columns swapped, scales as well. */
export function transpose({ rows, cols, values, scales }: Matrix): Matrix {
  return {
    rows: cols,
    cols: rows,
    values: transposeValues(values, cols),
    scales: scales && {
      values: transposeValues(scales.values, scales.cols),
      cols: scales.values.length / scales.cols,
      blockRows: scales.blockCols,
      blockCols: scales.blockRows,
    },
  };
}

/** b's scales, one for every (block of k, column): [⌈k / 128⌉, n]. */
function scalesByColumn({ rows, cols, scales }: Matrix): Float32Array | null {
  if (!scales) return null;
  const blocks = Math.ceil(rows / promotion);
  const out = new Float32Array(blocks * cols);
  for (let block = 0; block < blocks; block += 1) {
    const row = Math.floor((block * promotion) / scales.blockRows) * scales.cols;
    for (let j = 0; j < cols; j += 1)
      out[block * cols + j] = scales.values[row + Math.floor(j / scales.blockCols)];
  }
  return out;
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

function scaleOfRow(scales: Scales | null, row: number, k0: number): number {
  if (!scales) return 1;
  const at = Math.floor(row / scales.blockRows) * scales.cols + Math.floor(k0 / scales.blockCols);
  return scales.values[at];
}

/** c [m, n] = a · b, or added to what c holds. */
export function multiply(c: Float32Array, a: Matrix, b: Matrix, accumulate: boolean): void {
  const [m, k, n] = [a.rows, a.cols, b.cols];
  const [acc0, acc1] = [new Float32Array(n), new Float32Array(n)];
  const [sum0, sum1] = [new Float32Array(n), new Float32Array(n)];
  const scalesB = scalesByColumn(b);
  const store = (row: number, sum: Float32Array): void => {
    const out = c.subarray(row * n, (row + 1) * n);
    if (accumulate) for (let j = 0; j < n; j += 1) out[j] = out[j] + sum[j];
    else out.set(sum);
  };
  for (let row = 0; row < m; row += 2) {
    const next = Math.min(row + 1, m - 1); // an odd last row is computed twice and stored once
    sum0.fill(0);
    sum1.fill(0);
    for (let k0 = 0; k0 < k; k0 += promotion) {
      acc0.fill(0);
      acc1.fill(0);
      const count = Math.min(promotion, k - k0);
      addProducts(acc0, acc1, a.values, row * k + k0, next * k + k0, b.values, k0, n, count);
      const scaleAt = (k0 / promotion) * n;
      promote(sum0, acc0, scaleOfRow(a.scales, row, k0), scalesB, scaleAt);
      promote(sum1, acc1, scaleOfRow(a.scales, next, k0), scalesB, scaleAt);
    }
    store(row, sum0);
    if (next > row) store(next, sum1);
  }
}
