// Sums over ranks, in their order: ((x₀ + x₁) + x₂) + …, each addition rounded, in blocks that stay in the first cache.
import { decodeBf16Array, encodeBf16Array } from '@baleen/kernels';

import { bytesOf, type CommArray, type ElementType, elementBytes } from './arrays';

/** Elements summed at a time. */
const block = 2048;

/** Arrays of numbers that JavaScript rounds to their type by itself when it writes them. */
type Rounding = Float32Array | Float64Array | Int32Array;

interface Scratch {
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  readonly i32: Int32Array;
  readonly bf16: Uint16Array;
  readonly decoded: Float32Array;
}

let scratch: Scratch | null = null;

// One function for each type: a loop over arrays of several types is several times slower.
const adders: Readonly<
  Record<
    'f32' | 'f64' | 'i32',
    (out: never, a: never, aFrom: number, b: never, bFrom: number, n: number) => void
  >
> = {
  f32(
    out: Float32Array,
    a: Float32Array,
    aFrom: number,
    b: Float32Array,
    bFrom: number,
    n: number,
  ) {
    // Two FP32 numbers added in FP64 and rounded again give what one rounding gives: 53 ≥ 2 · 24 + 2 bits.
    for (let i = 0; i < n; i += 1) out[i] = a[aFrom + i] + b[bFrom + i];
  },
  f64(
    out: Float64Array,
    a: Float64Array,
    aFrom: number,
    b: Float64Array,
    bFrom: number,
    n: number,
  ) {
    for (let i = 0; i < n; i += 1) out[i] = a[aFrom + i] + b[bFrom + i];
  },
  i32(out: Int32Array, a: Int32Array, aFrom: number, b: Int32Array, bFrom: number, n: number) {
    for (let i = 0; i < n; i += 1) out[i] = a[aFrom + i] + b[bFrom + i];
  },
};

/**
 * Adds arrays of one type and size.
 * @param outs - each gets the sum; they may be summands
 * @param xs - summands in the order of ranks
 * @param type - of all
 */
export function sumInOrder(
  outs: readonly CommArray[],
  xs: readonly CommArray[],
  type: ElementType,
): void {
  scratch ??= {
    f32: new Float32Array(block),
    f64: new Float64Array(block),
    i32: new Int32Array(block),
    bf16: new Uint16Array(block),
    decoded: new Float32Array(block),
  };
  const [first] = xs;
  const targets = outs.map(bytesOf);
  const width = elementBytes[type];
  for (let from = 0; from < first.length; from += block) {
    const n = Math.min(block, first.length - from);
    const sum = sumBlock(xs, type, from, n, scratch);
    const bytes = new Uint8Array(sum.buffer, sum.byteOffset, n * width);
    for (const target of targets) target.set(bytes, from * width);
  }
}

/** The sum of a block; one summand is passed on bit for bit. */
function sumBlock(
  xs: readonly CommArray[],
  type: ElementType,
  from: number,
  n: number,
  own: Scratch,
): CommArray {
  if (xs.length === 1) return xs[0].subarray(from, from + n);
  if (type === 'bf16') return sumBf16(xs as readonly Uint16Array[], from, n, own);
  const kind = type as 'f32' | 'f64' | 'i32';
  const add = adders[kind] as (
    out: Rounding,
    a: Rounding,
    aFrom: number,
    b: Rounding,
    bFrom: number,
    n: number,
  ) => void;
  const out = own[kind];
  const summands = xs as readonly Rounding[];
  add(out, summands[0], from, summands[1], from, n);
  for (let rank = 2; rank < xs.length; rank += 1) add(out, out, 0, summands[rank], from, n);
  return out;
}

/** In FP32, rounded once. */
function sumBf16(xs: readonly Uint16Array[], from: number, n: number, own: Scratch): Uint16Array {
  const { f32, decoded, bf16 } = own;
  const add = adders.f32 as (
    out: Float32Array,
    a: Float32Array,
    aFrom: number,
    b: Float32Array,
    bFrom: number,
    n: number,
  ) => void;
  decodeBf16Array(xs[0].subarray(from, from + n), f32);
  for (let rank = 1; rank < xs.length; rank += 1) {
    decodeBf16Array(xs[rank].subarray(from, from + n), decoded);
    add(f32, f32, 0, decoded, 0, n);
  }
  return encodeBf16Array(f32.subarray(0, n), bf16);
}
