// Views as lists of numbers, and numbers rounded to the type of a view: what the literal kernels read and write with.
import { bf16, cpuBuffer, e4m3, f32, i32, type View } from '@baleen/kernels';

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

/** The value of an E4M3 code. */
export function fromE4m3(code: number): number {
  const magnitude = code % 128 === 127 ? NaN : literal.e4m3Magnitudes[code % 128];
  return code >= 128 ? -magnitude : magnitude;
}

/** The nearest E4M3 code, saturated. */
export function toE4m3(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  const sign = x < 0 || Object.is(x, -0) ? 128 : 0;
  return sign + literal.nearest(literal.e4m3Magnitudes, Math.abs(x));
}

function fromE5m2(code: number): number {
  const sign = code >= 128 ? -1 : 1;
  const magnitude = code % 128;
  if (magnitude > 0x7c) return NaN;
  return sign * (magnitude === 0x7c ? Infinity : literal.e5m2Magnitudes[magnitude]);
}

/** The nearest E5M2 code, saturated. */
export function toE5m2(x: number): number {
  if (Number.isNaN(x)) return 0x7e;
  const sign = x < 0 || Object.is(x, -0) ? 128 : 0;
  return sign + literal.nearest(literal.e5m2Magnitudes, Math.abs(x));
}

function fromE5m6(code: number): number {
  const sign = code >= 2048 ? -1 : 1;
  const magnitude = code % 2048;
  if (magnitude > 0x7c0) return NaN;
  return sign * (magnitude === 0x7c0 ? Infinity : literal.e5m6Magnitudes[magnitude]);
}

/** The nearest E5M6 code, saturated. */
export function toE5m6(x: number): number {
  if (Number.isNaN(x)) return 0x7e0;
  const sign = x < 0 || Object.is(x, -0) ? 2048 : 0;
  return sign + literal.nearest(literal.e5m6Magnitudes, Math.abs(x));
}

/** Where the i-th nibble of packed codes lies, lowest first. */
const nibble = (i: number): [byte: number, factor: number] => [i >> 1, i % 2 ? 16 : 1];

function packedBytes(view: View): Uint8Array {
  return new Uint8Array(cpuBuffer(view), view.byteOffset, Math.ceil(view.size * 1.5));
}

/** The packed 12-bit codes of a view: three nibbles each. */
function readPacked(view: View): number[] {
  const bytes = packedBytes(view);
  const at = (i: number): number => {
    const [byte, factor] = nibble(i);
    return Math.floor(bytes[byte] / factor) % 16;
  };
  return Array.from(
    { length: view.size },
    (_, i) => at(3 * i) + 16 * at(3 * i + 1) + 256 * at(3 * i + 2),
  );
}

/** Writes packed 12-bit codes. */
export function writePacked(view: View, codes: readonly number[]): void {
  const bytes = packedBytes(view).fill(0);
  codes.forEach((code, i) => {
    for (let part = 0; part < 3; part += 1) {
      const [byte, factor] = nibble(3 * i + part);
      bytes[byte] += factor * (Math.floor(code / 16 ** part) % 16);
    }
  });
}

/** A view's numbers. */
export function read(view: View): number[] {
  if (view.dtype === 'bf16') return Array.from(bf16(view), fromBf16);
  if (view.dtype === 'e4m3') return Array.from(e4m3(view), fromE4m3);
  if (view.dtype === 'e5m2') return Array.from(e4m3(view), fromE5m2);
  if (view.dtype === 'e5m6') return readPacked(view).map(fromE5m6);
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
