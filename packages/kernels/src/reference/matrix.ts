// Matrix products of the reference: one row of c at a time, in the order the contract fixes (kernels.ts, `gemm`).
import { decodeBf16Array, decodeE4M3Array } from '../codec';
import type {
  GemmSizes,
  GroupedGemmSizes,
  GroupedGemmWeightSizes,
} from '../kernels';
import { bf16, e4m3, f32, i32, isScaled, type Operand, type View } from '../storage';

/** Products promote to FP32 sums every 128 of k (§3.3.2). */
const promotion = 128;

/** An operand ready to multiply: values without scales, [rows, cols] row-major, and where its scales stand. */
interface Decoded {
  values: Float32Array;
  cols: number;
  /** Scale of (row, col), or null for plain operands. */
  scales: Float32Array | null;
  scaleCols: number;
  blockRows: number;
  blockCols: number;
}

function decode(operand: Operand, cols: number): Decoded {
  if (isScaled(operand)) {
    const { blockRows, blockCols } = operand;
    return {
      values: decodeE4M3Array(e4m3(operand.codes)),
      cols,
      scales: f32(operand.scales),
      scaleCols: Math.ceil(cols / blockCols),
      blockRows,
      blockCols,
    };
  }
  const values = operand.dtype === 'bf16' ? decodeBf16Array(bf16(operand)) : f32(operand);
  return { values, cols, scales: null, scaleCols: 0, blockRows: 1, blockCols: 1 };
}

/** Rows and columns swapped, scales as well. */
function transpose(x: Decoded, rows: number): Decoded {
  const { values, cols } = x;
  const out = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < cols; c += 1) out[c * rows + r] = values[r * cols + c] as number;
  if (!x.scales) return { ...x, values: out, cols: rows };
  const scaleRows = x.scales.length / x.scaleCols;
  const scales = new Float32Array(x.scales.length);
  for (let r = 0; r < scaleRows; r += 1)
    for (let c = 0; c < x.scaleCols; c += 1)
      scales[c * scaleRows + r] = x.scales[r * x.scaleCols + c] as number;
  return {
    values: out,
    cols: rows,
    scales,
    scaleCols: scaleRows,
    blockRows: x.blockCols,
    blockCols: x.blockRows,
  };
}

/** A product over rows of a [.., k] and b [k, n], both decoded; writes rows `from … to` of c. */
function multiply(
  c: Float32Array,
  cStart: number,
  a: Decoded,
  aRow: number,
  b: Decoded,
  rows: number,
  n: number,
  k: number,
  accumulate: boolean,
): void {
  const acc = new Float32Array(n);
  const sum = new Float32Array(n);
  const { fround } = Math;
  for (let i = 0; i < rows; i += 1) {
    sum.fill(0);
    for (let k0 = 0; k0 < k; k0 += promotion) {
      const k1 = Math.min(k, k0 + promotion);
      acc.fill(0);
      for (let kk = k0; kk < k1; kk += 1) {
        const x = a.values[(aRow + i) * a.cols + kk] as number;
        const row = kk * b.cols;
        // Storing to FP32 rounds; the product of two BF16 or E4M3 values is exact before it.
        for (let j = 0; j < n; j += 1)
          acc[j] = (acc[j] as number) + x * (b.values[row + j] as number);
      }
      if (a.scales && b.scales) {
        const scaleA = a.scales[
          Math.floor((aRow + i) / a.blockRows) * a.scaleCols + Math.floor(k0 / a.blockCols)
        ] as number;
        const scaleRow = Math.floor(k0 / b.blockRows) * b.scaleCols;
        for (let j = 0; j < n; j += 1) {
          const scale = fround(
            scaleA * (b.scales[scaleRow + Math.floor(j / b.blockCols)] as number),
          );
          sum[j] = (sum[j] as number) + fround((acc[j] as number) * scale);
        }
      } else for (let j = 0; j < n; j += 1) sum[j] = (sum[j] as number) + (acc[j] as number);
    }
    const start = cStart + i * n;
    if (accumulate)
      for (let j = 0; j < n; j += 1)
        c[start + j] = (c[start + j] as number) + (sum[j] as number);
    else c.set(sum, start);
  }
}

/** See `Kernels.gemm`. */
export function gemm(c: View, a: Operand, b: Operand, sizes: GemmSizes): void {
  const { m, n, k, transA = false, transB = false, accumulate = false } = sizes;
  const left = transA ? transpose(decode(a, m), k) : decode(a, k);
  const right = transB ? transpose(decode(b, k), n) : decode(b, n);
  multiply(f32(c), 0, left, 0, right, m, n, k, accumulate);
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
  const starts = i32(offsets);
  const left = decode(a, k);
  const stacked = decode(b, transB ? k : n);
  const scalesPerGroup = stacked.scales ? stacked.scales.length / groups : 0;
  for (let g = 0; g < groups; g += 1) {
    const first = starts[g] as number;
    const rows = (starts[g + 1] as number) - first;
    if (rows === 0) continue;
    const own: Decoded = {
      ...stacked,
      values: stacked.values.subarray(g * n * k, (g + 1) * n * k),
      scales: stacked.scales?.subarray(g * scalesPerGroup, (g + 1) * scalesPerGroup) ?? null,
    };
    const right = transB ? transpose(own, n) : own;
    multiply(f32(c), first * n, left, first, right, rows, n, k, accumulate);
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
  const starts = i32(offsets);
  const left = decode(a, m);
  const right = decode(b, n);
  const out = f32(c);
  let scaleRow = 0;
  for (let g = 0; g < groups; g += 1) {
    const first = starts[g] as number;
    const rows = (starts[g + 1] as number) - first;
    const blocks = Math.ceil(rows / promotion);
    const part = (x: Decoded): Decoded => ({
      ...x,
      values: x.values.subarray(first * x.cols, (first + rows) * x.cols),
      scales:
        x.scales?.subarray(scaleRow * x.scaleCols, (scaleRow + blocks) * x.scaleCols) ?? null,
    });
    multiply(out, g * m * n, transpose(part(left), rows), 0, part(right), m, n, rows, accumulate);
    scaleRow += blocks;
  }
}
