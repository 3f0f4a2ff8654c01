// How products of FP8 are summed, as literally as it can be read: every number a multiple of 2⁻¹⁰⁰, held as a whole number
// of any size. Nothing here is shared with the reference.
import type { SummationSizes } from '@baleen/kernels';

const unit = 100;

/** A factor, and the exponent of its format's smallest normal value. */
interface Factor {
  value: number;
  low: number;
}

const whole = (x: number): bigint => BigInt(x * 2 ** (unit / 2)) << BigInt(unit / 2);
const number = (x: bigint): number => Number(x) / 2 ** unit;

/** x without what lies below 2^grid; BigInt's division goes towards zero. */
const cut = (x: bigint, grid: number): bigint => {
  const step = 1n << BigInt(unit + grid);
  return (x / step) * step;
};

/** Exponent of the leading bit. */
const top = (x: bigint): number => (x < 0n ? -x : x).toString(2).length - 1 - unit;

/** A factor's exponent: subnormal ones have the smallest normal value's. */
const exponent = ({ value, low }: Factor): number =>
  Math.max(low, Math.floor(Math.log2(Math.abs(value))));

/** The sum of some products as a tensor core makes it. */
function tensorCoreSum(
  factors: readonly (readonly [Factor, Factor])[],
  bits: number,
  aligned: boolean,
): number {
  const wild = factors.map(([x, y]) => x.value * y.value).filter((x) => !Number.isFinite(x));
  if (wild.length > 0) return wild.reduce((so, x) => so + x);
  let sum = 0n;
  for (let first = 0; first < factors.length; first += 32) {
    const some = factors.slice(first, first + 32).filter(([x, y]) => x.value * y.value !== 0);
    const exponents = some.map(([x, y]) => exponent(x) + exponent(y));
    if (aligned && sum !== 0n) exponents.push(top(sum));
    if (exponents.length === 0) continue;
    const grid = Math.max(...exponents) - bits;
    const total = some.reduce((so, [x, y]) => so + cut(whole(x.value * y.value), grid), 0n);
    if (aligned) {
      const next = cut(sum, grid) + total;
      sum = next === 0n ? 0n : cut(next, top(next) - bits);
    } else sum = whole(Math.fround(number(sum) + Math.fround(number(total))));
  }
  return Math.fround(number(sum));
}

/** One element of a product of FP8 matrices whose scales span 128 along k. */
export function summedElement(
  k: number,
  a: (kk: number) => Factor,
  b: (kk: number) => Factor,
  scale: (kk: number) => number,
  { promotion = 128, fractionBits = 0, alignedSum = false }: SummationSizes,
): number {
  const fl = Math.fround;
  let sum = 0;
  let factors: [Factor, Factor][] = [];
  for (let kk = 0; kk < k; kk += 1) {
    factors.push([a(kk), b(kk)]);
    const done = kk + 1;
    if (done < k && done % 128 !== 0 && done % promotion !== 0) continue;
    const partial =
      fractionBits === 0
        ? factors.reduce((so, [x, y]) => fl(so + fl(x.value * y.value)), 0)
        : tensorCoreSum(factors, fractionBits, alignedSum);
    sum = fl(sum + fl(partial * scale(kk)));
    factors = [];
  }
  return sum;
}
