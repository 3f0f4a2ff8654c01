// The codec: numbers to codes and back, one by one and in arrays. formats.ts describes the formats and has the mechanism
// that serves all of them; E4M3 and BF16, which training lives on, have faster ways of their own here, to the same bits.
import {
  type CodesOf,
  encodePattern,
  type FormatName,
  formats,
  roundingOf,
  valuesOf,
} from './formats';

/** The largest E4M3 value. */
export const e4m3Max: number = formats.e4m3.max;

const e4m3Values: Float32Array = valuesOf(formats.e4m3);

/** Tables that have been asked for. */
const tables: Partial<Record<FormatName, Float32Array>> = { e4m3: e4m3Values };

/** All values of a format by code.
 * @param format - its name
 * @returns a shared table of 2^bits values; do not write to it
 */
export function formatTable(format: FormatName): Float32Array {
  return (tables[format] ??= valuesOf(formats[format]));
}

/** All 256 E4M3 values by code.
 * @returns a shared table; do not write to it
 */
export function e4m3Table(): Float32Array {
  return e4m3Values;
}

/** The value of an E4M3 code.
 * @param code - 0 … 255
 * @returns its value, NaN for 0x7f and 0xff
 */
export function decodeE4M3(code: number): number {
  return e4m3Values[code & 255];
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/**
 * The nearest E4M3 code, ties to even, saturated at ±448.
 * @param x - rounded to FP32 first
 * @returns the code; NaN gives 0x7f or 0xff
 */
export function encodeE4M3(x: number): number {
  float[0] = x;
  const pattern = bits[0];
  const sign = (pattern >>> 24) & 0x80;
  const magnitude = pattern & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7f;
  if (magnitude >= 0x43e00000) return sign | 0x7e; // 448 and above, infinity too
  if (magnitude < 0x3c800000) {
    // Below 2⁻⁶ codes count multiples of 2⁻⁹.
    const steps = Math.abs(float[0]) * 512;
    const down = Math.floor(steps);
    const rest = steps - down;
    return sign | (rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down);
  }
  // Round away the 20 lowest mantissa bits, then move the exponent's bias from 127 to 7.
  const rounded = magnitude + 0x7ffff + ((magnitude >>> 20) & 1);
  return sign | Math.min((rounded >>> 20) - (120 << 3), 0x7e);
}

/** How numbers are encoded. */
export interface EncodeOptions {
  /**
   * Values that round beyond the largest become the largest (default); otherwise infinity, or NaN where the format has
   * none. Zero in `e8m0`, which has none, becomes the smallest value (default), or NaN.
   */
  saturate?: boolean;
}

/**
 * Makes the function that encodes single numbers to a format: the nearest code, ties to even.
 * @param format - its name
 * @param options - what happens beyond the largest value
 * @returns a function from numbers, rounded to FP32 first, to codes
 *
 * @example
 * ```ts
 * import { encoder } from '@baleen/kernels';
 * const encode = encoder('e5m2');
 * console.log(encode(1.5), encode(-Infinity), encoder('e5m2', { saturate: false })(-Infinity)); // => 62 251 252
 * ```
 */
export function encoder(format: FormatName, options: EncodeOptions = {}): (x: number) => number {
  const { saturate = true } = options;
  if (format === 'e4m3' && saturate) return encodeE4M3;
  const rounding = roundingOf(formats[format], saturate);
  return (x) => {
    float[0] = x;
    return encodePattern(bits[0], rounding);
  };
}

/** Encodes an array to a format, value by value: the nearest codes, ties to even.
 * @param x - values
 * @param format - its name
 * @param options - what happens beyond the largest value; and where the codes go, as many as values
 * @returns the codes
 */
export function encodeArray<F extends FormatName>(
  x: Float32Array,
  format: F,
  options: EncodeOptions & { out?: CodesOf<F> } = {},
): CodesOf<F> {
  const { saturate = true } = options;
  const out = options.out ?? emptyCodes(format, x.length);
  if (format === 'e4m3' && saturate) {
    encodeE4M3Array(x, out as Uint8Array);
    return out;
  }
  const rounding = roundingOf(formats[format], saturate);
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < words.length; i += 1) out[i] = encodePattern(words[i], rounding);
  return out;
}

/** Decodes an array of a format's codes.
 * @param codes - codes
 * @param format - its name
 * @param options - where the values go, as many as codes
 * @returns the values
 */
export function decodeArray<F extends FormatName>(
  codes: CodesOf<F>,
  format: F,
  options: { out?: Float32Array } = {},
): Float32Array {
  const out = options.out ?? new Float32Array(codes.length);
  const table = formatTable(format);
  for (let i = 0; i < codes.length; i += 1) out[i] = table[codes[i]];
  return out;
}

/** Room for codes.
 * @param format - the format's name
 * @param length - how many
 * @returns zeroed codes
 */
export function emptyCodes<F extends FormatName>(format: F, length: number): CodesOf<F> {
  const Codes = formats[format].bits > 8 ? Uint16Array : Uint8Array;
  return new Codes(length) as CodesOf<F>;
}

/** The value of a BF16 bit pattern.
 * @param pattern - 16 bits
 * @returns its value
 */
export function decodeBf16(pattern: number): number {
  bits[0] = pattern << 16;
  return float[0];
}

/**
 * The nearest BF16 bit pattern, ties to even.
 * @param x - rounded to FP32 first
 * @returns 16 bits; NaN stays a (quiet) NaN
 */
export function encodeBf16(x: number): number {
  float[0] = x;
  return roundToBf16(bits[0]);
}

/** The upper half of an FP32 pattern, rounded to nearest even; a NaN becomes quiet. */
function roundToBf16(pattern: number): number {
  if ((pattern & 0x7fffffff) > 0x7f800000) return (pattern >>> 16) | 0x40;
  return (pattern + 0x7fff + ((pattern >>> 16) & 1)) >>> 16;
}

/** Encodes an array to E4M3, value by value.
 * @param x - values
 * @param out - codes, as many; made if absent
 * @returns the codes
 */
export function encodeE4M3Array(
  x: Float32Array,
  out: Uint8Array = new Uint8Array(x.length),
): Uint8Array {
  for (let i = 0; i < x.length; i += 1) out[i] = encodeE4M3(x[i]);
  return out;
}

/** Decodes an array of E4M3 codes.
 * @param codes - codes
 * @param out - values, as many; made if absent
 * @returns the values
 */
export function decodeE4M3Array(
  codes: Uint8Array,
  out: Float32Array = new Float32Array(codes.length),
): Float32Array {
  return decodeArray(codes, 'e4m3', { out });
}

/** Rounds an array to BF16 patterns.
 * @param x - values
 * @param out - patterns, as many; made if absent
 * @returns the patterns
 */
export function encodeBf16Array(
  x: Float32Array,
  out: Uint16Array = new Uint16Array(x.length),
): Uint16Array {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < words.length; i += 1) out[i] = roundToBf16(words[i]);
  return out;
}

/** Decodes an array of BF16 patterns.
 * @param patterns - patterns
 * @param out - values, as many; made if absent
 * @returns the values
 */
export function decodeBf16Array(
  patterns: Uint16Array,
  out: Float32Array = new Float32Array(patterns.length),
): Float32Array {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < patterns.length; i += 1) words[i] = patterns[i] << 16;
  return out;
}
