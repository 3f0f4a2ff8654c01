// Rows gathered and summed: what happens at both ends of a leg. Sums are in FP32, in the order of the rows.
//
// The kernels sum as many rows for each result. Where there are fewer, a result's own first row is added again with weight 0:
// that adds nothing, and rows that are not finite do not reach the results of others.
import { type Kernels, type ViewArray, viewOf } from '@baleen/kernels';

/** Which rows make up each of n results. */
export interface Sums {
  /** Results. */
  count: number;
  /** Rows of each, K of them [n, K]. */
  rows: Int32Array;
  /** Which of them count: 1, or 0 [n, K]. */
  present: Float32Array;
  /** K. */
  width: number;
  /** Results without rows. */
  empty: readonly number[];
}

/**
 * Which rows make up results.
 * @param count - results
 * @param of - the result that each row adds to, −1 for none
 * @returns rows of each, ascending
 */
export function sumsOf(count: number, of: Int32Array): Sums {
  const counts = new Int32Array(count);
  for (const result of of) if (result >= 0) counts[result] += 1;
  const width = counts.reduce((most, n) => Math.max(most, n), 0);
  const rows = new Int32Array(count * width);
  const present = new Float32Array(count * width);
  const filled = new Int32Array(count);
  of.forEach((result, row) => {
    if (result < 0) return;
    const at = result * width + filled[result]++;
    rows[at] = row;
    present[at] = 1;
  });
  const empty: number[] = [];
  for (let n = 0; n < count; n += 1) {
    if (counts[n] === 0) empty.push(n);
    rows.fill(rows[n * width], n * width + counts[n], (n + 1) * width);
  }
  return { count, rows, present, width, empty };
}

/**
 * Sums rows.
 * @param kernels - the kernels
 * @param out - results [n, cols]; zeros where there are no rows
 * @param y - rows [.., cols]
 * @param sums - which rows make up each
 * @param cols - width of a row
 * @param weights - a factor for each row (default 1)
 */
export function sumRows(
  kernels: Kernels,
  out: Float32Array,
  y: Float32Array,
  { count, rows, present, width, empty }: Sums,
  cols: number,
  weights?: Float32Array,
): void {
  if (empty.length === count) {
    out.fill(0);
    return;
  }
  const factors = weights
    ? present.map((counts, at) => (counts === 0 ? 0 : weights[rows[at]]))
    : present;
  kernels.unpermute(viewOf(out), viewOf(y), viewOf(rows), viewOf(factors), {
    tokens: count,
    k: width,
    cols,
    rows: y.length / cols,
  });
  for (const n of empty) out.fill(0, n * cols, (n + 1) * cols);
}

/**
 * Gathers rows, bit for bit.
 * @param kernels - the kernels
 * @param out - [rows.length, cols]
 * @param x - [.., cols], of the same type
 * @param rows - which, −1 for a row of zeros
 * @param cols - width of a row
 */
export function gatherRows(
  kernels: Kernels,
  out: ViewArray,
  x: ViewArray,
  rows: Int32Array,
  cols: number,
): void {
  if (rows.length === 0) return;
  if (x.length === 0) {
    out.fill(0);
    return;
  }
  const sizes = { rows: rows.length, k: 1, cols, tokens: x.length / cols };
  kernels.permute(viewOf(out), viewOf(x), viewOf(rows), sizes);
}

/**
 * Where each of n values lies in a list that names each once at most.
 * @param count - n
 * @param list - values, −1 for none
 * @returns places [n], −1 for what is not in it
 */
export function placesOf(count: number, list: Int32Array): Int32Array {
  const places = new Int32Array(count).fill(-1);
  list.forEach((value, place) => {
    if (value >= 0) places[value] = place;
  });
  return places;
}
