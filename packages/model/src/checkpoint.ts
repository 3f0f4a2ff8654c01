// Weights to and from safetensors under DeepSeek's names, tensor by tensor.
import { decodeBf16Array, encodeBf16Array } from '@baleen/kernels';
import type { Tensor } from '@baleen/tensor';

import type { Decoder } from './decoder';
import { checkpointNames, isMtpTensor, isSharedCopy } from './hugging-face';
import type { SafetensorsType, TensorEntry } from './safetensors';

/** One tensor of a checkpoint and the piece of the model that holds it. */
export interface CheckpointPiece {
  /** Its name in the checkpoint. */
  name: string;
  /** FP32 memory in the model. */
  data: Tensor;
  /** Its gradient, for parameters. */
  grad: Tensor | null;
  /** Router biases are always F32 and must be finite. */
  isState: boolean;
}

/**
 * Everything a checkpoint of the model holds, in a fixed order.
 * @param model - the decoder
 * @returns one piece a tensor; stacked experts are taken apart
 */
export function* checkpointPieces(model: Decoder): Generator<CheckpointPiece> {
  const { layers } = model.config;
  for (const [name, { data, grad }] of model.parameters()) {
    const names = checkpointNames(name, layers);
    if (typeof names === 'string') yield { name: names, data, grad, isState: false };
    else
      for (let e = 0; e < (data.shape[0] ?? 0); e += 1) {
        const one = (stack: Tensor): Tensor => stack.rows(e, 1).reshape(stack.shape.slice(1));
        yield { name: names(e), data: one(data), grad: one(grad), isState: false };
      }
  }
  for (const [name, { data }] of model.states())
    yield { name: checkpointNames(name, layers) as string, data, grad: null, isState: true };
}

/** What the loader reads from: one file or several shards. */
export interface TensorSource {
  /** For messages. */
  readonly name: string;
  /** Tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Bytes of one tensor. */
  read(name: string): Uint8Array;
}

function refuse(what: string, path: string, message: string, hint: string): never {
  throw Object.assign(new Error(message), { code: `ERR_BALEEN_CHECKPOINT_${what}`, path, hint });
}

/**
 * Loads weights. Nothing is changed unless every tensor is there with its shape.
 * @param model - the decoder
 * @param source - the checkpoint
 * @returns names in the checkpoint that the model has no use for: depths of multi-token prediction beyond its own
 */
export function loadWeights(model: Decoder, source: TensorSource): string[] {
  const pieces = [...checkpointPieces(model)];
  const found: { piece: CheckpointPiece; entry: TensorEntry }[] = [];
  const missing: string[] = [];
  for (const piece of pieces) {
    const entry = source.tensors.get(piece.name);
    if (entry) found.push({ piece, entry });
    else missing.push(piece.name);
  }
  if (missing.length > 0)
    refuse(
      'MISSING',
      source.name,
      `${source.name} lacks ${missing.length} of ${pieces.length} tensors: ${missing.slice(0, 3).join(', ')}${missing.length > 3 ? ', …' : ''}`,
      'compare its config.json with the model (layers, experts, mtp depth)',
    );
  const known = new Set(pieces.map(({ name }) => name));
  const unused: string[] = [];
  for (const name of source.tensors.keys())
    if (!known.has(name) && !isSharedCopy(name, model.config)) {
      if (isMtpTensor(name, model.config.layers)) unused.push(name);
      else
        refuse(
          'UNEXPECTED',
          source.name,
          `${source.name} holds ${name}, which the model does not have`,
          'compare its config.json with the model',
        );
    }
  for (const { piece, entry } of found) {
    const { name, data } = piece;
    const { shape } = entry;
    if (shape.join() !== data.shape.join())
      refuse(
        'SHAPE',
        `${source.name}: ${name}`,
        `${name} is [${shape.join(', ')}] in ${source.name}, the model's is [${data.shape.join(', ')}]`,
        'the checkpoint is of another model: use the config.json beside it',
      );
  }
  const values = found.map(({ piece: { name, isState }, entry }) => {
    const decoded = decodeTensor(entry, source.read(name), name);
    if (isState && !decoded.every(Number.isFinite))
      refuse(
        'NOT_FINITE',
        `${source.name}: ${name}`,
        `${name} holds values that are not finite`,
        'the checkpoint is from a run that diverged: use an earlier one',
      );
    return decoded;
  });
  found.forEach(({ piece: { data } }, index) => {
    (data.readSync() as Float32Array).set(values[index]);
  });
  for (const [, parameter] of model.parameters()) parameter.version += 1;
  return unused;
}

/**
 * Decodes a tensor's bytes to FP32.
 * @param entry - its type and shape
 * @param bytes - its bytes
 * @param name - for messages
 * @returns the values
 */
export function decodeTensor(entry: TensorEntry, bytes: Uint8Array, name: string): Float32Array {
  const copy = bytes.slice();
  if (entry.dtype === 'F32') return new Float32Array(copy.buffer);
  if (entry.dtype === 'BF16') return decodeBf16Array(new Uint16Array(copy.buffer));
  return refuse(
    'TYPE',
    name,
    `${name} is ${entry.dtype}, expected F32 or BF16`,
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
 * The tensors of a checkpoint, ready to write.
 * @param model - the decoder
 * @param dtype - of the weights; router biases stay F32
 * @returns one entry a tensor
 */
export function weightsToWrite(model: Decoder, dtype: 'F32' | 'BF16' = 'F32'): TensorToWrite[] {
  return [...checkpointPieces(model)].map(({ name, data, isState }) => {
    const type = isState ? 'F32' : dtype;
    return {
      name,
      dtype: type,
      shape: data.shape,
      bytes: () => encodeTensor(data.readSync() as Float32Array, type),
    };
  });
}
