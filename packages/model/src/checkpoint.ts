// Weights to and from safetensors under DeepSeek's names, tensor by tensor.
import type { Tensor } from '@baleen/tensor';

import {
  decodeTensor,
  encodeTensor,
  refuse,
  type TensorSource,
  type TensorToWrite,
} from './checkpoint-tensors';
import type { Decoder } from './decoder';
import {
  type BlockedWeight,
  checkScaledType,
  checkValues,
  decodeWeight,
  findScales,
  quantizedToWrite,
} from './fp8-weights';
import { type WeightQuantization } from './hugging-face';
import {
  checkpointNames,
  isMtpTensor,
  isQuantizedWeight,
  isSharedCopy,
  scaledWeight,
  sharedCopies,
} from './hugging-face-names';
import type { TensorEntry } from './safetensors';
import { wholeModel } from './whole';

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
  /** Of a parameter that is spread over ranks: others have the other experts. */
  isSpread: boolean;
}

/**
 * Everything a checkpoint of the model holds, in a fixed order.
 * @param model - the decoder
 * @returns one piece a tensor; stacked experts are taken apart, and where ranks share them, these are this rank's
 */
export function* checkpointPieces(model: Decoder): Generator<CheckpointPiece> {
  const { layers } = model.config;
  for (const [name, { data, grad, slice }] of model.parameters()) {
    const names = checkpointNames(name, layers);
    if (typeof names === 'string')
      yield { name: names, data, grad, isState: false, isSpread: false };
    else
      for (let e = 0; e < (data.shape[0] ?? 0); e += 1) {
        const one = (stack: Tensor): Tensor => stack.rows(e, 1).reshape(stack.shape.slice(1));
        yield {
          name: names(e + (slice?.start ?? 0)),
          data: one(data),
          grad: one(grad),
          isState: false,
          isSpread: slice !== null,
        };
      }
  }
  for (const [name, { data }] of model.states()) {
    const named = checkpointNames(name, layers) as string;
    yield { name: named, data, grad: null, isState: true, isSpread: false };
  }
}

/** A tensor of the model and where the checkpoint has it. */
interface Found {
  piece: CheckpointPiece;
  entry: TensorEntry;
}

/**
 * Loads weights: F32, BF16, or FP8 in blocks of 128×128. Tensors are read one at a time. Everything that can be wrong with
 * the checkpoint is looked for first, and FP8 codes are read twice for that: what is refused has changed nothing.
 * @param model - the decoder
 * @param source - the checkpoint
 * @param quantization - how its FP8 weights are scaled, from `quantizationFromHuggingFace`; null where there are none
 * @returns names in the checkpoint that the model has no use for: depths of multi-token prediction beyond its own
 * @throws `ERR_BALEEN_CHECKPOINT_…`: MISSING and UNEXPECTED tensors, another SHAPE or TYPE, router biases or FP8 codes
 * that are NOT_FINITE, and SCALE for scales that are not positive, no powers of two where config.json says so, or
 * divisors instead of multipliers. Only a file that cannot be read any more while weights are copied leaves a model
 * between two states
 */
export function loadWeights(
  model: Decoder,
  source: TensorSource,
  quantization: WeightQuantization | null = null,
): string[] {
  const found = findPieces(model, source);
  const unused = unusedNames(model, source, found);
  for (const one of found) checkFound(one);
  const blocked = new Map<string, BlockedWeight>();
  for (const { piece, entry } of found)
    if (entry.dtype === 'F8_E4M3')
      blocked.set(piece.name, findScales(source, piece.name, entry, quantization));
  for (const { piece, entry } of found) if (piece.isState) checkState(piece.name, entry, source);
  for (const weight of blocked.values()) checkValues(weight);
  for (const { piece, entry } of found) {
    const { name, data } = piece;
    const weight = blocked.get(name);
    if (weight) decodeWeight(weight, data, model.kernels);
    else decodeTensor(entry, source.read(name), name, data.readSync() as Float32Array);
  }
  const held = new Set(found.map(({ piece: { name } }) => name));
  for (const { name, data, isState } of checkpointPieces(model))
    if (isState && !held.has(name)) model.kernels.fill(data, 0);
  for (const [, parameter] of model.parameters()) parameter.version += 1;
  return unused;
}

/** The model's tensors in the checkpoint; all must be there. */
function findPieces(model: Decoder, source: TensorSource): Found[] {
  const pieces = [...checkpointPieces(model)];
  const found: Found[] = [];
  const missing: string[] = [];
  for (const piece of pieces) {
    const entry = source.tensors.get(piece.name);
    if (entry) found.push({ piece, entry });
    // V2's checkpoints have no router biases, which is as if all were 0.
    else if (!(piece.isState && model.config.moe.gate === 'softmax')) missing.push(piece.name);
  }
  if (missing.length > 0)
    refuse(
      'MISSING',
      source.name,
      `${source.name} lacks ${missing.length} of ${pieces.length} tensors: ${missing.slice(0, 3).join(', ')}${missing.length > 3 ? ', …' : ''}`,
      'compare its config.json with the model (layers, experts, mtp depth)',
    );
  return found;
}

/** Names of what other ranks have: their experts, and the layers of their stages. */
function namesElsewhere(model: Decoder): Set<string> {
  const elsewhere = new Set<string>();
  const { config } = model;
  if (!model.isPart) return elsewhere;
  const add = (name: string, stacked: number): void => {
    const names = checkpointNames(name, config.layers);
    if (typeof names === 'string') elsewhere.add(names);
    else for (let e = 0; e < stacked; e += 1) elsewhere.add(names(e));
  };
  const { parameters, states } = wholeModel(config);
  for (const { name, shape } of parameters) add(name, shape[0]);
  for (const { name } of states) add(name, 0);
  return elsewhere;
}

/** Names that only depths of multi-token prediction beyond the model's own may have. */
function unusedNames(model: Decoder, source: TensorSource, found: readonly Found[]): string[] {
  const { config } = model;
  const elsewhere = namesElsewhere(model);
  const known = new Map(found.map(({ piece, entry }) => [piece.name, entry]));
  const unused: string[] = [];
  for (const [name, { file }] of source.tensors) {
    if (known.has(name) || elsewhere.has(name) || isSharedCopy(name, config)) continue;
    const weight = scaledWeight(name);
    if (weight !== null && elsewhere.has(weight)) continue;
    const scaled = weight === null ? undefined : known.get(weight);
    if (weight !== null && scaled) {
      checkScaledType(name, file, weight, scaled);
      continue;
    }
    if (!isMtpTensor(name, config.layers))
      refuse(
        'UNEXPECTED',
        `${file}: ${name}`,
        `${file} holds ${name}, which the model does not have`,
        'compare its config.json with the model',
      );
    unused.push(name);
  }
  return unused;
}

function checkFound({ piece: { name, data }, entry: { dtype, file, shape } }: Found): void {
  if (shape.join() !== data.shape.join())
    refuse(
      'SHAPE',
      `${file}: ${name}`,
      `${name} is [${shape.join(', ')}] in ${file}, the model's is [${data.shape.join(', ')}]`,
      'the checkpoint is of another model: use the config.json beside it',
    );
  if (dtype !== 'F32' && dtype !== 'BF16' && dtype !== 'F8_E4M3')
    refuse(
      'TYPE',
      `${file}: ${name}`,
      `${name} is ${dtype} in ${file}, expected F32, BF16 or F8_E4M3`,
      'convert the checkpoint first',
    );
}

/** Router biases must be finite: one that is not decides every choice of its expert. */
function checkState(name: string, entry: TensorEntry, source: TensorSource): void {
  const values = decodeTensor(entry, source.read(name), name);
  if (!values.every(Number.isFinite))
    refuse(
      'NOT_FINITE',
      `${entry.file}: ${name}`,
      `${name} holds values that are not finite in ${entry.file}`,
      'the checkpoint is from a run that diverged: use an earlier one',
    );
}

/** How weights are written. Router biases stay F32 in all of them. */
export type WeightsFormat =
  | {
      /** All weights. */
      dtype: 'F32' | 'BF16';
    }
  | {
      /** The linear layers of attention and feed-forward in FP8, as DeepSeek publishes them; the rest in BF16. */
      dtype: 'F8_E4M3';
      /** Scales are any FP32 value (default), or powers of two as since DeepSeek-V3.1. */
      scaleFormat?: WeightQuantization['scaleFormat'];
    };

/**
 * What of multi-token prediction is written: `own`, what the depths have of their own (default: a run's checkpoints);
 * `published`, copies of embedding and head in each depth as well, as DeepSeek publishes them and other readers expect; or
 * `none` of it.
 */
export type WrittenDepths = 'own' | 'published' | 'none';

/**
 * How the FP8 weights of a format are scaled.
 * @param format - how weights are written
 * @returns for `configToHuggingFace` and `loadWeights`; null where nothing is quantised
 * @throws `ERR_BALEEN_CHECKPOINT_FORMAT` for a format that there is not
 */
export function quantizationOf(format: WeightsFormat): WeightQuantization | null {
  const oneOf = (path: string, value: string, allowed: readonly string[]): void => {
    if (!allowed.includes(value))
      refuse(
        'FORMAT',
        path,
        `${path} (${value}) is not known`,
        `choose from ${allowed.join(', ')}`,
      );
  };
  oneOf('dtype', format.dtype, ['F32', 'BF16', 'F8_E4M3']);
  if (format.dtype !== 'F8_E4M3') return null;
  const { scaleFormat = 'fp32' } = format;
  oneOf('scaleFormat', scaleFormat, ['fp32', 'powerOfTwo']);
  return { scaleFormat };
}

/**
 * The tensors of a checkpoint, ready to write. FP8 weights come with the tensor of their scales, and are quantised from
 * the FP32 masters when they are written.
 * @param model - the decoder
 * @param format - of the weights (default F32)
 * @param depths - see {@link WrittenDepths}
 * @returns one entry a tensor
 */
export function weightsToWrite(
  model: Decoder,
  format: WeightsFormat = { dtype: 'F32' },
  depths: WrittenDepths = 'own',
): TensorToWrite[] {
  const quantization = quantizationOf(format);
  const dtype = format.dtype === 'F8_E4M3' ? 'BF16' : format.dtype;
  const { config } = model;
  const written: Pick<CheckpointPiece, 'name' | 'data' | 'isState'>[] = [
    ...checkpointPieces(model),
  ];
  if (depths === 'published')
    for (const [name, { data }] of model.parameters())
      for (const copy of sharedCopies(name, config))
        written.push({ name: copy, data, isState: false });
  return written.flatMap(({ name, data, isState }) => {
    if (depths === 'none' && isMtpTensor(name, config.layers)) return [];
    if (quantization && isQuantizedWeight(name))
      return quantizedToWrite(name, data, quantization, model.kernels);
    const type = isState ? 'F32' : dtype;
    return [
      {
        name,
        dtype: type,
        shape: data.shape,
        bytes: () => encodeTensor(data.readSync() as Float32Array, type),
      },
    ];
  });
}
