// Quantisation of the reference: E4M3 and E5M6 in blocks with online scales (§3.3.2). The blocks themselves are in
// ../blocks.ts, which does the same in every format.
import { type BlockSizes, type Blocks, decodeBlocks, encodeBlocks, scaleBlocks } from '../blocks';
import { emptyCodes, encodeBf16Array } from '../codec';
import type { FusedQuantizeSizes, QuantizeSizes } from '../kernels';
import { pack12, unpack12 } from '../packed12';
import { bf16, e4m3, f32, i32, type ScaledView, type View, viewOf } from '../storage';
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
  const packed = view.codes.dtype === 'e5m6' ? emptyCodes('e5m6', x.length) : null;
  const out: Blocks = packed
    ? { format: 'e5m6', codes: packed, scales }
    : { format: 'e4m3', codes: e4m3(view.codes), scales };
  scaleBlocks(out, x, blocks, sizes);
  encodeBlocks(out, x, blocks);
  if (packed) pack12(packed, { out: bytesOf(view.codes) });
}

function decoded(view: ScaledView, rows: number, cols: number): Float32Array {
  const scales = f32(view.scales);
  const x: Blocks =
    view.codes.dtype === 'e5m6'
      ? { format: 'e5m6', codes: unpack12(bytesOf(view.codes), { count: rows * cols }), scales }
      : { format: 'e4m3', codes: e4m3(view.codes), scales };
  const out = new Float32Array(rows * cols);
  decodeBlocks(out, x, blockSizes(view, { rows, cols }));
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
