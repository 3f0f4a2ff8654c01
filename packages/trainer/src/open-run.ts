// Opens what was trained: a run, one of its checkpoints, or a Hugging Face folder.
import { join } from 'node:path';

import { type Kernels, loadKernels } from '@baleen/kernels';
import {
  configFromHuggingFace,
  Decoder,
  loadWeights,
  type Precision,
  quantizationFromHuggingFace,
} from '@baleen/model';
import { openWeights, readConfig } from '@baleen/model/node';

import type { TrainConfig } from './config';
import { loadTokenizer, type Tokenizer } from './data/index';
import { findRun } from './run-folder';

/** A trained model, ready to score or write text. */
export interface OpenedRun {
  /** The model. */
  model: Decoder;
  /** Its tokenizer. */
  tokenizer: Tokenizer;
  /** How it was trained; null for a Hugging Face folder. */
  config: TrainConfig | null;
  /** Preset it began from, or null. */
  preset: string | null;
  /** Steps done; 0 where that is not known. */
  step: number;
  /** The folder the weights are from. */
  folder: string;
}

/**
 * Opens a run's newest complete checkpoint, a checkpoint, or a Hugging Face folder with weights, config.json and
 * tokenizer.json.
 * @param path - any of them
 * @param options - `precision` (default: the run's, or bf16) and `kernels` (default: this process's)
 * @returns see {@link OpenedRun}
 * @throws `ERR_BALEEN_CHECKPOINT_…` for what is absent, damaged or of another shape
 */
export async function openRun(
  path: string,
  options: { precision?: Precision; kernels?: Kernels } = {},
): Promise<OpenedRun> {
  const { checkpoint, step, config, preset } = findRun(path);
  const { precision = config?.precision ?? 'bf16', kernels = loadKernels() } = options;
  const tokenizer = await loadTokenizer(join(checkpoint, 'tokenizer.json'));
  const json = readConfig(checkpoint);
  const sizes = configFromHuggingFace(json);
  const model = new Decoder(kernels, sizes, precision, config ? { fp8: config.fp8 } : {});
  loadWeights(model, openWeights(checkpoint), quantizationFromHuggingFace(json));
  return { model, tokenizer, config, preset, step, folder: checkpoint };
}
