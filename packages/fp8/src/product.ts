// Products of quantised matrices in any format, block shape and way of accumulating, one element at a time: the readable
// definition, in the order that the kernels' contract fixes for E4M3 (kernels' contract/matrix.ts, `gemm`; §3.3.2).
import { decodeArray } from '@baleen/kernels';

import { exponentsOf, type Factors, type TensorCore, tensorCoreSum } from './hopper';
import { blockOf, type QuantizedMatrix } from './matrix';

/** The axis of a matrix that a product sums over. */
export type Axis = 'rows' | 'cols';

/** One side of a product: rows of k factors each, whatever way the matrix lies. */
interface Side extends Factors {
  rows: number;
  k: number;
  /** Length of a block along k. */
  block: number;
  /** Scale of a row from factor k0 on. */
  scale: (row: number, k0: number) => number;
}

function sideOf(x: QuantizedMatrix, along: Axis, exponents: boolean): Side {
  const { rows, cols, codes, scales } = x;
  const [blockRows, blockCols] = blockOf(x);
  const scaleCols = Math.ceil(cols / blockCols);
  const scaleAt = (r: number, c: number): number =>
    scales[Math.floor(r / blockRows) * scaleCols + Math.floor(c / blockCols)];
  const turned = along === 'cols' ? codes : transposed(codes, rows, cols);
  return {
    ...(along === 'cols'
      ? { rows, k: cols, block: blockCols }
      : { rows: cols, k: rows, block: blockRows }),
    scale: along === 'cols' ? scaleAt : (row, k0) => scaleAt(k0, row),
    values: decodeArray(turned, x.format),
    exponents: exponents ? exponentsOf(turned, x.format) : new Int16Array(0),
  };
}

function transposed(
  codes: Uint8Array | Uint16Array,
  rows: number,
  cols: number,
): Uint8Array | Uint16Array {
  const out = codes.slice();
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < cols; c += 1) out[c * rows + r] = codes[r * cols + c];
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

/** Σ a · b in FP32, one product after the other, each addition rounded. */
function floatSum(
  a: Float32Array,
  aAt: number,
  b: Float32Array,
  bAt: number,
  count: number,
): number {
  let sum = 0;
  for (let i = 0; i < count; i += 1) sum = Math.fround(sum + Math.fround(a[aAt + i] * b[bAt + i]));
  return sum;
}

/** How products are summed. */
export interface Summation {
  /** Products between promotions of the partial sum. */
  promotion: number;
  /** What adds the products up; FP32 without. */
  tensorCore?: TensorCore;
}

/**
 * c [rows of a, rows of b] = a · bᵀ: partial sums of the products, each promoted as sum = fl(sum + fl(partial · s)) with
 * s = fl(scale of a · scale of b).
 * @param c - the result; added to where `accumulate`
 * @param a - one matrix, and the axis it is summed along
 * @param b - the other
 * @param summation - how products are summed
 * @param accumulate - c = fl(c + sum)
 */
export function product(
  c: Float32Array,
  a: readonly [QuantizedMatrix, Axis],
  b: readonly [QuantizedMatrix, Axis],
  { promotion, tensorCore }: Summation,
  accumulate: boolean,
): void {
  const { fround } = Math;
  const left = sideOf(...a, tensorCore !== undefined);
  const right = sideOf(...b, tensorCore !== undefined);
  const { k } = left;
  const borders = bordersOf(k, [promotion, left.block, right.block]);
  for (let i = 0; i < left.rows; i += 1)
    for (let j = 0; j < right.rows; j += 1) {
      let sum = 0;
      let k0 = 0;
      for (const k1 of borders) {
        const [aAt, bAt] = [i * k + k0, j * k + k0];
        const partial = tensorCore
          ? fround(tensorCoreSum(left, aAt, right, bAt, k1 - k0, tensorCore))
          : floatSum(left.values, aAt, right.values, bAt, k1 - k0);
        const scale = fround(left.scale(i, k0) * right.scale(j, k0));
        sum = fround(sum + fround(partial * scale));
        k0 = k1;
      }
      const at = i * right.rows + j;
      c[at] = accumulate ? c[at] + sum : sum;
    }
}
