// Filling, copying, casting and plain element-wise arithmetic of the reference.
import { decodeBf16, decodeBf16Array, encodeBf16, encodeBf16Array } from '../codec';
import type { CopyStridedSizes } from '../kernels';
import { bf16, byteSize, cpuBuffer, f32, i32, type View } from '../storage';

/** A view's bytes, whatever its type. */
export function bytesOf(view: View): Uint8Array {
  return new Uint8Array(cpuBuffer(view), view.byteOffset, byteSize(view.dtype, view.size));
}

/** See `Kernels.fill`. */
export function fill(out: View, value: number): void {
  if (out.dtype === 'f32') f32(out).fill(value);
  else if (out.dtype === 'i32') i32(out).fill(value);
  else bf16(out).fill(encodeBf16(value));
}

/** See `Kernels.copy`. */
export function copy(out: View, x: View): void {
  bytesOf(out).set(bytesOf(x));
}

/** See `Kernels.cast`. */
export function cast(out: View, x: View): void {
  if (out.dtype === 'bf16') encodeBf16Array(f32(x), bf16(out));
  else decodeBf16Array(bf16(x), f32(out));
}

/** See `Kernels.copyStrided`. */
export function copyStrided(out: View, x: View, sizes: CopyStridedSizes): void {
  const { rows, cols, outStride, outOffset = 0, xStride, xOffset = 0, accumulate } = sizes;
  const source = x.dtype === 'bf16' ? bf16(x) : f32(x);
  const target = out.dtype === 'bf16' ? bf16(out) : f32(out);
  const convert = x.dtype === out.dtype ? null : x.dtype === 'bf16' ? decodeBf16 : encodeBf16;
  for (let r = 0; r < rows; r += 1) {
    const [to, from] = [outOffset + r * outStride, xOffset + r * xStride];
    if (accumulate)
      for (let c = 0; c < cols; c += 1) target[to + c] = target[to + c] + source[from + c];
    else if (convert) for (let c = 0; c < cols; c += 1) target[to + c] = convert(source[from + c]);
    else target.set(source.subarray(from, from + cols), to);
  }
}

/** See `Kernels.add`. */
export function add(out: View, a: View, b: View): void {
  const read = out.dtype === 'i32' ? i32 : f32;
  const [result, left, right] = [read(out), read(a), read(b)];
  for (let i = 0; i < result.length; i += 1) result[i] = left[i] + right[i];
}

/** See `Kernels.scale`. */
export function scale(out: View, x: View, factor: number): void {
  const [result, values] = [f32(out), f32(x)];
  const rounded = Math.fround(factor);
  for (let i = 0; i < result.length; i += 1) result[i] = values[i] * rounded;
}
