// Everything a run needs before its first step: data, tokenizer, model, optimizer, the checkpoint it goes on from, and
// the folder it writes to. Whatever is wrong is found here, before anything is written.
import { join, resolve } from 'node:path';

import type { Communicator } from '@baleen/comm';
import { type Kernels, loadKernels, setThreads } from '@baleen/kernels';
import { cutStages, Decoder } from '@baleen/model';
import { initialize } from '@baleen/tensor';

import { restoreCheckpoint, saveCheckpoint } from './checkpoint';
import { listCheckpoints } from './checkpoint-files';
import type { TrainConfig } from './config';
import {
  documentBytes,
  heldOutWindows,
  loadDocuments,
  loadTokenizer,
  makeTokenizer,
  Packer,
  type PackerState,
  splitDocuments,
  type Tokenizer,
  type TokenWindow,
} from './data/index';
import type { Fault } from './ranks/faults';
import { gatherJson } from './ranks/gather-json';
import { Layout } from './ranks/layout';
import { checkTrainConfig, modelConfigOf } from './resolve';
import { checkEmpty, createRun, type FoundRun, findRun, reopenRun } from './run-folder';
import { lockRun } from './run-lock';
import { planOf, type RunPlan } from './schedule';
import { TrainingStep } from './step';

/** How to train. */
export interface TrainOptions {
  /** The run's folder; null writes nothing. Default: the folder of the run resumed, else null. */
  out?: string | null;
  /** A run's folder or a checkpoint to go on from, to the bit where the configuration is the same. */
  resume?: string;
  /** Finish the step under way, save, and end. */
  signal?: AbortSignal;
  /** Told how far an evaluation is, from 0 to 1: unlike steps it is one event, and may take a while. */
  onEvaluation?: (share: number) => void;
  /** Kernels (default: this process's, with `config.threads`). */
  kernels?: Kernels;
  /**
   * This rank's end of all ranks, where whoever calls started them: every rank trains, the first one writes and its events
   * are the run's (default: `config.layout.ranks` threads of this process).
   */
  communicator?: Communicator;
  /** The folder is locked by whoever calls. */
  locked?: boolean;
  /**
   * Milliseconds that a rank waits for the others in one exchange, until it names those that did not come and the run ends
   * (default 300,000). The ranks of `communicator` have a deadline of their own.
   */
  deadlineMs?: number;
  /** How often a run whose ranks die or hang is begun again, from its last complete checkpoint (default 0). */
  maxRestarts?: number;
  /** Times that this was done so far: the folder holds what those attempts left. */
  restarts?: number;
  /** Drills, each once: ranks that die, hang or fall behind; see {@link faultOf}. */
  inject?: readonly Fault[];
  /**
   * Words that start ranks as processes rather than threads: `['mpirun', '--hostfile', 'hosts']`. Behind them come `-n`, the
   * number of ranks, and what to run.
   */
  launch?: readonly string[];
  /** Told what these processes and their launcher have to say beside the run's events. */
  onLaunched?: (text: string) => void;
  /** Name of the preset the configuration began from, for reports. */
  preset?: string;
  /** Origin of every value, for config.json. */
  origins?: Record<string, string>;
}

/** A run about to go on. */
export interface Session {
  /** The configuration. */
  config: TrainConfig;
  /** Preset it began from, or null. */
  preset: string | null;
  /** The run's folder, or null. */
  run: string | null;
  /** What every step runs with. */
  plan: RunPlan;
  /** The model. */
  model: Decoder;
  /** Its steps. */
  step: TrainingStep;
  /** How it is spread over ranks. */
  layout: Layout;
  /** Its tokenizer. */
  tokenizer: Tokenizer;
  /** Training tokens. */
  packer: Packer;
  /** Held-out windows, all of them. */
  windows: TokenWindow[];
  /** Texts as bytes, for n-gram baselines. */
  bytes: { train: Uint8Array[]; heldOut: Uint8Array[] };
  /** Steps done. */
  done: number;
  /** Tokens trained on. */
  tokens: number;
  /** Step of the checkpoint gone on from, or null. */
  resumedFrom: number | null;
  /** Newest checkpoint in the run's folder. */
  saved: { step: number; path: string } | null;
  /** Lets other processes train in the run's folder again. */
  unlock: () => void;
}

/**
 * Prepares a run.
 * @param config - its configuration
 * @param options - see {@link TrainOptions}
 * @returns see {@link Session}; the run's folder exists when this returns, locked
 */
export async function prepare(config: TrainConfig, options: TrainOptions): Promise<Session> {
  checkTrainConfig(config);
  const from = options.resume === undefined ? null : findRun(options.resume);
  const layout = new Layout(config.layout, options.communicator);
  // The first rank's folder is everyone's.
  const [run] = gatherJson(layout.world, folderOf(options, from));
  const locks = layout.rank === 0 && run !== null && !options.locked;
  const unlock = locks ? lockRun(run) : () => undefined;
  try {
    return { ...(await assemble(config, options, layout, from, run)), unlock };
  } catch (error) {
    unlock();
    throw error;
  }
}

async function assemble(
  config: TrainConfig,
  options: TrainOptions,
  layout: Layout,
  from: FoundRun | null,
  run: string | null,
): Promise<Omit<Session, 'unlock'>> {
  const leads = layout.rank === 0;
  if (from) checkResume(from, run, config);
  const again = from?.run === run || (options.restarts ?? 0) > 0;
  if (leads && run !== null && !again) checkEmpty(run);
  const kernels = options.kernels ?? kernelsFor(config, options);

  const { train, heldOut } = splitDocuments(
    await loadDocuments(config.data.sources),
    config.data.heldOutEvery,
  );
  const tokenizer = from
    ? await loadTokenizer(join(from.checkpoint, 'tokenizer.json'))
    : await makeTokenizer(config.data.tokenizer, train);
  checkVocabulary(config, tokenizer);
  const tokens = (documents: typeof train): Int32Array[] =>
    documents.map(({ text }) => tokenizer.encode(text));
  const { documentEnd } = tokenizer;
  const packer = new Packer(tokens(train), { documentEnd, seed: config.seed });
  packer.checkSequence(config.batch.sequence);
  const windows = heldOutWindows(tokens(heldOut), {
    documentEnd,
    sequence: config.batch.sequence,
    stride: config.evaluation.stride,
  });

  const sizes = modelConfigOf(config, tokenizer.vocabSize);
  const stages = cutStages(sizes, layout.stages);
  const model = new Decoder(kernels, sizes, config.precision, {
    fp8: config.fp8,
    experts: { communicator: layout.experts, bySource: layout.deterministic },
    stages: layout.ownStages.map((stage) => stages[stage]),
  });
  const step = new TrainingStep(
    model,
    {
      batch: config.batch,
      optimizer: config.optimizer,
      balanceFactor: config.schedule.balanceFactor,
      balance: config.balance,
      documentMask: config.data.documentMask,
    },
    { layout },
  );
  let trained = 0;
  if (from) {
    const state = restoreCheckpoint(from.checkpoint, model, step.optimizer);
    packer.restore(state.data as PackerState);
    trained = state.tokens;
  } else initialize(model, config.model.initStd, config.seed);

  const preset = options.preset ?? from?.preset ?? null;
  const origins = options.origins ?? from?.origins ?? {};
  if (leads && run !== null)
    if (again) reopenRun(run, from?.step ?? 0, { preset, config, origins });
    else createRun(run, { preset, config, origins });
  return {
    config,
    preset,
    run,
    plan: planOf(config),
    model,
    step,
    layout,
    tokenizer,
    packer,
    windows,
    bytes: { train: documentBytes(train), heldOut: documentBytes(heldOut) },
    done: from?.step ?? 0,
    tokens: trained,
    resumedFrom: from?.step ?? null,
    saved: run !== null && from?.run === run ? { step: from.step, path: from.checkpoint } : null,
  };
}

/**
 * Saves a session as it stands after its steps done.
 * @param session - with a run's folder
 * @param run - that folder
 * @param keep - checkpoints that stay
 * @param cursor - where the data go on
 * @returns where and how large
 */
export function saveSession(
  session: Session,
  run: string,
  keep: number,
  cursor: PackerState,
): { path: string; bytes: number } {
  const { config, preset, plan, model, step, layout, tokenizer, done, tokens } = session;
  const { learningRate, biasSpeed, mtpWeight } = plan.at(Math.min(done, config.steps - 1));
  const saved = saveCheckpoint(
    run,
    {
      model,
      optimizer: step.optimizer,
      tokenizer,
      layout,
      state: {
        step: done,
        tokens,
        random: { seed: config.seed },
        data: cursor,
        schedules: { learningRate, biasSpeed, mtpWeight },
        config,
        preset,
      },
    },
    keep,
  );
  session.saved = { step: done, path: saved.path };
  return saved;
}

/**
 * The folder that a run writes to.
 * @param options - what was asked
 * @param from - the run it goes on from
 * @returns its path, or null
 */
export function folderOf(options: TrainOptions, from: FoundRun | null): string | null {
  if (options.out === null) return null;
  return options.out === undefined ? (from?.run ?? null) : resolve(options.out);
}

function kernelsFor(config: TrainConfig, { locked }: TrainOptions): Kernels {
  const kernels = loadKernels();
  // Ranks as threads share what whoever started them has set.
  if (!locked) setThreads(config.threads);
  return kernels;
}

function checkResume(from: FoundRun, run: string | null, config: TrainConfig): void {
  if (config.steps < from.step)
    throw Object.assign(
      new Error(`config.steps (${config.steps}) is below the checkpoint's step (${from.step})`),
      {
        code: 'ERR_BALEEN_CONFIG_STEPS',
        path: 'steps',
        hint: `give ${from.step} steps or more, or resume from an earlier checkpoint`,
      },
    );
  const newest = run !== null && run === from.run ? listCheckpoints(run).at(-1) : undefined;
  if (newest && newest.step > from.step)
    throw Object.assign(
      new Error(`${run ?? ''} holds a later checkpoint (step ${newest.step}) than ${from.step}`),
      {
        code: 'ERR_BALEEN_USAGE_RESUME',
        path: from.checkpoint,
        hint: 'branch off into another folder with --out, or remove the later checkpoints',
      },
    );
}

function checkVocabulary({ model }: TrainConfig, tokenizer: Tokenizer): void {
  if (model.vocabSize !== null && model.vocabSize < tokenizer.vocabSize)
    throw Object.assign(
      new Error(
        `config.model.vocabSize (${model.vocabSize}) is below the tokenizer's ${tokenizer.vocabSize} tokens`,
      ),
      {
        code: 'ERR_BALEEN_CONFIG_VOCABULARY',
        path: 'model.vocabSize',
        hint: 'raise it, or set it to null',
      },
    );
}
