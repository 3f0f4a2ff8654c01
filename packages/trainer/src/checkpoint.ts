// What a checkpoint holds: FP32 weights and router biases under Hugging Face's names, the moments beside them, the
// tokenizer, and trainer.json with all that a run needs to go on to the bit.
//
// Every tensor's global name and shape, and where its slice of that begins, stand in the header of its file: a run that
// spreads a tensor over ranks writes slices under the same names.
import { existsSync, readFileSync } from 'node:fs';
import { join as inFolder } from 'node:path';

import {
  checkpointNames,
  checkpointPieces,
  configToHuggingFace,
  type Decoder,
  loadWeights,
  type TensorToWrite,
  weightsToWrite,
} from '@baleen/model';
import {
  diskError,
  type JoinedShards,
  openWeights,
  type ShardList,
  writeConfig,
  writeFile,
  writeShards,
} from '@baleen/model/node';
import { type AdamW, type Tensor, writeTensor } from '@baleen/tensor';

import {
  checkpointPath,
  commitCheckpoint,
  folderBytes,
  pruneCheckpoints,
  temporaryPath,
} from './checkpoint-files';
import type { TrainConfig } from './config';
import { saveTokenizer, type Tokenizer } from './data/index';
import type { TrainResult } from './events';
import { makeFolder } from './make-folder';
import {
  entryName,
  type MomentSlice,
  momentCount,
  momentSlices,
  readMoment,
  storedMoments,
} from './moment-slices';
import { gatherJson } from './ranks/gather-json';
import type { Layout } from './ranks/layout';

/** A file of tensors stays below this, unless one tensor is larger. */
const shardBytes = 2 ** 32;
const trainerName = 'trainer.json';

/** trainer.json. */
export interface TrainerState {
  /** Version of this file. */
  format: 1;
  /** Steps done. */
  step: number;
  /** Tokens trained on. */
  tokens: number;
  /** Updates the optimizer has made: the exponent of its bias correction. */
  optimizerStep: number;
  /** All randomness of a run comes from its seed, the streams' names and the cursor of the data. */
  random: {
    /** The run's. */
    seed: number;
  };
  /** Where the data go on. */
  data: unknown;
  /** Where the schedules stand after this step, for readers: they follow from `config` and `step`. */
  schedules: {
    /** Learning rate. */
    learningRate: number;
    /** γ. */
    biasSpeed: number;
    /** λ. */
    mtpWeight: number;
  };
  /** Router biases by their tensors' names. */
  routerBiases: Record<string, number[]>;
  /** Moving averages of loads, router by router; absent where the run before knew none. */
  loadAverages?: number[][];
  /** How the model was spread. */
  layout: TrainResult['layout'];
  /** The run's configuration. */
  config: TrainConfig;
  /** Preset it began from, or null. */
  preset: string | null;
}

function corrupt(path: string, what: string): Error {
  return Object.assign(new Error(`${path}: ${what}`), {
    code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
    path,
    hint: 'use an earlier checkpoint',
  });
}

function otherShape(path: string, message: string): Error {
  return Object.assign(new Error(message), {
    code: 'ERR_BALEEN_CHECKPOINT_SHAPE',
    path,
    hint: 'the checkpoint is of another model: resume it with its own configuration',
  });
}

/** Header entry of a file: global shape of each tensor, and where its slice begins. */
function slices(entries: Iterable<readonly [string, SliceEntry]>): Record<string, string> {
  return { slices: JSON.stringify(Object.fromEntries(entries)) };
}

/** Where an entry of a file lies in a tensor. */
interface SliceEntry {
  /** The tensor's name, where the entry has another. */
  of?: string;
  /** Sizes of the whole. */
  shape: readonly number[];
  /** Where the entry begins. */
  start: readonly number[];
}

/** The entry of a whole tensor. */
function wholeEntry({ name, shape }: TensorToWrite): readonly [string, SliceEntry] {
  return [name, { shape, start: shape.map(() => 0) }];
}

/** The entry of some rows. */
function sliceEntry(slice: MomentSlice): readonly [string, SliceEntry] {
  const { name, row, shape } = slice;
  const entry = { shape, start: shape.map((_, axis) => (axis === 0 ? row : 0)) };
  return [entryName(slice), row === 0 ? entry : { of: name, ...entry }];
}

/** A moment's type in a file. */
function storedAs({ dtype }: Tensor): 'BF16' | 'F32' {
  return dtype === 'bf16' ? 'BF16' : 'F32';
}

/** Router biases by checkpoint name. */
function routerBiases(model: Decoder): Record<string, number[]> {
  return Object.fromEntries(
    [...model.states()].map(([name, { data }]) => [
      checkpointNames(name, model.config.layers) as string,
      [...data.readSync()],
    ]),
  );
}

/** What a save takes. */
export interface CheckpointContents {
  /** The model. */
  model: Decoder;
  /** Its optimizer. */
  optimizer: AdamW;
  /** Its tokenizer. */
  tokenizer: Tokenizer;
  /** How it is spread over ranks. */
  layout: Layout;
  /** trainer.json, without what the model and optimizer say. */
  state: Omit<
    TrainerState,
    'format' | 'optimizerStep' | 'routerBiases' | 'loadAverages' | 'layout'
  >;
}

/**
 * Saves a checkpoint of a run. Collective: every rank writes what it alone holds into the same folder, which all must see.
 * @param run - the run's folder
 * @param contents - see {@link CheckpointContents}
 * @param keep - checkpoints that stay
 * @returns where it lies and its size
 * @throws `ERR_BALEEN_IO_DISK_FULL`; earlier checkpoints stay whole
 */
export function saveCheckpoint(
  run: string,
  contents: CheckpointContents,
  keep: number,
): { path: string; bytes: number } {
  const { model, optimizer, tokenizer, state, layout } = contents;
  const { world } = layout;
  model.kernels.flush();
  const routers = wholeStates(gatherJson(world, routerStates(model)));
  const join = (own: ShardList): JoinedShards => ({
    all: gatherJson(world, own),
    own: world.rank,
  });
  const writeOwn = (folder: string): void => {
    writeShards(folder, weightsOf(model, layout), shardBytes, {
      metadata: (shard) => slices(shard.map(wholeEntry)),
      join,
    });
    const own = new Map(
      [...momentSlices(model, optimizer)].map((slice) => [entryName(slice), slice]),
    );
    const moments = [...own].map(
      ([name, { data }]): TensorToWrite => ({
        name,
        dtype: storedAs(data),
        shape: data.shape,
        bytes: () => bytesOf(data),
      }),
    );
    writeShards(folder, moments, shardBytes, {
      prefix: 'optimizer',
      metadata: (shard) =>
        slices(
          shard.flatMap(({ name }) => {
            const slice = own.get(name);
            return slice ? [sliceEntry(slice)] : [];
          }),
        ),
      join,
    });
  };
  const write = (folder: string): void => {
    makeFolder(folder);
    world.barrier();
    writeConfig(folder, configToHuggingFace(model.config));
    saveTokenizer(tokenizer, folder);
    writeOwn(folder);
    const whole: TrainerState = {
      format: 1,
      ...state,
      optimizerStep: optimizer.step,
      ...routers,
      layout: layout.report,
    };
    writeJson(inFolder(folder, trainerName), whole);
    // Every rank's files are flushed.
    world.barrier();
  };
  let path = checkpointPath(run, state.step);
  try {
    if (world.rank === 0) path = commitCheckpoint(run, state.step, write);
    else {
      world.barrier();
      writeOwn(temporaryPath(path));
      world.barrier();
    }
  } catch (error) {
    throw diskError(error, path);
  }
  if (world.rank === 0) pruneCheckpoints(run, keep);
  // Nobody looks for it before it is there.
  world.barrier();
  return { path, bytes: folderBytes(path) };
}

/**
 * The weights that this rank writes: of those that hold the same stages one group has all experts, and its first rank everything
 * else.
 */
function weightsOf(model: Decoder, layout: Layout): TensorToWrite[] {
  if (!layout.writesWeights) return [];
  const weights = weightsToWrite(model);
  if (layout.holders.rank === 0) return weights;
  const spread = new Set<string>();
  for (const { name, isSpread } of checkpointPieces(model)) if (isSpread) spread.add(name);
  return weights.filter(({ name }) => spread.has(name));
}

/** What ranks know of their routers, as trainer.json has it. */
interface RouterStates {
  biases: Record<string, number[]>;
  /** By place among all routers; null for those of other ranks. */
  averages: (number[] | null)[];
}

function routerStates(model: Decoder): RouterStates {
  const averages = model.allRouters.map((router) => router && [...router.average.readSync()]);
  return { biases: routerBiases(model), averages };
}

/** Those of all ranks. */
function wholeStates(states: readonly RouterStates[]): {
  routerBiases: Record<string, number[]>;
  loadAverages: number[][];
} {
  const [{ averages }] = states;
  return {
    routerBiases: Object.assign({}, ...states.map(({ biases }) => biases)) as Record<
      string,
      number[]
    >,
    loadAverages: averages.map(
      (_, place) => states.map((state) => state.averages[place]).find((own) => own !== null) ?? [],
    ),
  };
}

/**
 * Reads trainer.json.
 * @param checkpoint - the checkpoint's folder
 * @returns its state, or null where there is none (a Hugging Face folder)
 */
export function readTrainerState(checkpoint: string): TrainerState | null {
  const path = inFolder(checkpoint, trainerName);
  if (!existsSync(path)) return null;
  let state: unknown;
  try {
    state = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw corrupt(path, `is not JSON (${(error as Error).message})`);
  }
  const { format, step } = state as Partial<TrainerState>;
  if (format !== 1 || typeof step !== 'number')
    throw corrupt(path, `has format ${String(format)}, expected 1`);
  return state as TrainerState;
}

/**
 * Restores a model and its optimizer. Nothing is changed unless the checkpoint fits.
 * @param checkpoint - the checkpoint's folder
 * @param model - of the same shapes
 * @param optimizer - the model's
 * @returns trainer.json
 */
export function restoreCheckpoint(
  checkpoint: string,
  model: Decoder,
  optimizer: AdamW,
): TrainerState {
  const state = readTrainerState(checkpoint);
  if (!state)
    throw Object.assign(new Error(`${checkpoint} holds no ${trainerName}`), {
      code: 'ERR_BALEEN_CHECKPOINT_NO_TRAINER',
      path: checkpoint,
      hint: 'only checkpoints of a run can be resumed; these are weights alone',
    });
  const source = openWeights(checkpoint, 'optimizer');
  const stored = storedMoments(source);
  const found = [...momentSlices(model, optimizer)].map((slice) => {
    const { name, data, shape } = slice;
    const moment = stored.get(name);
    if (moment?.dtype !== storedAs(data) || moment.shape.join() !== shape.join())
      throw otherShape(
        checkpoint,
        `${name} is ${moment ? `${moment.dtype} [${moment.shape.join(', ')}]` : 'absent'} in ${checkpoint}, the model's is ${storedAs(data)} [${shape.join(', ')}]`,
      );
    return { slice, moment };
  });
  const expected = momentCount(model.config);
  if (stored.size !== expected)
    throw otherShape(
      checkpoint,
      `${checkpoint} holds ${stored.size} moments, the model has ${expected}`,
    );
  loadWeights(model, openWeights(checkpoint));
  for (const { slice, moment } of found) readMoment(slice, moment, source);
  const biases = routerBiases(model);
  for (const [name, values] of Object.entries(biases))
    if (values.join() !== (state.routerBiases[name] ?? []).join())
      throw corrupt(
        inFolder(checkpoint, trainerName),
        `its biases ${name} are not the weights' own`,
      );
  const { routedExperts } = model.config.moe;
  const routers = model.allRouters;
  const averages = state.loadAverages ?? routers.map(() => ones(routedExperts));
  const fits = (list: unknown): boolean =>
    Array.isArray(list) && list.length === routedExperts && list.every(Number.isFinite);
  if (!routers.every((_, place) => fits(averages[place])))
    throw corrupt(
      inFolder(checkpoint, trainerName),
      'its loadAverages are not one number an expert',
    );
  routers.forEach((router, place) => {
    if (router) writeTensor(router.average, Float32Array.from(averages[place]));
  });
  optimizer.step = state.optimizerStep;
  return state;
}

function ones(count: number): number[] {
  return new Array<number>(count).fill(1);
}

/** A tensor's memory as bytes. */
function bytesOf(tensor: Tensor): Uint8Array {
  const values = tensor.readSync();
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function writeJson(path: string, value: unknown): void {
  writeFile(path, `${JSON.stringify(value)}\n`);
}
