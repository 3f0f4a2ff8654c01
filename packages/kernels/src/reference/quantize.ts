// Quantisation of the reference: blocks with online scales (§3.3.2), casts and strided copies.
import { decodeBf16, decodeE4M3, e4m3Max, encodeBf16, encodeE4M3 } from '../codec';
import type { CopyStridedSizes, QuantizeSizes } from '../kernels';
import { bf16, e4m3, f32, i32, type ScaledView, type View } from '../storage';

/** Smallest amax a scale is made from, as in V3's published inference code. */
const amaxFloor = 1e-4;

/**
 * The scale of a block.
 * @param amax - largest magnitude in it
 * @param powerOfTwo - round up to a power of two
 * @returns fl(max(amax, 1e-4) / 448), or the power of two at or above it
 */
export function blockScale(amax: number, powerOfTwo: boolean): number {
  const scale = Math.fround(Math.fround(Math.max(amax, Math.fround(amaxFloor))) / e4m3Max);
  if (!powerOfTwo) return scale;
  const exponent = Math.floor(Math.log2(scale));
  let power = 2 ** exponent;
  while (power < scale) power *= 2;
  while (power / 2 >= scale) power /= 2;
  return power;
}

function quantizeValues(out: ScaledView, x: Float32Array, sizes: QuantizeSizes): void {
  const { rows, cols, powerOfTwo = false } = sizes;
  const { blockRows, blockCols } = out;
  const codes = e4m3(out.codes);
  const scales = f32(out.scales);
  const scaleCols = Math.ceil(cols / blockCols);
  const borders = sizes.offsets ? i32(sizes.offsets) : Int32Array.of(0, rows);
  let scaleRow = 0;
  for (let g = 0; g + 1 < borders.length; g += 1)
    for (let r0 = borders[g] as number; r0 < (borders[g + 1] as number); r0 += blockRows) {
      const r1 = Math.min(borders[g + 1] as number, r0 + blockRows);
      for (let c0 = 0; c0 < cols; c0 += blockCols) {
        const c1 = Math.min(cols, c0 + blockCols);
        let amax = 0;
        for (let r = r0; r < r1; r += 1)
          for (let c = c0; c < c1; c += 1) {
            const magnitude = Math.abs(x[r * cols + c] as number);
            if (magnitude > amax) amax = magnitude;
          }
        const scale = blockScale(amax, powerOfTwo);
        scales[scaleRow * scaleCols + Math.floor(c0 / blockCols)] = scale;
        for (let r = r0; r < r1; r += 1)
          for (let c = c0; c < c1; c += 1)
            codes[r * cols + c] = encodeE4M3(Math.fround((x[r * cols + c] as number) / scale));
      }
      scaleRow += 1;
    }
}

function decoded(x: ScaledView, rows: number, cols: number): Float32Array {
  const codes = e4m3(x.codes);
  const scales = f32(x.scales);
  const scaleCols = Math.ceil(cols / x.blockCols);
  const out = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < cols; c += 1)
      out[r * cols + c] =
        decodeE4M3(codes[r * cols + c] as number) *
        (scales[Math.floor(r / x.blockRows) * scaleCols + Math.floor(c / x.blockCols)] as number);
  return out;
}

/** See `Kernels.quantize`. */
export function quantize(out: ScaledView, x: View, sizes: QuantizeSizes): void {
  quantizeValues(out, f32(x), sizes);
}

/** See `Kernels.requantize`. */
export function requantize(out: ScaledView, x: ScaledView, sizes: QuantizeSizes): void {
  quantizeValues(out, decoded(x, sizes.rows, sizes.cols), sizes);
}

/** See `Kernels.dequantize`. */
export function dequantize(out: View, x: ScaledView, sizes: { rows: number; cols: number }): void {
  const values = decoded(x, sizes.rows, sizes.cols);
  if (out.dtype === 'f32') f32(out).set(values);
  else bf16(out).set(values.map(encodeBf16));
}

/** See `Kernels.cast`. */
export function cast(out: View, x: View): void {
  if (out.dtype === 'bf16') bf16(out).set(Uint16Array.from(f32(x), encodeBf16));
  else f32(out).set(Float32Array.from(bf16(x), decodeBf16));
}

/** See `Kernels.copyStrided`. */
export function copyStrided(out: View, x: View, sizes: CopyStridedSizes): void {
  const { rows, cols, outStride, outOffset = 0, xStride, xOffset = 0, accumulate } = sizes;
  const source = x.dtype === 'bf16' ? bf16(x) : f32(x);
  const target = out.dtype === 'bf16' ? bf16(out) : f32(out);
  const read = x.dtype === 'bf16' ? decodeBf16 : (value: number): number => value;
  const write = out.dtype === 'bf16' ? encodeBf16 : (value: number): number => value;
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < cols; c += 1) {
      const to = outOffset + r * outStride + c;
      const value = read(source[xOffset + r * xStride + c] as number);
      target[to] = accumulate ? (target[to] as number) + value : write(value);
    }
}
