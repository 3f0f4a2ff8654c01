// Memory as kernels see it: opaque storages, and typed ranges of them (views).
// Only CPU storages expose bytes; nothing above this file may assume that a storage can be read.

/**
 * Element types. `e4m3` (1 sign, 4 exponent, 3 mantissa bits, no infinity) and `e5m2` (1, 5, 2) are FP8, one byte each.
 * `e5m6` has 12 bits (1, 5, 6), two elements in three bytes as `pack12` lays them out: values kept for backward, which no
 * product takes (§3.3.3).
 */
export type DType = 'f32' | 'bf16' | 'i32' | CodeType;

/** Types of codes that products take. */
export type Fp8Type = 'e4m3' | 'e5m2';

/** Types of codes, which need scales. */
export type CodeType = Fp8Type | 'e5m6';

/** Tells them from the others.
 * @param dtype - any type
 * @returns whether it is FP8
 */
export function isFp8(dtype: DType): dtype is Fp8Type {
  return dtype === 'e4m3' || dtype === 'e5m2';
}

/** Bytes of one element of each type. */
export const bytesPerElement: Readonly<Record<DType, number>> = {
  f32: 4,
  bf16: 2,
  e4m3: 1,
  e5m2: 1,
  i32: 4,
  e5m6: 1.5,
};

/**
 * Bytes of some elements; packed ones end with a whole byte.
 * @param dtype - their type
 * @param size - how many
 * @returns their bytes
 */
export function byteSize(dtype: DType, size: number): number {
  return Math.ceil(size * bytesPerElement[dtype]);
}

/** Memory owned by a backend. */
export interface Storage {
  /** `cpu` storages are shared by the reference and native kernels; `null` ones hold nothing. */
  readonly backend: 'cpu' | 'null';
  /** Size in bytes. */
  readonly byteLength: number;
  /** Where its first whole cache line begins, in bytes from its start; 0 if absent. */
  readonly lineStart?: number;
}

/** A storage in this process's memory. */
export interface CpuStorage extends Storage {
  readonly backend: 'cpu';
  /** The memory itself; shared memory serves as well. */
  readonly buffer: ArrayBufferLike;
}

/** A typed, contiguous range of a storage: what every kernel takes. Tensors are views too. */
export interface View {
  /** Where the elements lie. */
  readonly storage: Storage;
  /** Start, in bytes from the start of the storage; a multiple of the element size where that is whole. */
  readonly byteOffset: number;
  /** Element type. */
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
}

/**
 * Codes with one FP32 scale a block: element (r, c) of a rows × cols matrix is
 * `decode(codes[r, c]) × scales[⌊r / blockRows⌋, ⌊c / blockCols⌋]`. Blocks at the edges are ragged.
 * 1×128 is V3's activation tile, 128×1 its transpose, 128×128 its weight block (§3.3.2).
 */
export interface ScaledView {
  /** `e4m3`, `e5m2` or `e5m6` codes, row-major. */
  readonly codes: View;
  /** FP32 scales, row-major, ⌈rows / blockRows⌉ × ⌈cols / blockCols⌉. */
  readonly scales: View;
  /** Rows a block spans. */
  readonly blockRows: number;
  /** Columns a block spans. */
  readonly blockCols: number;
}

/** What a matrix product takes: plain FP32 or BF16, or scaled FP8. */
export type Operand = View | ScaledView;

/** Tells scaled operands from plain ones.
 * @param operand - either kind
 * @returns whether it carries scales
 */
export function isScaled(operand: Operand): operand is ScaledView {
  // Not `in`, which costs more: every call of a kernel asks this of all operands.
  return (operand as Partial<ScaledView>).codes !== undefined;
}

/** The format of a scaled operand's codes.
 * @param operand - codes and scales
 * @returns what its codes are
 */
export function formatOf({ codes }: ScaledView): CodeType {
  return codes.dtype as CodeType;
}

/** The typed arrays that views can be made from. */
export type ViewArray = Float32Array | Uint16Array | Uint8Array | Int32Array;

/** What something calls itself: `instanceof` does not know arrays of another realm. */
function nameOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

/** What an array's elements are. */
const arrayTypes: Readonly<Record<string, DType | undefined>> = {
  Float32Array: 'f32',
  Uint16Array: 'bf16',
  Uint8Array: 'e4m3',
  Int32Array: 'i32',
};

/**
 * A view of a typed array, sharing its memory: `Float32Array` is FP32, `Uint16Array` BF16, `Uint8Array` E4M3, `Int32Array`
 * 32-bit integers. Codes of another format are named beside it: `{ ...viewOf(codes), dtype: 'e5m2' }`.
 * @param array - the elements
 * @returns the view
 * @throws ERR_BALEEN_KERNELS_ARRAY for anything else, such as a plain array or a `Float64Array`
 */
export function viewOf(array: ViewArray): View {
  const dtype = arrayTypes[nameOf(array)];
  if (dtype === undefined)
    throw Object.assign(
      new Error(`a view of ${nameOf(array)}, expected ${Object.keys(arrayTypes).join(', ')}`),
      {
        code: 'ERR_BALEEN_KERNELS_ARRAY',
        path: 'array',
        hint: 'copy the numbers into one of these, as Float32Array.from(values) does',
      },
    );
  const storage: CpuStorage = {
    backend: 'cpu',
    buffer: array.buffer,
    byteLength: array.buffer.byteLength,
  };
  return { storage, byteOffset: array.byteOffset, dtype, size: array.length };
}

/** Makes zeroed CPU storage.
 * @param byteLength - size in bytes
 * @returns the storage
 */
export function createCpuStorage(byteLength: number): CpuStorage {
  return { backend: 'cpu', buffer: new ArrayBuffer(byteLength), byteLength };
}

/** The buffer behind a view on the CPU; throws for other backends.
 * @param view - a view of CPU storage
 * @returns its buffer
 */
export function cpuBuffer(view: View): ArrayBufferLike {
  const { storage } = view;
  if (storage.backend !== 'cpu')
    throw Object.assign(new Error(`a ${storage.backend} storage holds no values to read`), {
      code: 'ERR_BALEEN_KERNELS_NOT_CPU',
      hint: 'run with the reference or native kernels to read values',
    });
  return (storage as CpuStorage).buffer;
}

/** The FP32 elements of a CPU view, without a copy. */
export function f32(view: View): Float32Array {
  return new Float32Array(cpuBuffer(view), view.byteOffset, view.size);
}

/** The BF16 bit patterns of a CPU view, without a copy. */
export function bf16(view: View): Uint16Array {
  return new Uint16Array(cpuBuffer(view), view.byteOffset, view.size);
}

/** The E4M3 codes of a CPU view, without a copy. */
export function e4m3(view: View): Uint8Array {
  return new Uint8Array(cpuBuffer(view), view.byteOffset, view.size);
}

/** The 32-bit integers of a CPU view, without a copy. */
export function i32(view: View): Int32Array {
  return new Int32Array(cpuBuffer(view), view.byteOffset, view.size);
}
