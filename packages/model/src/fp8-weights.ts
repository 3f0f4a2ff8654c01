// FP8 weights in DeepSeek-V3's layout: E4M3 codes, and in a tensor of its own, often in another file, one multiplier for
// each block of 128×128 (§3.3.2), ragged at the edges.
//
// Codes mean nothing without the right scales, and most mistakes with them give a model that runs and is wrong. So all
// that can be told from a file is checked before a weight is changed.

import { dequantize, isPowerOfTwo, type QuantizedMatrix, quantize } from '@baleen/fp8';
import { decodeArray, decodeE4M3, e4m3Max, forBlocks, type Kernels } from '@baleen/kernels';
import type { Tensor } from '@baleen/tensor';

import {
  decodeTensor,
  encodeTensor,
  refuse,
  type TensorSource,
  type TensorToWrite,
} from './checkpoint-tensors';
import { type WeightQuantization } from './hugging-face';
import { scaleName } from './hugging-face-names';
import type { TensorEntry } from './safetensors';

const block = 128;

/** Rows and columns of blocks. */
function blocksOf([rows = 0, cols = 0]: readonly number[]): [number, number] {
  return [Math.ceil(rows / block), Math.ceil(cols / block)];
}

/** An FP8 weight of a checkpoint, whose headers were checked. */
export interface BlockedWeight extends WeightQuantization {
  /** The checkpoint. */
  source: TensorSource;
  /** The weight's name. */
  name: string;
  /** Its codes, [rows, cols]. */
  codes: TensorEntry;
  /** Its scales. */
  scales: TensorEntry;
}

/**
 * Finds the scales of an FP8 weight, and checks what the headers say about both.
 * @param source - the checkpoint
 * @param name - the weight
 * @param codes - its entry, of type F8_E4M3
 * @param quantization - what config.json says; null where it says nothing
 * @returns both
 */
export function findScales(
  source: TensorSource,
  name: string,
  codes: TensorEntry,
  quantization: WeightQuantization | null,
): BlockedWeight {
  const { file, shape } = codes;
  const path = `${file}: ${name}`;
  if (quantization === null)
    refuse(
      'TYPE',
      path,
      `${name} is F8_E4M3 in ${file}, and no quantization_config says how it is scaled`,
      'take config.json from the weights’ source; in code, give loadWeights `quantizationFromHuggingFace(config)`',
    );
  if (shape.length !== 2)
    refuse(
      'TYPE',
      path,
      `${name} [${shape.join(', ')}] is F8_E4M3 in ${file}, but only matrices have blocks`,
      'leave all but the weights of linear layers in BF16 or F32',
    );
  const scales = scaleName(name);
  const entry = source.tensors.get(scales);
  if (!entry)
    refuse(
      'MISSING',
      path,
      `${name} is F8_E4M3 in ${file}, and ${source.name} holds no ${scales}`,
      'take the file that holds it, and the index, from the weights’ source: codes mean nothing without their scales',
    );
  const scalesPath = `${entry.file}: ${scales}`;
  const expected = blocksOf(shape);
  if (entry.shape.join() !== expected.join())
    refuse(
      'SHAPE',
      scalesPath,
      `${scales} is [${entry.shape.join(', ')}] in ${entry.file}, expected [${expected.join(', ')}]: one scale for each ${block}×${block} block of [${shape.join(', ')}]`,
      'quantise the weight in such blocks, those at the edges ragged',
    );
  if (entry.dtype === 'F8_E8M0' && quantization.scaleFormat === 'fp32')
    refuse(
      'TYPE',
      scalesPath,
      `${scales} is F8_E8M0 in ${entry.file}, but config.json says nothing of powers of two`,
      'if the scales are meant to be powers of two, set quantization_config.scale_fmt to "ue8m0"; otherwise store them in F32',
    );
  if (entry.dtype !== 'F8_E8M0' && entry.dtype !== 'F32')
    refuse(
      'TYPE',
      scalesPath,
      `${scales} is ${entry.dtype} in ${entry.file}, expected F32 or, with scale_fmt "ue8m0", F8_E8M0`,
      entry.dtype === 'U8'
        ? 'if these are exponents, name their type F8_E8M0 and set quantization_config.scale_fmt to "ue8m0"; otherwise store scales in F32'
        : 'store scales in F32: any rounding of a scale moves every weight of its block',
    );
  return { source, name, codes, scales: entry, ...quantization };
}

/**
 * Refuses a tensor of scales whose weight is not FP8.
 * @param name - the scales
 * @param file - where they are, for messages
 * @param weight - the weight's name
 * @param entry - its entry
 */
export function checkScaledType(
  name: string,
  file: string,
  weight: string,
  { dtype, file: weightFile }: TensorEntry,
): void {
  if (dtype === 'F8_E4M3') return;
  refuse(
    'UNEXPECTED',
    `${file}: ${name}`,
    `${file} holds ${name}, but ${weight} is ${dtype} in ${weightFile}`,
    dtype === 'U8'
      ? 'if the bytes are codes of E4M3, name their type F8_E4M3'
      : 'codes that were cast without their scales are no weights: convert the checkpoint again, code · scale, and leave the scales out',
  );
}

/**
 * Reads codes and scales.
 * @param weight - an FP8 weight whose headers were checked
 * @returns [rows, cols] in blocks of 128×128
 */
export function readBlocks({
  source,
  name,
  codes,
  scales,
}: BlockedWeight): QuantizedMatrix<'e4m3'> {
  const [rows, cols] = codes.shape;
  const key = scaleName(name);
  // Scales first, decoded into memory of their own: then one tensor of the source is enough.
  const bytes = source.read(key);
  const values =
    scales.dtype === 'F8_E8M0' ? decodeArray(bytes, 'e8m0') : decodeTensor(scales, bytes, key);
  const matrix = { format: 'e4m3', block: '128x128', rows, cols } as const;
  return { ...matrix, codes: source.read(name), scales: values };
}

/**
 * Checks the values of an FP8 weight: scales are positive, and powers of two where config.json says so; no code is NaN;
 * and the scales are multipliers.
 * @param weight - codes and scales
 */
export function checkValues(weight: BlockedWeight): void {
  checkBlocks(weight, readBlocks(weight));
}

/**
 * The same for codes and scales that were read already.
 * @param weight - where they are from
 * @param blocks - codes and scales
 */
export function checkBlocks(weight: BlockedWeight, blocks: QuantizedMatrix<'e4m3'>): void {
  checkScales(weight, blocks);
  const largest = largestCodes(blocks);
  if (largest.includes(0x7f)) {
    const { name, codes } = weight;
    const index = blocks.codes.findIndex((code) => (code & 0x7f) === 0x7f);
    refuse(
      'NOT_FINITE',
      `${codes.file}: ${name}`,
      `${name}[${Math.floor(index / blocks.cols)}, ${index % blocks.cols}] is NaN in ${codes.file}`,
      'the weight was not finite when it was quantised: use an earlier checkpoint',
    );
  }
  checkConvention(weight, largest, blocks.scales);
}

function checkScales(
  { name, scales: { file }, scaleFormat }: BlockedWeight,
  { scales, rows, cols }: QuantizedMatrix,
): void {
  const key = scaleName(name);
  const [, across] = blocksOf([rows, cols]);
  const refuseScale = (index: number, what: string, hint: string): never => {
    const at = `${key}[${Math.floor(index / across)}, ${index % across}]`;
    return refuse(
      'SCALE',
      `${file}: ${key}`,
      `${at} is ${scales[index]} in ${file}, ${what}`,
      hint,
    );
  };
  scales.forEach((scale, index) => {
    if (!(scale > 0 && Math.fround(scale * e4m3Max) < Infinity))
      refuseScale(
        index,
        `expected a number above 0 that FP32 can hold ${e4m3Max} times`,
        'take the file from its source again, or quantise the weight again with scale = max(amax, 1e-4) / 448',
      );
    if (scaleFormat === 'powerOfTwo' && !isPowerOfTwo(scale))
      refuseScale(
        index,
        'no power of two, but config.json has quantization_config.scale_fmt "ue8m0"',
        'remove scale_fmt if the scales are FP32; do not round them: the codes were made with these',
      );
  });
}

/**
 * Refuses scales that divide. With 448 / amax in place of amax / 448 a block decodes to weights beyond ±448 wherever the
 * true ones are within, and trained weights are; a few large blocks are nobody's mistake. They are no reciprocals either
 * where dividing passes ±64, as trained weights do not, or beyond 448 / 1e-4, the reciprocal of the smallest scale there is.
 */
function checkConvention(
  { name, codes: { file } }: BlockedWeight,
  largest: Uint8Array,
  scales: Float32Array,
): void {
  const multiplied = Array.from(largest, (code, index) => decodeE4M3(code) * scales[index]);
  const filled = multiplied.filter((size) => size > 0).length;
  const beyond = multiplied.filter((size) => size > e4m3Max).length;
  if (2 * beyond <= filled) return;
  const divided = Array.from(largest, (code, index) => decodeE4M3(code) / scales[index]);
  const most = (list: readonly number[]): number =>
    list.reduce((so, size) => Math.max(so, size), 0);
  const [as, by] = [most(multiplied), most(divided)];
  const scale = scales.reduce((so, value) => Math.max(so, value), 0);
  const isReciprocal = by <= 64 && scale <= 1.001 * (e4m3Max / 1e-4);
  refuse(
    'SCALE',
    `${file}: ${name}`,
    `${name} decodes to weights up to ${as.toPrecision(3)} in ${file}: ${beyond} of its ${filled} blocks pass ±${e4m3Max}`,
    isReciprocal
      ? `a weight is code · ${scaleName(name)}, whatever the name says: store amax / ${e4m3Max}. Divided by these scales, the weights would reach ${by.toPrecision(3)}`
      : `scales up to ${scale.toPrecision(3)} are neither amax / ${e4m3Max} of a weight nor its reciprocal: store one such F32 a block, or, if these are bytes of E8M0 exponents, name their type F8_E8M0`,
  );
}

/** The largest magnitude among the codes of every block, as a code without sign; 0x7f where one is NaN. */
function largestCodes({ codes, scales, rows, cols }: QuantizedMatrix<'e4m3'>): Uint8Array {
  const largest = new Uint8Array(scales.length);
  const sizes = { rows, cols, blockRows: block, blockCols: block };
  forBlocks(sizes, (r0, r1, c0, c1, at) => {
    let most = 0;
    for (let r = r0; r < r1; r += 1)
      for (let i = r * cols + c0; i < r * cols + c1; i += 1) most = Math.max(most, codes[i] & 0x7f);
    largest[at] = most;
  });
  return largest;
}

/**
 * Decodes an FP8 weight into the model's memory: code · scale, rounded to FP32.
 * @param weight - codes and scales, checked
 * @param data - [rows, cols] FP32
 * @param kernels - the model's
 */
export function decodeWeight(weight: BlockedWeight, data: Tensor, kernels: Kernels): void {
  dequantize(readBlocks(weight), { kernels, out: data.readSync() as Float32Array });
}

/**
 * An FP8 weight and its scales, ready to write. Each is quantised when its bytes are asked for: nothing is kept.
 * @param name - the weight
 * @param data - [rows, cols] FP32
 * @param quantization - how scales are chosen
 * @param kernels - the model's
 * @returns codes, F8_E4M3, and scales, F32
 */
export function quantizedToWrite(
  name: string,
  data: Tensor,
  { scaleFormat }: WeightQuantization,
  kernels: Kernels,
): TensorToWrite[] {
  const [rows, cols] = data.shape;
  const quantized = (): QuantizedMatrix<'e4m3'> =>
    quantize(
      data.readSync() as Float32Array,
      { rows, cols },
      { block: '128x128', powerOfTwo: scaleFormat === 'powerOfTwo', kernels },
    );
  return [
    { name, dtype: 'F8_E4M3', shape: data.shape, bytes: () => quantized().codes },
    {
      name: scaleName(name),
      dtype: 'F32',
      shape: blocksOf(data.shape),
      bytes: () => encodeTensor(quantized().scales, 'F32'),
    },
  ];
}
