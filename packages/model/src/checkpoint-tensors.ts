// One tensor of a checkpoint: what it is read from and written as, and its values to and from bytes.
import { decodeBf16Array, encodeBf16Array } from '@baleen/kernels';

import { type SafetensorsType, type TensorEntry, tensorBytes } from './safetensors';

/** What the loader reads from: one file or several shards. */
export interface TensorSource {
  /** For messages. */
  readonly name: string;
  /** Tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Bytes of one tensor. */
  read(name: string): Uint8Array;
}

/** A tensor to write. */
export interface TensorToWrite {
  /** Its name. */
  name: string;
  /** Its type. */
  dtype: SafetensorsType;
  /** Sizes. */
  shape: readonly number[];
  /** Makes its bytes when they are needed. */
  bytes: () => Uint8Array;
}

/**
 * Refuses a checkpoint.
 * @param what - end of the error's code
 * @param path - file, or file and tensor
 * @param message - what is wrong
 * @param hint - the remedy
 */
export function refuse(what: string, path: string, message: string, hint: string): never {
  throw Object.assign(new Error(message), { code: `ERR_BALEEN_CHECKPOINT_${what}`, path, hint });
}

/**
 * Decodes a tensor's bytes to FP32.
 * @param entry - its type and shape
 * @param bytes - its bytes
 * @param name - for messages
 * @param out - the values, as many; made if absent
 * @returns the values
 */
export function decodeTensor(
  { dtype, file, shape }: TensorEntry,
  bytes: Uint8Array,
  name: string,
  out: Float32Array = new Float32Array(tensorBytes('U8', shape)),
): Float32Array {
  if (dtype === 'F32') {
    new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
    return out;
  }
  if (dtype === 'BF16') {
    const { buffer, byteOffset } = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes);
    return decodeBf16Array(new Uint16Array(buffer, byteOffset, out.length), out);
  }
  return refuse(
    'TYPE',
    `${file}: ${name}`,
    `${name} is ${dtype} in ${file}, expected F32 or BF16`,
    'convert the checkpoint first',
  );
}

/**
 * Encodes FP32 values.
 * @param values - the values
 * @param dtype - F32 or BF16
 * @returns bytes
 */
export function encodeTensor(values: Float32Array, dtype: 'F32' | 'BF16'): Uint8Array {
  const array = dtype === 'F32' ? values : encodeBf16Array(values);
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
