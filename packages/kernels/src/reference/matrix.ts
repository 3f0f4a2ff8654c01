// Matrix products of the reference: transposes are made and groups cut out, so that every product becomes
// c [m, n] = a [m, k] · b [k, n] (product.ts).
import type { GemmSizes, GroupedGemmSizes, GroupedGemmWeightSizes } from '../kernels';
import { f32, i32, isScaled, type Operand, type View } from '../storage';
import { summationOf } from '../summation';
import { decode, multiply, transpose } from './product';

/** See `Kernels.gemm`. */
export function gemm(c: View, a: Operand, b: Operand, sizes: GemmSizes): void {
  const { m, n, k, transA = false, transB = false, accumulate = false } = sizes;
  const summation = summationOf(sizes);
  const decoded = (x: Operand, rows: number, cols: number) =>
    decode(x, 0, rows, cols, 0, summation);
  const left = transA ? transpose(decoded(a, k, m)) : decoded(a, m, k);
  const right = transB ? transpose(decoded(b, n, k)) : decoded(b, k, n);
  multiply(f32(c), left, right, accumulate, summation);
}

/** See `Kernels.groupedGemm`. */
export function groupedGemm(
  c: View,
  a: Operand,
  b: Operand,
  offsets: View,
  sizes: GroupedGemmSizes,
): void {
  const { groups, n, k, transB = false, accumulate = false } = sizes;
  const [out, starts] = [f32(c), i32(offsets)];
  const [bRows, bCols] = transB ? [n, k] : [k, n];
  const bScaleRows = isScaled(b) ? Math.ceil(bRows / b.blockRows) : 0;
  const aBlockRows = isScaled(a) ? a.blockRows : 1;
  const summation = summationOf(sizes);
  let aScaleRow = 0;
  for (let g = 0; g < groups; g += 1) {
    const [first, last] = [starts[g], starts[g + 1]];
    if (first === last) continue;
    const left = decode(a, first, last - first, k, aScaleRow, summation);
    const own = decode(b, g * bRows, bRows, bCols, g * bScaleRows, summation);
    const right = transB ? transpose(own) : own;
    multiply(out.subarray(first * n, last * n), left, right, accumulate, summation);
    aScaleRow += Math.ceil((last - first) / aBlockRows);
  }
}

/** See `Kernels.groupedGemmWeight`. */
export function groupedGemmWeight(
  c: View,
  a: Operand,
  b: Operand,
  offsets: View,
  sizes: GroupedGemmWeightSizes,
): void {
  const { groups, m, n, accumulate = false } = sizes;
  const [out, starts] = [f32(c), i32(offsets)];
  const blockRows = isScaled(a) ? a.blockRows : 1;
  const summation = summationOf(sizes);
  let scaleRow = 0;
  for (let g = 0; g < groups; g += 1) {
    const first = starts[g];
    const rows = starts[g + 1] - first;
    const left = transpose(decode(a, first, rows, m, scaleRow, summation));
    const right = decode(b, first, rows, n, scaleRow, summation);
    multiply(out.subarray(g * m * n, (g + 1) * m * n), left, right, accumulate, summation);
    scaleRow += Math.ceil(rows / blockRows);
  }
}
