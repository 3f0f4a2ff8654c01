// Tensor and ScaledTensor: a shape and a type over a block of memory. Both are views, so kernels take them as they are.
import {
  byteSize,
  cpuBuffer,
  type DType,
  type ScaledView,
  type Storage,
  type View,
} from '@baleen/kernels';

import type { Block, Region } from './region';

/** Marks tensors, so that two versions of this package recognise each other's. */
export const tensorBrand: unique symbol = Symbol.for('baleen.tensor');

/** Sizes of a tensor's axes, outermost first. */
export type Shape = readonly number[];

let nextId = 1;

/**
 * A row-major array in a region. It does not own its memory: scopes, tapes and modules hold the block (see tape.ts),
 * and nobody disposes of a tensor.
 */
export class Tensor implements View {
  /** Number of elements. */
  readonly size: number;

  /** Made by `Tape.empty`, `emptyTensor` and the like. */
  constructor(
    /** The memory. */
    readonly block: Block,
    /** Sizes of the axes. */
    readonly shape: Shape,
    /** Element type. */
    readonly dtype: DType,
    /** Identity of the value: reshaped tensors share it, and gradients are kept under it. */
    readonly id: number = nextId++,
    private readonly blockOffset = 0,
  ) {
    this.size = sizeOf(shape);
  }

  /** The storage it lies in. Throws `ERR_BALEEN_TENSOR_RELEASED` once its memory was given back. */
  get storage(): Storage {
    const { storage } = this.block.current;
    if (storage === null) throw releasedError(this);
    return storage;
  }

  /** Start in the storage, in bytes. */
  get byteOffset(): number {
    return this.block.current.byteOffset + this.blockOffset;
  }

  /**
   * The same value under another shape.
   * @param shape - sizes with the same product
   * @returns a tensor over the same memory, the same value to the tape
   */
  reshape(shape: Shape): Tensor {
    if (sizeOf(shape) !== this.size)
      throw shapeError(`[${this.shape.join(', ')}] cannot be read as [${shape.join(', ')}]`);
    return new Tensor(this.block, shape, this.dtype, this.id, this.blockOffset);
  }

  /**
   * Consecutive entries of the first axis, as a value of their own (the tape does not connect it).
   * @param start - first entry
   * @param count - how many
   * @returns a tensor over the same memory
   */
  rows(start: number, count: number): Tensor {
    const [first = 1, ...rest] = this.shape;
    if (start < 0 || start + count > first)
      throw shapeError(`rows ${start} … ${start + count} of [${this.shape.join(', ')}]`);
    const offset = byteSize(this.dtype, start * sizeOf(rest));
    return new Tensor(
      this.block,
      [count, ...rest],
      this.dtype,
      undefined,
      this.blockOffset + offset,
    );
  }

  /**
   * A copy of the values, once everything enqueued has run. BF16 comes as bit patterns, FP8 as codes, E5M6 as packed
   * bytes.
   * @returns a typed array of the tensor's type
   */
  read(): Promise<Float32Array | Uint16Array | Uint8Array | Int32Array> {
    this.block.region.kernels.flush();
    return Promise.resolve(this.readSync().slice());
  }

  /**
   * The values themselves, without a copy; CPU storage only.
   * @returns a typed array over the tensor's memory
   */
  readSync(): Float32Array | Uint16Array | Uint8Array | Int32Array {
    const buffer = cpuBuffer(this);
    switch (this.dtype) {
      case 'f32':
        return new Float32Array(buffer, this.byteOffset, this.size);
      case 'bf16':
        return new Uint16Array(buffer, this.byteOffset, this.size);
      case 'e4m3':
      case 'e5m2':
        return new Uint8Array(buffer, this.byteOffset, this.size);
      case 'i32':
        return new Int32Array(buffer, this.byteOffset, this.size);
      case 'e5m6':
        return new Uint8Array(buffer, this.byteOffset, byteSize('e5m6', this.size));
    }
  }
}

/** A matrix in FP8 (or E5M6): codes with a scale a block. Passed along undecoded by routers, links and experts. */
export class ScaledTensor implements ScaledView {
  /** Identity of the value on the tape. Its gradient is a plain tensor of the same shape. */
  readonly id: number = nextId++;

  /**
   * @param codes - E4M3, E5M2 or E5M6, [rows, cols] (or stacked matrices)
   * @param scales - FP32, one a block
   * @param blockRows - rows of a block
   * @param blockCols - columns of a block
   * @param scaleFormat - how scales were chosen
   */
  constructor(
    /** E4M3, E5M2 or E5M6 codes. */
    readonly codes: Tensor,
    /** FP32 scales. */
    readonly scales: Tensor,
    /** Rows of a block. */
    readonly blockRows: number,
    /** Columns of a block. */
    readonly blockCols: number,
    /** Any FP32 value, or powers of two only. */
    readonly scaleFormat: 'fp32' | 'powerOfTwo' = 'fp32',
  ) {}

  /** Sizes of the axes. */
  get shape(): Shape {
    return this.codes.shape;
  }
}

// Recognised by brand, never by `instanceof`: two versions of this package may meet in one process.
for (const { prototype } of [Tensor, ScaledTensor])
  Object.defineProperty(prototype, tensorBrand, { value: true });

/** What flows between phases. */
export type Value = Tensor | ScaledTensor;

/** Whether something is a tensor of any version of this package.
 * @param value - anything
 * @returns whether it carries the brand
 */
export function isTensor(value: unknown): value is Value {
  return typeof value === 'object' && value !== null && tensorBrand in value;
}

/** The blocks a value lies in.
 * @param value - a tensor
 * @returns one block, or two for scaled tensors
 */
export function blocksOf(value: Value): Block[] {
  return 'codes' in value ? [value.codes.block, value.scales.block] : [value.block];
}

/** Number of elements of a shape.
 * @param shape - sizes
 * @returns their product
 */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Takes memory for a tensor and leaves its release to the caller (`tensor.block.release()`): for parameters,
 * optimizer state and caches.
 * @param region - the pool
 * @param shape - sizes
 * @param dtype - element type
 * @returns a tensor with undefined contents
 */
export function emptyTensor(region: Region, shape: Shape, dtype: DType = 'f32'): Tensor {
  const block = region.allocate(byteSize(dtype, sizeOf(shape)));
  return new Tensor(block, shape, dtype);
}

/**
 * A tensor of host values in a pool.
 * @param region - the pool
 * @param shape - sizes
 * @param values - FP32 or I32 values
 * @returns the tensor
 */
export function tensorFrom(
  region: Region,
  shape: Shape,
  values: Float32Array | Int32Array,
): Tensor {
  const tensor = emptyTensor(region, shape, values instanceof Int32Array ? 'i32' : 'f32');
  writeTensor(tensor, values);
  return tensor;
}

/**
 * Writes host values into a tensor; on the null backend only sizes are checked.
 * @param tensor - FP32 or I32
 * @param values - as many values
 */
export function writeTensor(tensor: Tensor, values: Float32Array | Int32Array): void {
  if (values.length !== tensor.size)
    throw shapeError(`${values.length} values for a tensor [${tensor.shape.join(', ')}]`);
  if (tensor.storage.backend === 'null') return;
  tensor.block.region.kernels.flush();
  tensor.readSync().set(values);
}

function releasedError({ dtype, shape, block }: Tensor): Error {
  const { region } = block.current;
  return Object.assign(
    new Error(
      `${dtype} tensor [${shape.join(', ')}] of region ${region.name} was used after its memory was given back`,
    ),
    {
      code: 'ERR_BALEEN_TENSOR_RELEASED',
      hint: 'return it from the scope or frame that made it, hold it with block.retain(), or read() it before',
    },
  );
}

/** A shape error with its code.
 * @param message - what does not fit
 * @returns the error
 */
export function shapeError(message: string): Error {
  return Object.assign(new Error(message), {
    code: 'ERR_BALEEN_TENSOR_SHAPE',
    hint: 'compare the shapes named with what the module was built for',
  });
}
