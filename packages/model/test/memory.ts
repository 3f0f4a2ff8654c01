// Checkpoints in memory: a safetensors file's bytes, and the source that the loader reads from.
import type { TensorSource, TensorToWrite } from '../src/index';
import { headerLength, makeHeader, parseHeader } from '../src/index';

/** A whole safetensors file. */
export function fileOf(tensors: readonly TensorToWrite[]): Uint8Array {
  const parts = [makeHeader(tensors), ...tensors.map(({ bytes }) => bytes())];
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** What `openSafetensors` gives, from bytes instead of a file. */
export function sourceOf(file: Uint8Array, name = 'file'): TensorSource {
  const length = headerLength(file.subarray(0, 8), file.length, name);
  const { tensors } = parseHeader(file.subarray(8, 8 + length), file.length, name);
  return {
    name,
    tensors,
    read: (key) => {
      const entry = tensors.get(key);
      if (!entry) throw new Error(`no tensor ${key}`);
      return file.slice(entry.start, entry.start + entry.bytes);
    },
  };
}
