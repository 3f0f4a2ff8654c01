// Products of quantised matrices in any format and block shape, by the kernels' own definition of how products are summed
// (kernels' reference/product.ts; §3.3.2).
import {
  type DecodedMatrix,
  decodeArray,
  exponentsOf,
  multiplyDecoded,
  type Summation,
  transposeDecoded,
} from '@baleen/kernels';

import { blockOf, type QuantizedMatrix } from './matrix';

/** The axis of a matrix that a product sums over. */
export type Axis = 'rows' | 'cols';

/** A matrix ready to multiply, as it lies. */
function decoded(x: QuantizedMatrix): DecodedMatrix {
  const { rows, cols, codes, scales } = x;
  const [blockRows, blockCols] = blockOf(x);
  return {
    rows,
    cols,
    values: decodeArray(codes, x.format),
    exponents: exponentsOf(codes, x.format),
    scales: { values: scales, cols: Math.ceil(cols / blockCols), blockRows, blockCols },
  };
}

/**
 * c [rows of a, rows of b] = a · bᵀ, rows being those that are not summed over.
 * @param c - the result; added to where `accumulate`
 * @param a - one matrix, and the axis it is summed along
 * @param b - the other
 * @param summation - how products are summed
 * @param accumulate - c = fl(c + sum)
 */
export function product(
  c: Float32Array,
  [a, alongA]: readonly [QuantizedMatrix, Axis],
  [b, alongB]: readonly [QuantizedMatrix, Axis],
  summation: Summation,
  accumulate: boolean,
): void {
  const [left, right] = [decoded(a), decoded(b)];
  multiplyDecoded(
    c,
    alongA === 'cols' ? left : transposeDecoded(left),
    alongB === 'rows' ? right : transposeDecoded(right),
    accumulate,
    summation,
  );
}
