// Views as lists of numbers, and numbers rounded to the type of a view: what the literal kernels read and write with.
import { bf16, e4m3, f32, i32, type View } from '@baleen/kernels';

import * as literal from './literal';

const word = new DataView(new ArrayBuffer(4));

/** The value of a BF16 pattern. */
export function fromBf16(pattern: number): number {
  word.setUint32(0, pattern * 65536);
  return word.getFloat32(0);
}

/** The nearer of the two BF16 neighbours of an FP32 value; the even one of a tie. */
export function toBf16(x: number): number {
  word.setFloat32(0, x);
  const low = word.getUint16(0);
  if (Number.isNaN(x)) return 0x7fc0;
  if (!Number.isFinite(Math.fround(x))) return low;
  // Beyond the largest value the next pattern, infinity, counts as 2¹²⁸.
  const high = (low & 0x7fff) === 0x7f7f ? 2 ** 128 : Math.abs(fromBf16(low + 1));
  const [below, above] = [Math.abs(x) - Math.abs(fromBf16(low)), high - Math.abs(x)];
  return below < above || (below === above && low % 2 === 0) ? low : low + 1;
}

function fromE4m3(code: number): number {
  const magnitude = code % 128 === 127 ? NaN : literal.e4m3Magnitudes[code % 128];
  return code >= 128 ? -magnitude : magnitude;
}

/** The nearest E4M3 code, saturated. */
export function toE4m3(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  const sign = x < 0 || Object.is(x, -0) ? 128 : 0;
  return sign + literal.nearest(literal.e4m3Magnitudes, Math.abs(x));
}

/** A view's numbers. */
export function read(view: View): number[] {
  if (view.dtype === 'bf16') return Array.from(bf16(view), fromBf16);
  if (view.dtype === 'e4m3') return Array.from(e4m3(view), fromE4m3);
  return Array.from(view.dtype === 'f32' ? f32(view) : i32(view));
}

/** Writes numbers, rounded to the view's type. */
export function write(view: View, values: readonly number[]): void {
  if (view.dtype === 'bf16') bf16(view).set(values.map((x) => toBf16(Math.fround(x))));
  else if (view.dtype === 'f32') f32(view).set(values);
  else i32(view).set(values);
}

/** The elements of a matrix, row by row. */
export function grid<T>(rows: number, cols: number, value: (r: number, c: number) => T): T[] {
  return Array.from({ length: rows * cols }, (_, i) => value(Math.floor(i / cols), i % cols));
}
