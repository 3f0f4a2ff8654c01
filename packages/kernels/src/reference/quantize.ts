// Quantisation of the reference: FP8 and E5M6 in blocks with online scales (§3.3.2). The blocks themselves are in
// ../blocks.ts, which does the same in every format.
import { type BlockSizes, type Blocks, decodeBlocks, encodeBlocks, scaleBlocks } from '../blocks';
import { emptyCodes, encodeBf16Array } from '../codec';
import type { FusedQuantizeSizes, QuantizeSizes } from '../kernels';
import { pack12, unpack12 } from '../packed12';
import { bf16, f32, formatOf, i32, type ScaledView, type View, viewOf } from '../storage';
import { rmsNorm, swiglu } from './layers';
import { bytesOf } from './memory';

function blockSizes(
  { blockRows, blockCols }: ScaledView,
  { rows, cols, offsets, stack = 1 }: QuantizeSizes,
): BlockSizes {
  return {
    rows,
    cols,
    blockRows,
    blockCols,
    stack,
    ...(offsets && { borders: i32(offsets) }),
  };
}

function quantizeValues(view: ScaledView, x: Float32Array, sizes: QuantizeSizes): void {
  const blocks = blockSizes(view, sizes);
  const scales = f32(view.scales);
  const format = formatOf(view);
  const bytes = bytesOf(view.codes);
  const codes = format === 'e5m6' ? emptyCodes(format, x.length) : bytes;
  const out: Blocks = { format, codes, scales };
  scaleBlocks(out, x, blocks, sizes);
  encodeBlocks(out, x, blocks);
  if (format === 'e5m6') pack12(codes as Uint16Array, { out: bytes });
}

function decoded(view: ScaledView, rows: number, cols: number): Float32Array {
  const format = formatOf(view);
  const bytes = bytesOf(view.codes);
  const codes = format === 'e5m6' ? unpack12(bytes, { count: rows * cols }) : bytes;
  const out = new Float32Array(rows * cols);
  const sizes = blockSizes(view, { rows, cols });
  decodeBlocks(out, { format, codes, scales: f32(view.scales) }, sizes);
  return out;
}

/** See `Kernels.quantize`. */
export function quantize(out: ScaledView, x: View, sizes: QuantizeSizes): void {
  quantizeValues(out, f32(x), sizes);
}

/** See `Kernels.quantizeBoth`. */
export function quantizeBoth(
  rowwise: ScaledView,
  columnwise: ScaledView,
  x: View,
  sizes: QuantizeSizes,
): void {
  const { rows, cols, powerOfTwo = false } = sizes;
  quantizeValues(rowwise, f32(x), { rows, cols, powerOfTwo });
  quantizeValues(columnwise, f32(x), sizes);
}

/** See `Kernels.requantize`. */
export function requantize(out: ScaledView, x: ScaledView, sizes: QuantizeSizes): void {
  quantizeValues(out, decoded(x, sizes.rows, sizes.cols), sizes);
}

/** See `Kernels.dequantize`. */
export function dequantize(
  out: View,
  x: ScaledView,
  { rows, cols }: { rows: number; cols: number },
): void {
  const values = decoded(x, rows, cols);
  if (out.dtype === 'f32') f32(out).set(values);
  else encodeBf16Array(values, bf16(out));
}

/** See `Kernels.rmsNormQuantize`. */
export function rmsNormQuantize(
  quantized: ScaledView,
  y: View | null,
  rstd: View,
  x: View,
  weight: View,
  sizes: FusedQuantizeSizes & { epsilon: number },
): void {
  const out = y ?? viewOf(new Float32Array(x.size));
  rmsNorm(out, rstd, x, weight, sizes);
  quantize(quantized, out, sizes);
}

/** See `Kernels.swigluQuantize`. */
export function swigluQuantize(
  quantized: ScaledView,
  gate: View,
  up: View,
  sizes: FusedQuantizeSizes,
): void {
  const out = viewOf(new Float32Array(gate.size));
  swiglu(out, gate, up);
  quantize(quantized, out, sizes);
}
