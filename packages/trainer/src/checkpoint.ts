// What a checkpoint holds: FP32 weights and router biases under Hugging Face's names, the moments beside them, the
// tokenizer, and trainer.json with all that a run needs to go on to the bit.
//
// Every tensor's global name and shape, and where its slice of that begins, stand in the header of its file: a run that
// spreads a tensor over ranks writes slices under the same names.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import {
  checkpointNames,
  configToHuggingFace,
  type Decoder,
  loadWeights,
  type TensorToWrite,
  weightsToWrite,
} from '@baleen/model';
import { diskError, openWeights, writeConfig, writeFile, writeShards } from '@baleen/model/node';
import { type AdamW, type Tensor, writeTensor } from '@baleen/tensor';

import { commitCheckpoint, folderBytes, pruneCheckpoints } from './checkpoint-files';
import type { TrainConfig } from './config';
import { saveTokenizer, type Tokenizer } from './data/index';
import type { TrainResult } from './events';
import { makeFolder } from './make-folder';

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
function slices(shard: readonly TensorToWrite[]): Record<string, string> {
  const entries = shard.map(({ name, shape }) => [name, { shape, start: shape.map(() => 0) }]);
  return { slices: JSON.stringify(Object.fromEntries(entries)) };
}

/** Moments by checkpoint name, stacked experts taken apart. */
function* momentPieces(model: Decoder, optimizer: AdamW): Generator<[string, Tensor]> {
  for (const [name, { m, v }] of optimizer.moments()) {
    const names = checkpointNames(name, model.config.layers);
    for (const [suffix, data] of [
      ['exp_avg', m],
      ['exp_avg_sq', v],
    ] as const) {
      if (typeof names === 'string') yield [`${names}.${suffix}`, data];
      else
        for (let e = 0; e < data.shape[0]; e += 1)
          yield [`${names(e)}.${suffix}`, data.rows(e, 1).reshape(data.shape.slice(1))];
    }
  }
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
  /** trainer.json, without what the model and optimizer say. */
  state: Omit<
    TrainerState,
    'format' | 'optimizerStep' | 'routerBiases' | 'loadAverages' | 'layout'
  >;
}

/**
 * Saves a checkpoint of a run.
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
  const { model, optimizer, tokenizer, state } = contents;
  model.kernels.flush();
  const write = (folder: string): void => {
    makeFolder(folder);
    writeConfig(folder, configToHuggingFace(model.config));
    writeShards(folder, weightsToWrite(model), shardBytes, { metadata: slices });
    saveTokenizer(tokenizer, folder);
    const moments = [...momentPieces(model, optimizer)].map(
      ([name, data]): TensorToWrite => ({
        name,
        dtype: storedAs(data),
        shape: data.shape,
        bytes: () => bytesOf(data),
      }),
    );
    writeShards(folder, moments, shardBytes, { prefix: 'optimizer', metadata: slices });
    const whole: TrainerState = {
      format: 1,
      ...state,
      optimizerStep: optimizer.step,
      routerBiases: routerBiases(model),
      loadAverages: model.routers.map(({ average }) => [...average.readSync()]),
      layout: { ranks: 1, pp: 1, ep: 1, dp: 1 },
    };
    writeJson(join(folder, trainerName), whole);
  };
  let path: string;
  try {
    path = commitCheckpoint(run, state.step, write);
  } catch (error) {
    throw diskError(error, join(run, 'checkpoints', `step-${state.step}`));
  }
  pruneCheckpoints(run, keep);
  return { path, bytes: folderBytes(path) };
}

/**
 * Reads trainer.json.
 * @param checkpoint - the checkpoint's folder
 * @returns its state, or null where there is none (a Hugging Face folder)
 */
export function readTrainerState(checkpoint: string): TrainerState | null {
  const path = join(checkpoint, trainerName);
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
  const moments = [...momentPieces(model, optimizer)];
  for (const [name, data] of moments) {
    const entry = source.tensors.get(name);
    if (entry?.dtype !== storedAs(data) || entry.shape.join() !== data.shape.join())
      throw otherShape(
        checkpoint,
        `${name} is ${entry ? `${entry.dtype} [${entry.shape.join(', ')}]` : 'absent'} in ${checkpoint}, the model's is ${storedAs(data)} [${data.shape.join(', ')}]`,
      );
  }
  if (source.tensors.size !== moments.length)
    throw otherShape(
      checkpoint,
      `${checkpoint} holds ${source.tensors.size} moments, the model has ${moments.length}`,
    );
  loadWeights(model, openWeights(checkpoint));
  for (const [name, data] of moments) bytesOf(data).set(source.read(name));
  const biases = routerBiases(model);
  for (const [name, values] of Object.entries(biases))
    if (values.join() !== (state.routerBiases[name] ?? []).join())
      throw corrupt(join(checkpoint, trainerName), `its biases ${name} are not the weights' own`);
  const averages = state.loadAverages ?? model.routers.map(({ spec }) => ones(spec.experts));
  const fits = (list: unknown, count: number): boolean =>
    Array.isArray(list) && list.length === count && list.every(Number.isFinite);
  if (!model.routers.every(({ spec }, index) => fits(averages[index], spec.experts)))
    throw corrupt(join(checkpoint, trainerName), 'its loadAverages are not one number an expert');
  model.routers.forEach(({ average }, index) => {
    writeTensor(average, Float32Array.from(averages[index]));
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
