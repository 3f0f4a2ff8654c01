// Quantisation of the reference: blocks with online scales (§3.3.2).
import { decodeE4M3, e4m3Max, encodeBf16Array, encodeE4M3 } from '../codec';
import type { FusedQuantizeSizes, QuantizeSizes } from '../kernels';
import { bf16, e4m3, f32, i32, type ScaledView, type View, viewOf } from '../storage';
import { rmsNorm, swiglu } from './layers';

/** Smallest amax a scale is made from, as in V3's published inference code. */
const amaxFloor: number = Math.fround(1e-4);

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The scale of a block: fl(max(amax, 1e-4) / 448), or the power of two at or above that. */
function blockScale(amax: number, powerOfTwo: boolean): number {
  float[0] = Math.max(amax, amaxFloor) / e4m3Max;
  // Any mantissa bit carries into the exponent, and then none is left.
  if (powerOfTwo) bits[0] = (bits[0] + 0x7fffff) & 0x7f800000;
  return float[0];
}

/** Calls `visit` with the borders of every block, row of blocks by row of blocks, and the number of its scale. */
function forBlocks(
  { rows, cols, offsets, stack = 1 }: QuantizeSizes,
  { blockRows, blockCols }: ScaledView,
  visit: (r0: number, r1: number, c0: number, c1: number, scaleAt: number) => void,
): void {
  const borders = offsets
    ? i32(offsets)
    : Int32Array.from({ length: stack + 1 }, (_, i) => i * rows);
  let scaleAt = 0;
  for (let g = 0; g + 1 < borders.length; g += 1) {
    const [first, last] = [borders[g], borders[g + 1]];
    for (let r0 = first; r0 < last; r0 += blockRows)
      for (let c0 = 0; c0 < cols; c0 += blockCols) {
        visit(r0, Math.min(last, r0 + blockRows), c0, Math.min(cols, c0 + blockCols), scaleAt);
        scaleAt += 1;
      }
  }
}

function quantizeValues(out: ScaledView, x: Float32Array, sizes: QuantizeSizes): void {
  const { cols, powerOfTwo = false } = sizes;
  const [codes, scales] = [e4m3(out.codes), f32(out.scales)];
  forBlocks(sizes, out, (r0, r1, c0, c1, scaleAt) => {
    let amax = 0;
    for (let r = r0; r < r1; r += 1)
      for (let c = c0; c < c1; c += 1) {
        const magnitude = Math.abs(x[r * cols + c]);
        if (magnitude > amax) amax = magnitude; // never a NaN
      }
    const scale = blockScale(amax, powerOfTwo);
    scales[scaleAt] = scale;
    for (let r = r0; r < r1; r += 1)
      for (let c = c0; c < c1; c += 1) codes[r * cols + c] = encodeE4M3(x[r * cols + c] / scale);
  });
}

function decoded(x: ScaledView, rows: number, cols: number): Float32Array {
  const [codes, scales] = [e4m3(x.codes), f32(x.scales)];
  const out = new Float32Array(rows * cols);
  forBlocks({ rows, cols }, x, (r0, r1, c0, c1, scaleAt) => {
    const scale = scales[scaleAt];
    for (let r = r0; r < r1; r += 1)
      for (let c = c0; c < c1; c += 1) out[r * cols + c] = decodeE4M3(codes[r * cols + c]) * scale;
  });
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
