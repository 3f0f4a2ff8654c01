// The FP8 health of a checkpoint's weights, without a model: tensor by tensor, in the order they lie on the disk, with
// nothing kept of one when the next is read.
//
// Of weights in FP8 codes and scales are looked at; weights in BF16 or F32 are quantised by the recipe and compared with what
// they were. What loading a checkpoint refuses is a finding here, and the audit goes on with the next tensor.
import {
  codeStatistics,
  emptyStatistics,
  type Fp8Recipe,
  fp8Recipe,
  type QuantizedMatrix,
  quantize,
  scaleStatistics,
} from '@baleen/fp8';
import { type Kernels, loadKernels } from '@baleen/kernels';

import {
  type AuditFinding,
  checkStatistics,
  checkTogether,
  type WeightAudit,
} from './audit-checks';
import { decodeTensor, type TensorSource } from './checkpoint-tensors';
import { checkBlocks, checkScaledType, findScales, readBlocks } from './fp8-weights';
import { type WeightQuantization } from './hugging-face';
import { isQuantizedWeight, scaledWeight, scaleName } from './hugging-face-names';
import { type TensorEntry, tensorBytes } from './safetensors';

/** How to audit. */
export interface AuditOptions {
  /**
   * What config.json says, from `quantizationFromHuggingFace`; null where it says nothing of FP8, undefined (default) where
   * there is no config.json: then what only it can tell is not looked for.
   */
  quantization?: WeightQuantization | null | undefined;
  /** How weights in BF16 or F32 are quantised (default: V3's way). */
  weights?: Fp8Recipe['weights'];
  /** Kernels to use (default: `loadKernels()`). */
  kernels?: Kernels;
}

/** What came of it. */
export interface CheckpointAudit {
  /** Every linear layer's weight, in the order of layers. */
  weights: WeightAudit[];
  /** What is wrong; none of a healthy checkpoint. */
  findings: AuditFinding[];
  /** Tensors that FP8 has nothing to do with. */
  others: number;
  /** Bytes of the tensors looked at. */
  bytes: number;
}

/** How far an audit is. */
export interface AuditProgress {
  /** Share of the bytes, 0 to 1. */
  share: number;
  /** The tensor that was looked at. */
  name: string;
}

/** Largest matrix outside FP8 whose size is taken for comparison: embeddings of large models are not worth their reading. */
const largestCompared = 2 ** 26;

/**
 * Audits a checkpoint.
 * @param source - the checkpoint
 * @param options - see {@link AuditOptions}
 * @returns progress after every tensor; the generator's return value is the result
 */
export function* auditCheckpoint(
  source: TensorSource,
  options: AuditOptions = {},
): Generator<AuditProgress, CheckpointAudit, void> {
  const { quantization, weights: recipe = fp8Recipe().weights } = options;
  const kernels = options.kernels ?? loadKernels();
  const findings: AuditFinding[] = [...unusedScales(source)];
  const weights: WeightAudit[] = [];
  const plain: number[] = [];
  const tasks = tasksOf(source);
  if (quantization === null && tasks.some(({ entry }) => entry.dtype === 'F8_E4M3'))
    findings.push({
      code: 'ERR_BALEEN_CHECKPOINT_CONFIG',
      tensor: null,
      path: 'config.json.quantization_config',
      message: `${source.name} holds FP8 weights, and config.json has no quantization_config that says how they are scaled`,
      hint: 'take config.json from the weights’ source',
    });
  const total = tasks.reduce((sum, { entry }) => sum + entry.bytes, 0);
  let done = 0;
  for (const { name, entry, weight } of tasks) {
    const fault = refusalOf(name, () => {
      if (!weight) plain.push(rootMeanSquare(decodeTensor(entry, source.read(name), name)));
      else {
        const audit = auditWeight(source, name, entry, { quantization, recipe, kernels });
        // Statistics come before the checks of values: they help to see what is wrong.
        weights.push(audit.weight);
        audit.check();
        findings.push(...checkStatistics(audit.weight));
      }
    });
    if (fault) findings.push(fault);
    done += entry.bytes;
    yield { share: done / total, name };
  }
  // A tensor whose scales are wrong says nothing about the others.
  const faulty = new Set(findings.map(({ tensor }) => tensor));
  const sound = weights.filter(({ name }) => !faulty.has(name));
  findings.push(...checkTogether(sound, { quantization, plain, source: source.name }));
  weights.sort((a, b) => naturalOrder(a.name, b.name));
  return { weights, findings, others: source.tensors.size - scaledCount(source), bytes: total };
}

/** One tensor to look at. */
interface Task {
  name: string;
  entry: TensorEntry;
  /** A linear layer's weight, not a matrix to compare with. */
  weight: boolean;
}

/** What is looked at, in the order of files and places in them. */
function tasksOf({ tensors }: TensorSource): Task[] {
  const tasks: Task[] = [];
  // Matrices in BF16 or F32 are there to compare codes and scales with.
  const coded = [...tensors.values()].some(({ dtype }) => dtype === 'F8_E4M3');
  for (const [name, entry] of tensors) {
    const { dtype, shape } = entry;
    const weight = dtype === 'F8_E4M3' || isQuantizedWeight(name);
    const compared =
      coded &&
      (dtype === 'BF16' || dtype === 'F32') &&
      shape.length === 2 &&
      scaledWeight(name) === null &&
      tensorBytes('U8', shape) <= largestCompared;
    if (weight || compared) tasks.push({ name, entry, weight });
  }
  const place = ({ entry: { file, start } }: Task): [string, number] => [file, start];
  return tasks.sort((a, b) => {
    const [[fileA, startA], [fileB, startB]] = [place(a), place(b)];
    return fileA === fileB ? startA - startB : fileA < fileB ? -1 : 1;
  });
}

/** Linear layers' weights and their scales. */
function scaledCount({ tensors }: TensorSource): number {
  let count = 0;
  for (const [name, { dtype }] of tensors)
    if (dtype === 'F8_E4M3' || isQuantizedWeight(name) || scaledWeight(name) !== null) count += 1;
  return count;
}

/** Scales that no FP8 weight has. */
function* unusedScales({ tensors }: TensorSource): Generator<AuditFinding> {
  for (const [name, { file }] of tensors) {
    const weight = scaledWeight(name);
    if (weight === null) continue;
    const entry = tensors.get(weight);
    if (!entry)
      yield {
        code: 'ERR_BALEEN_CHECKPOINT_MISSING',
        tensor: name,
        path: `${file}: ${name}`,
        message: `${file} holds ${name}, and there is no ${weight} that it scales`,
        hint: 'take the file that holds it from the weights’ source, and audit the folder instead of one file of it',
      };
    else {
      const fault = refusalOf(name, () => {
        checkScaledType(name, file, weight, entry);
      });
      if (fault) yield fault;
    }
  }
}

/** Statistics of one weight, and the checks of its values. */
function auditWeight(
  source: TensorSource,
  name: string,
  entry: TensorEntry,
  context: {
    quantization: WeightQuantization | null | undefined;
    recipe: Fp8Recipe['weights'];
    kernels: Kernels;
  },
): { weight: WeightAudit; check: () => void } {
  const { dtype, file, shape } = entry;
  const { quantization, recipe, kernels } = context;
  const about = (q: QuantizedMatrix): Pick<WeightAudit, 'codes' | 'scales'> => ({
    codes: codeStatistics(q),
    scales: scaleStatistics(q.scales),
  });
  if (dtype === 'F8_E4M3') {
    const found = findScales(source, name, entry, quantization ?? assumed(source, name));
    const blocks = readBlocks(found);
    return {
      weight: { name, file, dtype, format: 'e4m3', shape, ...about(blocks), errors: null },
      check: () => {
        checkBlocks(found, blocks);
      },
    };
  }
  const values = decodeTensor(entry, source.read(name), name);
  const errors = emptyStatistics();
  const [rows, cols] = shape.length === 2 ? shape : [1, values.length];
  const q = quantize(
    values,
    { rows, cols },
    {
      format: recipe.format,
      block: recipe.block,
      powerOfTwo: recipe.scales === 'powerOfTwo',
      statistics: errors,
      kernels,
    },
  );
  const type = dtype === 'BF16' ? 'BF16' : 'F32';
  return {
    weight: { name, file, dtype: type, format: recipe.format, shape, ...about(q), errors },
    check: () => undefined,
  };
}

/** How scales are taken to be meant where no config.json says it: as their type is. */
function assumed({ tensors }: TensorSource, weight: string): WeightQuantization {
  const { dtype } = tensors.get(scaleName(weight)) ?? {};
  return { scaleFormat: dtype === 'F8_E8M0' ? 'powerOfTwo' : 'fp32' };
}

/** What a check refuses, as a finding; other errors pass on. */
function refusalOf(tensor: string, check: () => void): AuditFinding | null {
  try {
    check();
    return null;
  } catch (error) {
    const { code, path, message, hint } = error as AuditFinding;
    // A file that ends early, or cannot be read, is no matter of a tensor.
    if (!/^ERR_BALEEN_CHECKPOINT_(?!CORRUPT|ABSENT)/.test(code)) throw error;
    return { code, tensor, path, message, hint };
  }
}

function rootMeanSquare(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum / values.length);
}

/** Names in the order of the numbers in them. */
function naturalOrder(a: string, b: string): number {
  const [partsA, partsB] = [a, b].map((name) => name.split(/(\d+)/));
  for (let i = 0; i < Math.min(partsA.length, partsB.length); i += 1) {
    if (partsA[i] === partsB[i]) continue;
    // Every second part is a number.
    return i % 2 === 1 ? Number(partsA[i]) - Number(partsB[i]) : partsA[i] < partsB[i] ? -1 : 1;
  }
  return partsA.length - partsB.length;
}
