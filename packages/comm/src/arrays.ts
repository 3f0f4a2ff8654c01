// The arrays that travel between ranks, and what is known of their elements.

/**
 * What a communicator carries: FP32, FP64, 32-bit integers, BF16 bit patterns (`Uint16Array`) and bytes, over an
 * `ArrayBuffer` or a `SharedArrayBuffer`. Between threads shared memory is the faster one: the others read it where it
 * lies, while everything else is copied through memory that is shared.
 */
export type CommArray = Float32Array | Float64Array | Int32Array | Uint16Array | Uint8Array;

/** Names of element types. */
export type ElementType = 'f32' | 'f64' | 'i32' | 'bf16' | 'u8';

/** Bytes of an element. */
export const elementBytes: Readonly<Record<ElementType, number>> = {
  f32: 4,
  f64: 8,
  i32: 4,
  bf16: 2,
  u8: 1,
};

/**
 * The type of an array's elements.
 * @param array - anything
 * @returns its name; null where it is none of the arrays that travel
 */
export function elementTypeOf(array: unknown): ElementType | null {
  if (array instanceof Float32Array) return 'f32';
  if (array instanceof Uint8Array) return 'u8';
  if (array instanceof Int32Array) return 'i32';
  if (array instanceof Uint16Array) return 'bf16';
  return array instanceof Float64Array ? 'f64' : null;
}

/**
 * The bytes of an array, without a copy.
 * @param array - any typed array
 * @returns the same memory
 */
export function bytesOf(array: CommArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * Whether two arrays have memory in common.
 * @param a - one
 * @param b - the other
 * @returns true where some byte belongs to both
 */
export function overlap(a: CommArray, b: CommArray): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}

/**
 * An array of elements in memory.
 * @param type - of the elements
 * @param buffer - where they are
 * @param byte - where they begin
 * @param length - how many
 * @returns the array
 */
export function arrayOf(
  type: ElementType,
  buffer: ArrayBufferLike,
  byte: number,
  length: number,
): CommArray {
  switch (type) {
    case 'f32':
      return new Float32Array(buffer, byte, length);
    case 'f64':
      return new Float64Array(buffer, byte, length);
    case 'i32':
      return new Int32Array(buffer, byte, length);
    case 'bf16':
      return new Uint16Array(buffer, byte, length);
    case 'u8':
      return new Uint8Array(buffer, byte, length);
  }
}
