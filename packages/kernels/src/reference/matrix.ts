// Matrix products of the reference: transposes are made and groups cut out, so that every product becomes
// c [m, n] = a [m, k] · b [k, n] (product.ts).
import type { GemmSizes, GroupedGemmSizes, GroupedGemmWeightSizes } from '../kernels';
import { f32, i32, isScaled, type Operand, type View } from '../storage';
import { decode, multiply, promotion, transpose } from './product';

/** See `Kernels.gemm`. */
export function gemm(c: View, a: Operand, b: Operand, sizes: GemmSizes): void {
  const { m, n, k, transA = false, transB = false, accumulate = false } = sizes;
  const left = transA ? transpose(decode(a, 0, k, m)) : decode(a, 0, m, k);
  const right = transB ? transpose(decode(b, 0, n, k)) : decode(b, 0, k, n);
  multiply(f32(c), left, right, accumulate);
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
  let aScaleRow = 0;
  for (let g = 0; g < groups; g += 1) {
    const [first, last] = [starts[g], starts[g + 1]];
    if (first === last) continue;
    const left = decode(a, first, last - first, k, aScaleRow);
    const own = decode(b, g * bRows, bRows, bCols, g * bScaleRows);
    const right = transB ? transpose(own) : own;
    multiply(out.subarray(first * n, last * n), left, right, accumulate);
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
  let scaleRow = 0;
  for (let g = 0; g < groups; g += 1) {
    const first = starts[g];
    const rows = starts[g + 1] - first;
    const left = transpose(decode(a, first, rows, m, scaleRow));
    const right = decode(b, first, rows, n, scaleRow);
    multiply(out.subarray(g * m * n, (g + 1) * m * n), left, right, accumulate);
    scaleRow += Math.ceil(rows / promotion);
  }
}
