// The number formats, once: E4M3 (FP8) and BF16, to and from FP32.
//
// E4M3FN (OCP FP8): sign, 4 exponent bits with bias 7, 3 mantissa bits. No infinity; 0x7f and 0xff are NaN; the largest
// value is 448 = 1.75 · 2⁸, the smallest subnormal 2⁻⁹.

/** The largest E4M3 value. */
export const e4m3Max = 448;

const e4m3Values: Float32Array = Float32Array.from({ length: 256 }, (_, code) => {
  const exponent = (code >> 3) & 15;
  const mantissa = code & 7;
  if ((code & 127) === 127) return NaN;
  const magnitude = exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7);
  return code & 128 ? -magnitude : magnitude;
});

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
  for (let i = 0; i < codes.length; i += 1) out[i] = e4m3Values[codes[i]];
  return out;
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
