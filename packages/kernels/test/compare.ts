// What the tests here share: seeded random operands between guard bytes, and comparisons to the bit or within a tolerance.
import {
  decodeBf16Array,
  decodeE4M3,
  encodeBf16Array,
  type Fp8Type,
  type ScaledView,
  type View,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';
import { expect } from 'vitest';

/** A small seeded generator (mulberry32). */
export class Random {
  constructor(private state: number) {}

  uniform(low = 0, high = 1): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return low + ((t ^ (t >>> 14)) >>> 0) * 2 ** -32 * (high - low);
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  integer(limit: number): number {
    return Math.floor(this.uniform() * limit);
  }
}

const guard = 0xa5;

/**
 * Makes operands. Every array lies between guard bytes at an address that is a multiple of its element and no more, and
 * `verify` tells whether a kernel wrote beside its outputs or into its inputs.
 */
export class Arena {
  readonly random: Random;
  private readonly guards: { bytes: Uint8Array; inside: [number, number] }[] = [];
  private readonly inputs: { array: ViewArray; copy: ViewArray }[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  private place<A extends ViewArray>(
    make: { new (buffer: ArrayBuffer, offset: number, size: number): A; BYTES_PER_ELEMENT: number },
    values: ArrayLike<number>,
  ): A {
    const unit = make.BYTES_PER_ELEMENT;
    const [before, after] = [(1 + this.random.integer(20)) * unit, 64];
    const bytes = new Uint8Array(before + values.length * unit + after).fill(guard);
    const array = new make(bytes.buffer, before, values.length);
    array.set(values);
    this.guards.push({ bytes, inside: [before, before + values.length * unit] });
    return array;
  }

  private input<A extends ViewArray>(array: A): A {
    this.inputs.push({ array, copy: array.slice() });
    return array;
  }

  private values(size: number, value: (i: number) => number): number[] {
    return Array.from({ length: size }, (_, i) => value(i));
  }

  /** FP32 input: standard normal unless `value` says otherwise. */
  floats(size: number, value: (i: number) => number = () => this.random.normal()): Float32Array {
    return this.input(this.place(Float32Array, this.values(size, value)));
  }

  /** BF16 input. */
  halves(size: number, value: (i: number) => number = () => this.random.normal()): Uint16Array {
    const rounded = encodeBf16Array(Float32Array.from(this.values(size, value)));
    return this.input(this.place(Uint16Array, rounded));
  }

  /** Integers as input. */
  integers(size: number, value: (i: number) => number): Int32Array {
    return this.input(this.place(Int32Array, this.values(size, value)));
  }

  /** A scaled FP8 input of random codes (finite ones) and scales. */
  scaled(
    rows: number,
    cols: number,
    [blockRows, blockCols]: readonly [number, number],
    scaleRows: number = Math.ceil(rows / blockRows),
    dtype: Fp8Type = 'e4m3',
  ): ScaledView {
    const finite = dtype === 'e4m3' ? 127 : 124;
    const code = (): number => this.random.integer(finite) | (this.random.integer(2) << 7);
    const codes = this.input(this.place(Uint8Array, this.values(rows * cols, code)));
    const scales = this.floats(scaleRows * Math.ceil(cols / blockCols), () =>
      this.random.uniform(0.001, 0.1),
    );
    return { codes: { ...viewOf(codes), dtype }, scales: viewOf(scales), blockRows, blockCols };
  }

  /** Bytes of any value as input. */
  bytes(size: number): Uint8Array {
    return this.bytesOf(this.values(size, () => this.random.integer(256)));
  }

  /** These bytes as input. */
  bytesOf(values: ArrayLike<number>): Uint8Array {
    return this.input(this.place(Uint8Array, values));
  }

  /** An output that holds something already. */
  out(size: number): Float32Array {
    return this.place(
      Float32Array,
      this.values(size, () => this.random.normal()),
    );
  }

  /** A BF16 output that holds something already. */
  outHalves(size: number): Uint16Array {
    return this.place(
      Uint16Array,
      this.values(size, () => this.random.integer(0x7f80)),
    );
  }

  /** An FP8 output that holds something already. */
  outCodes(size: number): Uint8Array {
    return this.place(
      Uint8Array,
      this.values(size, () => this.random.integer(256)),
    );
  }

  /** An integer output that holds something already. */
  outIntegers(size: number): Int32Array {
    return this.place(
      Int32Array,
      this.values(size, () => this.random.integer(1000)),
    );
  }

  /** Row group borders: `sizes` rows each. */
  offsets(sizes: readonly number[]): Int32Array {
    let sum = 0;
    return this.integers(sizes.length + 1, (i) => (i === 0 ? 0 : (sum += sizes[i - 1])));
  }

  /** Fails if a byte beside an array or of an input has changed. */
  verify(): void {
    for (const { bytes, inside } of this.guards)
      for (let i = 0; i < bytes.length; i += 1)
        if ((i < inside[0] || i >= inside[1]) && bytes[i] !== guard)
          throw new Error(
            `byte ${i} was written, outside of the ${inside[0]} … ${inside[1]} of an array`,
          );
    for (const { array, copy } of this.inputs) expectSameBits(array, copy, 'an input');
  }
}

function isNaNBits(array: ViewArray, i: number): boolean {
  if (array instanceof Float32Array) return Number.isNaN(array[i]);
  if (array instanceof Uint16Array) return (array[i] & 0x7fff) > 0x7f80;
  if (array instanceof Uint8Array) return (array[i] & 0x7f) === 0x7f;
  return false;
}

function bitsOf(array: ViewArray): ViewArray | Uint32Array {
  return array instanceof Float32Array
    ? new Uint32Array(array.buffer, array.byteOffset, array.length)
    : array;
}

/** Equality to the bit; any NaN equals any other. */
export function expectSameBits(actual: ViewArray, expected: ViewArray, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  const [a, b] = [bitsOf(actual), bitsOf(expected)];
  for (let i = 0; i < a.length; i += 1)
    if (a[i] !== b[i] && !(isNaNBits(actual, i) && isNaNBits(expected, i)))
      expect.fail(
        `${what}[${i}] is ${show(actual, i)}, expected ${show(expected, i)}, to the bit (${String(countDifferences(a, b))} of ${a.length} differ)`,
      );
}

function countDifferences(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let count = 0;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) count += 1;
  return count;
}

function show(array: ViewArray, i: number): string {
  const value = numbers(array)[i];
  return array instanceof Float32Array || array instanceof Int32Array
    ? String(value)
    : `${String(value)} (0x${array[i].toString(16)})`;
}

/** The numbers an array stands for. */
export function numbers(array: ViewArray): ArrayLike<number> {
  if (array instanceof Uint16Array) return decodeBf16Array(array);
  if (array instanceof Uint8Array) return Float32Array.from(array, decodeE4M3);
  return array;
}

/**
 * Closeness: the root mean square of the difference is at most `tolerance` of the expected values', and no single one
 * is further off than 30 times that part of the largest.
 */
export function expectClose(
  actual: ViewArray | ArrayLike<number>,
  expected: ViewArray | ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  expect(a.length, what).toBe(b.length);
  let [squares, errors, largest, worst, worstAt] = [0, 0, 0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    if (Object.is(a[i], b[i]) || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) {
      if (Number.isFinite(b[i])) {
        squares += b[i] ** 2;
        largest = Math.max(largest, Math.abs(b[i]));
      }
      continue;
    }
    const error = Math.abs(a[i] - b[i]);
    if (!Number.isFinite(error)) expect.fail(`${what}[${i}] is ${a[i]}, expected ${b[i]}`);
    squares += b[i] ** 2;
    errors += error ** 2;
    largest = Math.max(largest, Math.abs(b[i]));
    if (error > worst) [worst, worstAt] = [error, i];
  }
  const relative = Math.sqrt(errors) / Math.max(Math.sqrt(squares), 1e-30);
  if (relative > tolerance || worst > 30 * tolerance * largest)
    expect.fail(
      `${what} is off by ${relative.toExponential(2)} of its norm (allowed ${tolerance}); the worst is [${worstAt}]: ${a[worstAt]}, expected ${b[worstAt]}`,
    );
}

function toNumbers(values: ViewArray | ArrayLike<number>): ArrayLike<number> {
  return values instanceof Uint16Array || values instanceof Uint8Array ? numbers(values) : values;
}

/** The arrays behind a scaled view. */
export function scaledArrays(x: ScaledView): { codes: Uint8Array; scales: Float32Array } {
  const array = <A>(
    make: new (buffer: ArrayBufferLike, offset: number, size: number) => A,
    { storage, byteOffset, size }: View,
  ): A => new make((storage as unknown as { buffer: ArrayBufferLike }).buffer, byteOffset, size);
  return { codes: array(Uint8Array, x.codes), scales: array(Float32Array, x.scales) };
}
