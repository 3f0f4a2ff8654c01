// How Hopper's tensor cores add up FP8 products, in plain arithmetic (§3.3.2, §3.5.2). An instruction takes 32 products:
// all are shifted to the largest exponent among them, what falls below the bits that are kept is cut off (not rounded),
// and the rest is added exactly.
//
// The exponent of a product is the sum of its factors' exponents, as hardware has it before the product itself is known:
// the product of their significands lies in [1, 4). A subnormal factor has the exponent of the smallest normal value and
// a significand below 1. Products that are zero take no part. This is how measurements on H100 describe `wgmma`
// (Xie et al., MMA-Sim, arXiv 2511.10909: products and accumulator cut at 13 fraction bits, the sum as well).
import { type FormatName, formats } from '../formats';
import type { TensorCore } from '../summation';

/** Products of one instruction. */
const instruction = 32;

/** Exponent of zeros, and what lies below every product of other numbers and above every product with a zero. */
const [zero, none] = [-(2 ** 14), -(2 ** 13)];

/** 2^e by e + 1023; the first is subnormal, and an infinite sum is scaled by it. */
const powers: Float64Array = Float64Array.from({ length: 2047 }, (_, i) => 2 ** (i - 1023));

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
/** Where the exponent is: the high word, on machines of either byte order. */
const high: number = new Uint8Array(new Uint16Array([1]).buffer)[0];

/** e of 2^e ≤ |x| < 2^(e + 1), for x of a double's normal range. */
function exponentOf(x: number): number {
  double[0] = x;
  return ((words[high] >>> 20) & 0x7ff) - 1023;
}

/**
 * Exponents of codes as a multiplier sees them: those of subnormals are the smallest normal's.
 * @param codes - codes
 * @param format - their format
 * @returns an exponent each
 */
export function exponentsOf(codes: Uint8Array | Uint16Array, format: FormatName): Int16Array {
  const { bits, exponentBits, mantissaBits, bias } = formats[format];
  const table = Int16Array.from({ length: 2 ** bits }, (_, code) => {
    const magnitude = code & (2 ** (exponentBits + mantissaBits) - 1);
    return magnitude === 0 ? zero : Math.max(1, magnitude >>> mantissaBits) - bias;
  });
  const out = new Int16Array(codes.length);
  // Not `from`, whose iterator took twice as long as the products of a matrix of 64 rows.
  for (let i = 0; i < out.length; i += 1) out[i] = table[codes[i]];
  return out;
}

/** Factors: values and their exponents. */
export interface Factors {
  /** Values. */
  values: Float32Array;
  /** Their exponents. */
  exponents: Int16Array;
}

/**
 * Σ a[aAt + i] · b[bAt + i] over i < count, as a tensor core adds it up, from an accumulator of zero.
 * @param a - one side
 * @param aAt - where its factors begin
 * @param b - the other side
 * @param bAt - where its factors begin
 * @param count - products; the last instruction may have fewer than 32
 * @param core - how it accumulates
 * @returns the accumulator
 */
export function tensorCoreSum(
  a: Factors,
  aAt: number,
  b: Factors,
  bAt: number,
  count: number,
  core: TensorCore,
): number {
  const { values: x, exponents: ex } = a;
  const { values: y, exponents: ey } = b;
  const { fractionBits } = core;
  const aligned = core.accumulator === 'aligned';
  let sum = 0;
  for (let first = 0; first < count; first += instruction) {
    const last = Math.min(count, first + instruction);
    let top = aligned && sum !== 0 ? exponentOf(sum) : none;
    for (let i = first; i < last; i += 1) {
      const exponent = ex[aAt + i] + ey[bAt + i];
      if (exponent > top) top = exponent;
    }
    if (top === none) {
      // Nothing but zeros, unless one is 0 · NaN.
      for (let i = first; i < last; i += 1) sum += x[aAt + i] * y[bAt + i];
      continue;
    }
    const up = powers[1023 + fractionBits - top];
    // In multiples of 2^(top − fractionBits): whole numbers, which a double adds exactly.
    let total = aligned ? Math.trunc(sum * up) : 0;
    for (let i = first; i < last; i += 1) total += Math.trunc(x[aAt + i] * y[bAt + i] * up);
    total *= powers[1023 + top - fractionBits];
    sum = aligned ? cut(total, fractionBits) : Math.fround(sum + Math.fround(total));
  }
  return sum;
}

/** x without what lies more than `fractionBits` below its leading bit. */
function cut(x: number, fractionBits: number): number {
  if (x === 0) return 0;
  const exponent = exponentOf(x);
  return (
    Math.trunc(x * powers[1023 + fractionBits - exponent]) * powers[1023 + exponent - fractionBits]
  );
}
