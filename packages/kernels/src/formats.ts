// The number formats as data, and the one mechanism that reads it: how a code becomes a value and a value its nearest
// code. codec.ts has the functions on values and arrays, with faster ways for the formats that training lives on.

/** A number format by name. */
export type FormatName = 'e4m3' | 'e5m2' | 'e5m6' | 'e8m0' | 'bf16';

/** The array that holds a format's codes, one an element: formats of 8 bits in bytes, wider ones in 16-bit words. */
export type CodesOf<F extends FormatName> = F extends 'e5m6' | 'bf16' ? Uint16Array : Uint8Array;

/** A binary floating-point format of at most 16 bits. */
export interface NumberFormat<F extends FormatName = FormatName> {
  /** Its name here. */
  readonly name: F;
  /** Bits of a code. */
  readonly bits: number;
  /** Whether the top bit is a sign. */
  readonly signed: boolean;
  /** Exponent bits. */
  readonly exponentBits: number;
  /** Mantissa bits, without the leading one that is not stored. */
  readonly mantissaBits: number;
  /** A stored exponent e stands for 2^(e − bias). */
  readonly bias: number;
  /** Whether exponent 0 holds zero and subnormals; otherwise it is a power of two like any other. */
  readonly subnormals: boolean;
  /**
   * What is no number: `ieee` takes the largest exponent for infinity and NaN; `nan` only the code that is all ones
   * (beside the sign), for NaN.
   */
  readonly specials: 'ieee' | 'nan';
  /** The largest value. */
  readonly max: number;
  /** The smallest positive value. */
  readonly min: number;
}

/** Formats by name. */
export type NumberFormats = { readonly [F in FormatName]: NumberFormat<F> };

/**
 * The formats of V3's training.
 *
 * - `e4m3` and `e5m2` are FP8 as the Open Compute Project specifies it (E4M3 is the variant "FN": finite, one NaN).
 * - `e5m6` holds the inputs of linear layers after attention (§3.3.3). The paper gives its widths alone; bias and
 *   specials here are IEEE's for 5 exponent bits, so that a code is a binary16 number without its 4 last bits, as E5M2
 *   is one without its 8 last.
 * - `e8m0` is the exponent of a scale (UE8M0, from OCP's Microscaling formats): no sign, no zero, powers of two alone.
 * - `bf16` is the upper half of FP32.
 */
export const formats: NumberFormats = {
  e4m3: {
    name: 'e4m3',
    bits: 8,
    signed: true,
    exponentBits: 4,
    mantissaBits: 3,
    bias: 7,
    subnormals: true,
    specials: 'nan',
    max: 448,
    min: 2 ** -9,
  },
  e5m2: {
    name: 'e5m2',
    bits: 8,
    signed: true,
    exponentBits: 5,
    mantissaBits: 2,
    bias: 15,
    subnormals: true,
    specials: 'ieee',
    max: 57344,
    min: 2 ** -16,
  },
  e5m6: {
    name: 'e5m6',
    bits: 12,
    signed: true,
    exponentBits: 5,
    mantissaBits: 6,
    bias: 15,
    subnormals: true,
    specials: 'ieee',
    max: 65024,
    min: 2 ** -20,
  },
  e8m0: {
    name: 'e8m0',
    bits: 8,
    signed: false,
    exponentBits: 8,
    mantissaBits: 0,
    bias: 127,
    subnormals: false,
    specials: 'nan',
    max: 2 ** 127,
    min: 2 ** -127,
  },
  bf16: {
    name: 'bf16',
    bits: 16,
    signed: true,
    exponentBits: 8,
    mantissaBits: 7,
    bias: 127,
    subnormals: true,
    specials: 'ieee',
    max: (2 - 2 ** -7) * 2 ** 127,
    min: 2 ** -133,
  },
};

/** What rounding to a format needs, worked out once. */
export interface Rounding {
  /** FP32's sign bit, and how far to the right it goes; nothing where there is no sign. */
  readonly signMask: number;
  readonly signShift: number;
  /** Mantissa bits. */
  readonly mantissaBits: number;
  /** FP32's stored exponent of the format's smallest normal value. */
  readonly least: number;
  /** Code of the largest value. */
  readonly largest: number;
  /** What becomes of values that round beyond the largest. */
  readonly beyond: number;
  /** What becomes of zero. */
  readonly zero: number;
  /** Code of NaN. */
  readonly nan: number;
}

/**
 * How a format rounds.
 * @param format - the format
 * @param saturate - values beyond the largest become the largest; otherwise infinity, or NaN where there is none
 * @returns what `encodePattern` takes
 */
export function roundingOf(format: NumberFormat, saturate: boolean): Rounding {
  const { bits, signed, mantissaBits, bias, specials, subnormals } = format;
  const ones = 2 ** (signed ? bits - 1 : bits) - 1;
  const infinity = ones - (2 ** mantissaBits - 1);
  // A quiet NaN sets the mantissa's first bit.
  const nan = specials === 'ieee' ? infinity + 2 ** (mantissaBits - 1) : ones;
  const largest = (specials === 'ieee' ? infinity : ones) - 1;
  const strict = specials === 'ieee' ? infinity : nan;
  return {
    signMask: signed ? 0x80000000 : 0,
    signShift: 32 - bits,
    mantissaBits,
    least: 128 - bias,
    largest,
    beyond: saturate ? largest : strict,
    // Without a zero the nearest value is the smallest.
    zero: subnormals || saturate ? 0 : nan,
    nan,
  };
}

/**
 * The code nearest to an FP32 number, ties to the even mantissa.
 *
 * Above the format's smallest normal value the mantissa loses its last bits; below it one bit more for each power of
 * two, so that what remains counts multiples of the smallest subnormal. The leading one stays in what remains and,
 * added to the exponent, raises it by one: exponent 0 with a leading one is the smallest normal value, and a mantissa
 * that rounds up to the next power of two becomes that power by itself.
 * @param pattern - the number's bits
 * @param rounding - from `roundingOf`
 * @returns the code; a number below zero has none in an unsigned format, and becomes NaN
 */
export function encodePattern(pattern: number, rounding: Rounding): number {
  const { mantissaBits, least, signMask } = rounding;
  const magnitude = pattern & 0x7fffffff;
  const sign = (pattern & signMask) >>> rounding.signShift;
  if (magnitude > 0x7f800000) return sign | rounding.nan;
  if (magnitude === 0) return sign | rounding.zero;
  if (signMask === 0 && pattern >>> 31 === 1) return rounding.nan;
  const stored = magnitude >>> 23;
  const exponent = Math.max(1, stored);
  const significand = (magnitude & 0x7fffff) | (stored === 0 ? 0 : 0x800000);
  const drop = 23 - mantissaBits + Math.max(0, least - exponent);
  if (drop > 24) return sign; // less than half of the smallest value
  const half = (1 << (drop - 1)) - 1 + ((significand >>> drop) & 1);
  const code = (Math.max(0, exponent - least) << mantissaBits) + ((significand + half) >>> drop);
  return sign | (code > rounding.largest ? rounding.beyond : code);
}

/**
 * The values of all of a format's codes.
 * @param format - the format
 * @returns 2^bits values, by code
 */
export function valuesOf(format: NumberFormat): Float32Array {
  const { bits, signed, exponentBits, mantissaBits, bias, subnormals, specials } = format;
  const ones = 2 ** (exponentBits + mantissaBits) - 1;
  return Float32Array.from({ length: 2 ** bits }, (_, code) => {
    const sign = signed && code > ones ? -1 : 1;
    const exponent = (code & ones) >>> mantissaBits;
    const fraction = (code & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
    if (specials === 'nan' && (code & ones) === ones) return NaN;
    if (specials === 'ieee' && exponent === 2 ** exponentBits - 1)
      return fraction === 0 ? sign * Infinity : NaN;
    if (subnormals && exponent === 0) return sign * fraction * 2 ** (1 - bias);
    return sign * (1 + fraction) * 2 ** (exponent - bias);
  });
}
