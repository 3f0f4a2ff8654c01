// Checkpoints with something wrong in them: what a test changes in the tensors to write.
import type { TensorToWrite } from '../src/index';

/** A change to the tensors of a checkpoint. */
export type Change = (tensors: TensorToWrite[]) => TensorToWrite[];

/** Leaves one out. */
export const drop =
  (name: string): Change =>
  (tensors) =>
    tensors.filter((tensor) => tensor.name !== name);

/** Writes one otherwise. */
export const replace =
  (name: string, change: Partial<TensorToWrite>): Change =>
  (tensors) =>
    tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor));

/** A copy of the bytes of one. */
export function bytesOf(tensors: readonly TensorToWrite[], name: string): Uint8Array<ArrayBuffer> {
  const tensor = tensors.find((one) => one.name === name);
  if (!tensor) throw new Error(`no tensor ${name}`);
  return new Uint8Array(tensor.bytes());
}

/** Changes the values of one tensor of F32. */
export const changeValues =
  (name: string, change: (values: Float32Array) => void): Change =>
  (tensors) => {
    const bytes = bytesOf(tensors, name);
    change(new Float32Array(bytes.buffer));
    return replace(name, { bytes: () => bytes })(tensors);
  };

/** Changes every tensor of scales. */
export const changeScales =
  (change: (values: Float32Array) => void): Change =>
  (tensors) =>
    tensors.reduce(
      (all, { name }) => (name.endsWith('_scale_inv') ? changeValues(name, change)(all) : all),
      tensors,
    );
