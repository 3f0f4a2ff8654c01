// Checkpoint files on disk: one safetensors file, or shards with an index. Files are complete or absent.
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join, resolve } from 'node:path';

import { quantizationOf, type WeightsFormat, weightsToWrite } from './checkpoint';
import type { TensorSource, TensorToWrite } from './checkpoint-tensors';
import type { Decoder } from './decoder';
import { configText, configToHuggingFace, type HuggingFaceConfig } from './hugging-face';
import {
  headerLength,
  makeHeader,
  parseHeader,
  type TensorEntry,
  tensorBytes,
} from './safetensors';

/** Name of the index of shards `<prefix>-….safetensors`. */
const indexOf = (prefix: string): string => `${prefix}.safetensors.index.json`;

function missing(path: string, hint: string): Error {
  return Object.assign(new Error(`${path} does not exist`), {
    code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
    path,
    hint,
  });
}

/**
 * Opens a safetensors file; tensors are read when asked for.
 * @param path - the file
 * @returns its tensors
 */
export function openSafetensors(path: string): TensorSource & {
  /** Free text of the header. */
  readonly metadata: Readonly<Record<string, string>>;
} {
  if (!existsSync(path)) throw missing(path, 'check the path');
  const header = withFile(path, (fd) => {
    const stats = fstatSync(fd);
    if (!stats.isFile())
      throw Object.assign(new Error(`${path} is not a file`), {
        code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
        path,
        hint: 'give the safetensors file itself',
      });
    const { size } = stats;
    const prefix = readBytes(fd, 0, Math.min(8, size), path);
    const length = headerLength(prefix, size, path);
    return parseHeader(readBytes(fd, 8, length, path), size, path);
  });
  return {
    name: path,
    tensors: header.tensors,
    metadata: header.metadata,
    read: (name) => {
      const entry = header.tensors.get(name);
      if (!entry) throw missing(`${path}: tensor ${name}`, 'compare config.json with the model');
      return withFile(path, (fd) => readBytes(fd, entry.start, entry.bytes, path));
    },
  };
}

/**
 * Opens the weights in a folder: model.safetensors, or the shards of its index.
 * @param folder - the checkpoint
 * @param prefix - what its files begin with: `model`, or another family of tensors beside it
 * @returns all its tensors
 */
export function openWeights(folder: string, prefix = 'model'): TensorSource {
  const indexName = indexOf(prefix);
  const single = join(folder, `${prefix}.safetensors`);
  const index = join(folder, indexName);
  if (existsSync(single)) return openSafetensors(single);
  if (!existsSync(index))
    throw missing(single, `the folder holds neither ${prefix}.safetensors nor ${indexName}`);
  const map = (readJson(index) as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null)
    throw Object.assign(new Error(`${index} has no weight_map`), {
      code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
      path: index,
      hint: 'take the index from its source again',
    });
  const files = new Map<string, TensorSource>();
  const tensors = new Map<string, TensorEntry>();
  const owner = new Map<string, TensorSource>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== 'string' || /[\\/]|^\.\.?$/.test(file))
      throw Object.assign(new Error(`${index} puts ${name} outside the folder`), {
        code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
        path: index,
        hint: 'shards stand beside their index',
      });
    let source = files.get(file);
    if (!source) files.set(file, (source = openSafetensors(join(folder, file))));
    const entry = source.tensors.get(name);
    if (!entry)
      throw missing(`${join(folder, file)}: tensor ${name}`, 'the index and its shards disagree');
    tensors.set(name, entry);
    owner.set(name, source);
  }
  return {
    name: folder,
    tensors,
    read: (name) => {
      const source = owner.get(name);
      if (!source) throw missing(`${folder}: tensor ${name}`, 'compare config.json with the model');
      return source.read(name);
    },
  };
}

/**
 * Reads config.json.
 * @param folder - the checkpoint
 * @returns its contents
 */
export function readConfig(folder: string): HuggingFaceConfig {
  const path = join(folder, 'config.json');
  if (!existsSync(path))
    throw missing(path, 'a checkpoint folder holds config.json and its weights');
  return readJson(path) as HuggingFaceConfig;
}

/**
 * Writes config.json under a temporary name, flushes it and renames it: it is complete or absent.
 * @param folder - the checkpoint
 * @param config - its contents
 */
export function writeConfig(folder: string, config: HuggingFaceConfig): void {
  writeFile(join(folder, 'config.json'), configText(config));
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw Object.assign(new Error(`${path} is not JSON: ${(error as Error).message}`), {
      code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
      path,
      hint: 'mend it or take it from its source again',
    });
  }
}

/**
 * Writes a safetensors file under a temporary name, flushes it and renames it. Wide elements come first, so that every
 * tensor lies on a multiple of its elements' width: readers map files into memory.
 * @param path - the file
 * @param tensors - what to write
 * @param metadata - free text
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): void {
  const width = ({ dtype }: TensorToWrite): number => tensorBytes(dtype, []);
  const inOrder = [...tensors].sort((a, b) => width(b) - width(a));
  writeWhole(path, (fd) => {
    writeAll(fd, makeHeader(inOrder, metadata));
    for (const tensor of inOrder) writeAll(fd, tensor.bytes());
  });
}

/** The shards of one writer: names in each, and bytes of all. */
export interface ShardList {
  /** Names of tensors, shard by shard. */
  shards: string[][];
  /** Bytes of its tensors. */
  bytes: number;
}

/** How {@link writeShards} writes. */
export interface ShardOptions {
  /** What the files' names begin with (default `model`). */
  prefix?: string;
  /** Free text for the header of a shard. */
  metadata?: (shard: readonly TensorToWrite[]) => Readonly<Record<string, string>>;
  /**
   * Where several processes write into one folder: hands this one's list to all, and returns those of all with this one's
   * place among them. Files are numbered in that order, and the first writes the index (default: it is alone).
   */
  join?: (own: ShardList) => JoinedShards;
}

/** What {@link ShardOptions.join} returns. */
export interface JoinedShards {
  /** The lists of all processes. */
  all: readonly ShardList[];
  /** This one's place among them. */
  own: number;
}

/**
 * Writes weights as shards with an index.
 * @param folder - where
 * @param tensors - what to write, in order
 * @param maxShardBytes - a shard holds at most this much, or one tensor
 * @param options - see {@link ShardOptions}
 */
export function writeShards(
  folder: string,
  tensors: readonly TensorToWrite[],
  maxShardBytes: number,
  options: ShardOptions = {},
): void {
  const { prefix = 'model', metadata = () => ({}) } = options;
  const { join: joined = (own: ShardList) => ({ all: [own], own: 0 }) } = options;
  const shards: TensorToWrite[][] = [];
  let bytes = Infinity;
  let total = 0;
  for (const tensor of tensors) {
    const size = tensorBytes(tensor.dtype, tensor.shape);
    total += size;
    if (bytes + size > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(tensor);
    bytes += size;
  }
  const names = shards.map((shard) => shard.map(({ name }) => name));
  const { all, own } = joined({ shards: names, bytes: total });
  const digits = (number: number): string => String(number).padStart(5, '0');
  const count = all.reduce((sum, list) => sum + list.shards.length, 0);
  const fileOf = (writer: number, index: number): string => {
    const before = all.slice(0, writer).reduce((sum, list) => sum + list.shards.length, 0);
    return `${prefix}-${digits(before + index + 1)}-of-${digits(count)}.safetensors`;
  };
  shards.forEach((shard, index) => {
    writeSafetensors(join(folder, fileOf(own, index)), shard, metadata(shard));
  });
  if (own > 0) return;
  const map: Record<string, string> = {};
  all.forEach((list, writer) => {
    list.shards.forEach((shard, index) => {
      for (const name of shard) map[name] = fileOf(writer, index);
    });
  });
  const size = all.reduce((sum, list) => sum + list.bytes, 0);
  const json = { metadata: { total_size: size }, weight_map: map };
  writeFile(join(folder, indexOf(prefix)), `${JSON.stringify(json, null, 2)}\n`);
}

/** What to export. */
export type ExportOptions = WeightsFormat & {
  /** A file holds at most this many bytes, or one tensor (default 2³²). */
  maxShardBytes?: number;
  /**
   * Write the depths of multi-token prediction, as further layers with copies of embedding and head (default); false leaves
   * them out, for those who do not draft.
   */
  mtp?: boolean;
};

/**
 * Writes a model as a Hugging Face folder: config.json, and weights in shards with their index, tensor by tensor. The
 * folder is complete or absent. It has no tokenizer; put the tokenizer.json of the run beside the weights.
 * @param folder - where; nothing or an empty folder
 * @param model - the decoder
 * @param options - F32, BF16, or F8_E4M3 in DeepSeek-V3's layout; the size of a file; multi-token prediction or not
 * @throws `ERR_BALEEN_CHECKPOINT_EXISTS` where the folder holds something, `ERR_BALEEN_IO_DISK_FULL`
 */
export function exportCheckpoint(folder: string, model: Decoder, options: ExportOptions): void {
  const path = resolve(folder);
  if (existsSync(path) && !(statSync(path).isDirectory() && readdirSync(path).length === 0))
    throw Object.assign(new Error(`${path} exists and is no empty folder`), {
      code: 'ERR_BALEEN_CHECKPOINT_EXISTS',
      path,
      hint: 'export to a new folder: weights of two exports must not mix',
    });
  const dtype = options.dtype === 'F32' ? 'float32' : 'bfloat16';
  const { mtp = true } = options;
  const written = mtp ? model.config : { ...model.config, mtp: { depth: 0 } };
  const config = configToHuggingFace(written, dtype, quantizationOf(options));
  const temporary = `${path}.tmp-${process.pid}`;
  mkdirSync(temporary, { recursive: true });
  try {
    model.kernels.flush();
    const weights = weightsToWrite(model, options, mtp ? 'published' : 'none');
    writeShards(temporary, weights, options.maxShardBytes ?? 2 ** 32);
    writeConfig(temporary, config);
    if (existsSync(path)) rmdirSync(path);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw diskError(error, path);
  }
}

/**
 * Writes a file under a temporary name, flushes it and renames it: it is complete or absent.
 * @param path - the file
 * @param contents - text, or bytes
 */
export function writeFile(path: string, contents: string | Uint8Array): void {
  writeWhole(path, (fd) => {
    writeAll(fd, typeof contents === 'string' ? new TextEncoder().encode(contents) : contents);
  });
}

function writeWhole(path: string, write: (fd: number) => void): void {
  const temporary = `${path}.tmp`;
  try {
    const fd = openSync(temporary, 'w');
    try {
      write(fd);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw diskError(error, path);
  }
}

/**
 * Gives errors of writing their code and remedy.
 * @param error - what was thrown
 * @param path - what was written
 * @returns the error to throw
 */
export function diskError(error: unknown, path: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') return error;
  return Object.assign(new Error(`the disk is full: ${path} was not written`), {
    code: 'ERR_BALEEN_IO_DISK_FULL',
    path,
    hint: 'free some space and resume; earlier checkpoints are whole',
    cause: error,
  });
}

function withFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function readBytes(fd: number, start: number, length: number, path: string): Uint8Array {
  const out = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, out, done, length - done, start + done);
    if (count === 0)
      throw Object.assign(new Error(`${path} ends at byte ${start + done}`), {
        code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
        path,
        hint: 'the file became shorter while it was read',
      });
    done += count;
  }
  return out;
}

function writeAll(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done);
}
