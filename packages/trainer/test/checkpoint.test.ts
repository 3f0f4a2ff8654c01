// Checkpoints: what they hold, and that nothing which goes wrong around them loses anything.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { type Kernels, referenceKernels } from '@baleen/kernels';
import { exportCheckpoint, openSafetensors, openWeights } from '@baleen/model/node';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';

import { largestDifference } from '../../../test/support';
import {
  findRun,
  listCheckpoints,
  openRun,
  readMetrics,
  type TrainConfig,
  type TrainerState,
} from '../src/index';
import { failure, only, runAll, smallRun, temporaryFolder } from './helpers';

/** Bytes that may still be written before the disk is full; null for a disk without end. */
const disk = vi.hoisted(() => ({ left: null as number | null, code: 'ENOSPC' }));

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return {
    ...fs,
    writeSync: (fd: number, bytes: Uint8Array, offset: number) => {
      if (disk.left !== null) {
        disk.left -= bytes.length - offset;
        if (disk.left < 0)
          throw Object.assign(new Error(`${disk.code}: write`), { code: disk.code });
      }
      return fs.writeSync(fd, bytes, offset);
    },
  };
});

afterEach(() => {
  disk.left = null;
  disk.code = 'ENOSPC';
});

const kernels = referenceKernels();
const folder = temporaryFolder();

/** A run saved after every second step, in a folder of its own. */
function saving(changes: Partial<TrainConfig> = {}): { config: TrainConfig; out: string } {
  const place = temporaryFolder();
  return {
    config: smallRun(place, { steps: 6, checkpoint: { every: 2, keep: 2 }, ...changes }),
    out: join(place, 'run'),
  };
}

describe('a checkpoint', () => {
  const out = join(folder, 'run');
  const path = join(out, 'checkpoints', 'step-6');
  const config = smallRun(folder);
  beforeAll(() => runAll(config, { out, preset: 'tiny', origins: { steps: 'flag' } }));

  test('holds the files of the contract', () => {
    expect(readdirSync(path).sort()).toEqual([
      'COMPLETE',
      'config.json',
      'model-00001-of-00001.safetensors',
      'model.safetensors.index.json',
      'optimizer-00001-of-00001.safetensors',
      'optimizer.safetensors.index.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'trainer.json',
    ]);
    expect(readdirSync(out).sort()).toEqual(['checkpoints', 'config.json', 'metrics.jsonl']);
  });

  test('has FP32 weights and BF16 moments under Hugging Face’s names', () => {
    const weights = openWeights(path);
    const moments = openWeights(path, 'optimizer');
    const trained = [...weights.tensors].filter(([name]) => !name.endsWith('correction_bias'));
    expect(trained.map(([name]) => name)).toContain(
      'model.layers.1.mlp.experts.3.down_proj.weight',
    );
    expect(trained.map(([name]) => name)).toContain('model.layers.2.eh_proj.weight');
    expect([...weights.tensors.values()].every(({ dtype }) => dtype === 'F32')).toBe(true);
    expect(moments.tensors.size).toBe(2 * trained.length);
    for (const [name, { shape }] of trained)
      for (const suffix of ['exp_avg', 'exp_avg_sq'])
        expect(moments.tensors.get(`${name}.${suffix}`)).toMatchObject({ dtype: 'BF16', shape });
  });

  test('says every tensor’s global name and shape, and where its slice begins', () => {
    for (const kind of ['model', 'optimizer']) {
      const { tensors, metadata } = openSafetensors(
        join(path, `${kind}-00001-of-00001.safetensors`),
      );
      const slices = JSON.parse(metadata.slices) as Record<string, unknown>;
      expect(Object.keys(slices)).toEqual([...tensors.keys()]);
      for (const [name, { shape }] of tensors)
        expect(slices[name]).toEqual({ shape, start: shape.map(() => 0) });
    }
  });

  test('keeps all that a run needs to go on, and where its values came from', () => {
    const state = JSON.parse(readFileSync(join(path, 'trainer.json'), 'utf8')) as TrainerState;
    expect(state).toMatchObject({
      format: 1,
      step: 6,
      tokens: 6 * 64,
      optimizerStep: 6,
      random: { seed: 1 },
      data: { tokens: 6 * 64 },
      layout: { ranks: 1, pp: 1, ep: 1, dp: 1 },
      config,
      preset: 'tiny',
    });
    expect(Object.keys(state.routerBiases)).toEqual([
      'model.layers.1.mlp.gate.e_score_correction_bias',
      'model.layers.2.mlp.gate.e_score_correction_bias',
    ]);
    expect(findRun(out).origins).toEqual({ steps: 'flag' });
    expect(findRun(path)).toMatchObject({ run: out, step: 6, preset: 'tiny' });
  });

  test('can be opened by its own path, and branches into another folder', async () => {
    expect((await openRun(path, { kernels, precision: 'fp32' })).step).toBe(6);
    const branch = join(folder, 'branch');
    const { events } = await runAll({ ...config, steps: 8 }, { resume: path, out: branch });
    expect(only(events, 'step').map(({ step }) => step)).toEqual([7, 8]);
    expect(listCheckpoints(branch).map(({ step }) => step)).toEqual([8]);
  });

  test('opens again where it was exported to in FP8', async () => {
    const opened = await openRun(path, { kernels, precision: 'fp32' });
    const exported = join(folder, 'exported');
    exportCheckpoint(exported, opened.model, { dtype: 'F8_E4M3' });
    cpSync(join(opened.folder, 'tokenizer.json'), join(exported, 'tokenizer.json'));
    const again = await openRun(exported, { kernels });
    expect(again).toMatchObject({ config: null, step: 0, folder: exported });
    const before = new Map(opened.model.parameters());
    let quantized = 0;
    for (const [name, { data }] of again.model.parameters()) {
      const masters = before.get(name)?.data.readSync() ?? [];
      const difference = largestDifference(data.readSync(), masters);
      if (difference > 0) quantized += 1;
      // Codes near 448 are 32 apart.
      expect(difference, name).toBeLessThanOrEqual(
        (16.1 / 448) * Math.max(...masters.map(Math.abs)),
      );
    }
    expect(quantized).toBeGreaterThan(10);
  });

  test('of another shape is refused, whatever differs', async () => {
    for (const model of [{ hiddenSize: 32 }, { layers: 3 }, { layers: 1 }, { mtp: { depth: 0 } }]) {
      const changed = { ...config, steps: 8, model: { ...config.model, ...model } };
      const error = await failure(runAll(changed, { resume: path, out: null }));
      expect(error.code).toMatch(/^ERR_BALEEN_CHECKPOINT_(SHAPE|MISSING|UNEXPECTED)$/);
      expect(error.hint).toMatch(/config/);
    }
  });

  test('whose averages of loads are not one finite number an expert is refused', async () => {
    const copy = join(temporaryFolder(), 'step-6');
    cpSync(path, copy, { recursive: true });
    const file = join(copy, 'trainer.json');
    const state = JSON.parse(readFileSync(file, 'utf8')) as TrainerState;
    for (const loadAverages of [
      [],
      [[1], [1]],
      state.loadAverages?.map((list) => list.map(() => null)),
    ]) {
      writeFileSync(file, JSON.stringify({ ...state, loadAverages }));
      expect(
        await failure(runAll({ ...config, steps: 8 }, { resume: copy, out: null })),
      ).toMatchObject({
        code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
        message: expect.stringContaining('loadAverages') as string,
      });
    }
  });

  test('of other text, or of more steps than asked for, is refused', async () => {
    const other = smallRun(temporaryFolder(), { seed: 2 });
    expect(await failure(runAll(other, { resume: path, out: null }))).toMatchObject({
      code: 'ERR_BALEEN_DATA_CHANGED',
    });
    const shorter = { ...config, steps: 5 };
    expect(await failure(runAll(shorter, { resume: path, out: null }))).toMatchObject({
      code: 'ERR_BALEEN_CONFIG_STEPS',
      message: "config.steps (5) is below the checkpoint's step (6)",
    });
  });
});

test('moments in FP32 are saved as such, go on to the bit, and are not taken for BF16 ones', async () => {
  const { config, out } = saving();
  config.optimizer = { ...config.optimizer, moments: 'fp32' };
  const whole = await runAll(config, { out });
  const path = join(out, 'checkpoints', 'step-4');
  const moments = [...openWeights(path, 'optimizer').tensors.values()];
  expect(new Set(moments.map(({ dtype }) => dtype))).toEqual(new Set(['F32']));
  const resumed = await runAll(config, { resume: path, out: null });
  expect(resumed.result.valLoss).toBe(whole.result.valLoss);
  const low = { ...config, optimizer: { ...config.optimizer, moments: 'bf16' as const } };
  expect((await runAll(low)).result.valLoss).not.toBe(whole.result.valLoss);
  expect(await failure(runAll(low, { resume: path, out: null }))).toMatchObject({
    code: 'ERR_BALEEN_CHECKPOINT_SHAPE',
    message: expect.stringMatching(/exp_avg is F32 .* the model's is BF16/) as string,
  });
});

test('a folder that holds something is not written into', async () => {
  const { config, out } = saving();
  mkdirSync(out);
  writeFileSync(join(out, 'mine.txt'), 'x');
  const error = await failure(runAll(config, { out }));
  expect(error).toMatchObject({ code: 'ERR_BALEEN_USAGE_RUN_EXISTS', path: out });
  expect(readdirSync(out)).toEqual(['mine.txt']);
});

test('a run that cannot begin leaves no folder', async () => {
  const { config, out } = saving();
  config.data.sources = [join(out, 'absent.txt')];
  await failure(runAll(config, { out }));
  expect(existsSync(out)).toBe(false);
});

test('an interrupted save: earlier checkpoints are whole, what is left of it is ignored and cleared away', async () => {
  const { config, out } = saving();
  disk.code = 'EIO';
  const { events, error } = await runUntilDiskFails(config, out, 4);
  disk.left = null;
  expect(error.message).toContain('EIO');
  expect(only(events, 'checkpoint').map(({ step }) => step)).toEqual([2]);
  const checkpoints = join(out, 'checkpoints');
  expect(readdirSync(checkpoints)).toEqual(['step-2']);
  // As a process that was killed leaves them: a folder not yet renamed, and one renamed but not marked.
  for (const name of ['step-4.tmp', 'step-4']) {
    mkdirSync(join(checkpoints, name));
    writeFileSync(join(checkpoints, name, 'model-00001-of-00001.safetensors'), 'half');
  }
  expect(findRun(out).step).toBe(2);
  const resumed = await runAll(config, { resume: out });
  expect(only(resumed.events, 'step').map(({ step }) => step)).toEqual([3, 4, 5, 6]);
  expect(readdirSync(checkpoints).sort()).toEqual(['step-4', 'step-6']);
  expect(only(readMetrics(out), 'step').map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
});

test('a checkpoint that was not saved to its end cannot be resumed by its own path', async () => {
  const { config, out } = saving({ steps: 2 });
  await runAll(config, { out });
  const path = join(out, 'checkpoints', 'step-2');
  rmSync(join(path, 'COMPLETE'));
  expect(await failure(runAll(config, { resume: path }))).toMatchObject({
    code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
    path,
  });
  expect(await failure(runAll(config, { resume: out }))).toMatchObject({
    code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
    hint: expect.stringContaining('train it again') as string,
  });
});

test('a full disk: the error says so, earlier checkpoints are whole, and the run goes on once there is room', async () => {
  const { config, out } = saving();
  const { error } = await runUntilDiskFails(config, out, 4);
  expect(error).toMatchObject({ code: 'ERR_BALEEN_IO_DISK_FULL' });
  expect(error.path).toContain('step-4');
  expect(error.hint).toMatch(/resume/);
  expect(readdirSync(join(out, 'checkpoints'))).toEqual(['step-2']);
  disk.left = null;
  const { result } = await runAll(config, { resume: out });
  expect(result.steps).toBe(6);
});

test('a full disk under metrics.jsonl says so too', async () => {
  const { config, out } = saving();
  const { error } = await runUntilDiskFails(config, out, 1);
  expect(error).toMatchObject({
    code: 'ERR_BALEEN_IO_DISK_FULL',
    path: join(out, 'metrics.jsonl'),
  });
});

test('a loss that is not finite: the run ends, says which step, and the state before it is saved', async () => {
  const { config, out } = saving({ checkpoint: { every: 2, keep: 1 } });
  const poisoned = failingLoss(4);
  const error = await failure(runAll(config, { out, kernels: poisoned }));
  expect(error).toMatchObject({ code: 'ERR_BALEEN_TRAIN_NOT_FINITE', step: 4 });
  expect(error.message).toContain('step 4: loss NaN');
  // The last regular checkpoint is kept beside the state before the step.
  expect(listCheckpoints(out).map(({ step }) => step)).toEqual([2, 3]);
  expect(error.path).toBe(join(out, 'checkpoints', 'step-3'));
  const resumed = await runAll(config, { resume: out });
  const whole = await runAll(config);
  expect(only(resumed.events, 'step').map(({ loss }) => loss)).toEqual(
    only(whole.events, 'step')
      .slice(3)
      .map(({ loss }) => loss),
  );
});

test('a loss that is not finite between checkpoints: nothing is lost', async () => {
  const { config, out } = saving({ checkpoint: { every: 0, keep: 1 } });
  const error = await failure(runAll(config, { out, kernels: failingLoss(4) }));
  expect(error).toMatchObject({ step: 4, path: join(out, 'checkpoints', 'step-3') });
  const { result } = await runAll(config, { resume: out });
  expect(result.valLoss).toBe((await runAll(config)).result.valLoss);
});

/** Runs until the disk fails while a step's events or files are written, from the step before on. */
async function runUntilDiskFails(
  config: TrainConfig,
  out: string,
  step: number,
): Promise<{
  events: Awaited<ReturnType<typeof runAll>>['events'];
  error: Awaited<ReturnType<typeof failure>>;
}> {
  const { train } = await import('../src/index');
  const events: Awaited<ReturnType<typeof runAll>>['events'] = [];
  const run = async (): Promise<void> => {
    for await (const event of train(config, { out, kernels })) {
      events.push(event);
      const last = event.type === 'step' ? event.step : event.type === 'start' ? 0 : -1;
      // Enough for a line of metrics, not for a checkpoint; nothing at all for the first step.
      if (last === step - 1) disk.left = step === 1 ? 0 : 2000;
    }
  };
  return { error: await failure(run()), events };
}

/** Kernels whose loss is NaN once, in the first micro-batch of a step. */
function failingLoss(step: number): Kernels {
  let calls = 0;
  return Object.assign(Object.create(kernels) as Kernels, {
    linearCrossEntropy: (...args: Parameters<Kernels['linearCrossEntropy']>) => {
      kernels.linearCrossEntropy(...args);
      if (!args[5]) return;
      calls += 1;
      // Two micro-batches a step.
      if (calls === 2 * step - 1) kernels.fill(args[0], NaN);
    },
  });
}
