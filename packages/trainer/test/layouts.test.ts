// A run spread over ranks is the run of one rank: the same bits with the deterministic layout, whatever the layout is, also
// when it changes at a checkpoint.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { openRun, resolveConfig, type TrainConfig, type TrainEvent, train } from '../src/index';
import { failure, only, smallRun, temporaryFolder } from './helpers';
import { runAll, said } from './run-layouts';

type Layout = TrainConfig['layout'];
const layoutOf = (
  ranks: number,
  ep: number,
  deterministic = true,
  pipeline: Partial<Layout> = {},
): Layout => ({ ...{ ranks, pp: 1, schedule: 'dualpipe', ep, deterministic }, ...pipeline });
/** Ranks and expert-parallel ranks: data ranks alone, expert ranks alone, and groups of them. */
const layouts = {
  fp8: [
    [2, 1],
    [4, 1],
    [2, 2],
    [4, 4],
    [4, 2],
  ],
  // The rest in test/long/layouts.test.ts.
  fp32: [
    [2, 1],
    [4, 2],
  ],
} as const;

/** A run whose evaluation, at the end of each, is over a tenth of the text. */
function runOf(folder: string, changes: Partial<TrainConfig>): TrainConfig {
  const config = smallRun(folder, {
    evaluation: { every: 0, tokens: 64, stride: 0.9 },
    ...changes,
  });
  return { ...config, data: { ...config.data, heldOutEvery: 10 } };
}

const batch = {
  sequence: 16,
  sequences: 4,
  microBatch: 1,
  rampFrom: 4,
  rampShare: 0,
  rampBy: null,
};

test.each(['fp32', 'fp8'] as const)(
  '%s: every layout gives the bits of one rank',
  { timeout: 120_000 },
  async (precision) => {
    const config = runOf(temporaryFolder(), { precision, batch, steps: 4 });
    const alone = await runAll({ ...config, layout: layoutOf(1, 1) });
    expect(only(alone.events, 'step')).toHaveLength(4);
    for (const [ranks, ep] of layouts[precision]) {
      const { events, result } = await runAll({ ...config, layout: layoutOf(ranks, ep) });
      expect(said(events), `${ranks} ranks, ep ${ep}`).toEqual(said(alone.events));
      expect(result.layout).toEqual({ ranks, pp: 1, ep, dp: ranks / ep });
      expect(result.valLoss).toBe(alone.result.valLoss);
    }
  },
);

test('a balance loss over the batch, micro-batches that do not divide evenly, moments in FP32', async () => {
  const config = runOf(temporaryFolder(), {
    batch: { ...batch, sequences: 5, rampFrom: 5 },
    steps: 3,
  });
  config.balance = { ...config.balance, lossOver: 'batch' };
  config.optimizer = { ...config.optimizer, moments: 'fp32' };
  config.schedule = { ...config.schedule, balanceFactor: 0.1 };
  const alone = await runAll({ ...config, layout: layoutOf(1, 1) });
  const { events } = await runAll({ ...config, layout: layoutOf(3, 1) });
  expect(said(events)).toEqual(said(alone.events));
});

test('without the deterministic layout, losses in FP32 are those of one rank within 1e-5', async () => {
  const config = runOf(temporaryFolder(), { batch, steps: 6 });
  const alone = await runAll({ ...config, layout: layoutOf(1, 1, false) });
  for (const [ranks, ep] of [
    [2, 1],
    [4, 2],
  ]) {
    const { events } = await runAll({ ...config, layout: layoutOf(ranks, ep, false) });
    const pairs = only(events, 'step').map(({ loss }, i) => [
      loss,
      only(alone.events, 'step')[i].loss,
    ]);
    for (const [loss, other] of pairs)
      expect(Math.abs(loss - other) / other, `${ranks} ranks, ep ${ep}`).toBeLessThan(1e-5);
  }
});

test('a checkpoint of one layout goes on under any other, to the bit', {
  timeout: 120_000,
}, async () => {
  const folder = temporaryFolder();
  const config = runOf(folder, { batch, steps: 6, checkpoint: { every: 3, keep: 3 } });
  const whole = await runAll({ ...config, layout: layoutOf(1, 1) });
  const half = join(folder, 'ep');
  const first = await runAll({ ...config, layout: layoutOf(4, 2) }, { out: half });
  const after = first.result.run ?? '';
  const three = join(after, 'checkpoints', 'step-3');
  // Two ranks have all experts, four have moments of their own.
  const files = readdirSync(three);
  expect(files.filter((name) => /^model-.*\.safetensors$/.test(name))).toHaveLength(2);
  expect(files.filter((name) => /^optimizer-.*\.safetensors$/.test(name))).toHaveLength(4);
  for (const [ranks, ep] of [
    [1, 1],
    [4, 1],
    [2, 2],
  ]) {
    const out = join(folder, `from-${ranks}-${ep}`);
    const { events } = await runAll(
      { ...config, layout: layoutOf(ranks, ep) },
      { resume: three, out },
    );
    expect(said(events), `${ranks} ranks, ep ${ep}`).toEqual(
      said(whole.events.filter((event) => event.type !== 'step' || event.step > 3)),
    );
  }
  const { model } = await openRun(three);
  expect(model.config.moe.routedExperts).toBe(4);
});

test('the first signal stops all ranks together and saves; the run goes on', async () => {
  const folder = temporaryFolder();
  const config = runOf(folder, { batch, steps: 400, layout: layoutOf(2, 2) });
  const out = join(folder, 'run');
  const controller = new AbortController();
  const events: TrainEvent[] = [];
  for await (const event of train(config, { out, signal: controller.signal })) {
    events.push(event);
    if (event.type === 'step' && event.step === 2) controller.abort();
  }
  const [stopped] = only(events, 'stopped');
  expect(stopped.step).toBeLessThan(400);
  expect(existsSync(join(stopped.path ?? '', 'COMPLETE'))).toBe(true);
  const steps = stopped.step + 1;
  const { result } = await runAll({ ...config, steps }, { resume: out });
  expect(result.steps).toBe(steps);
});

test('who takes no more events ends all ranks, and the folder is free', async () => {
  const folder = temporaryFolder();
  const out = join(folder, 'run');
  const config = runOf(folder, { batch, steps: 400, layout: layoutOf(2, 1) });
  for await (const event of train(config, { out })) if (event.type === 'step') break;
  expect(readdirSync(out)).not.toContain('train.lock');
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  expect(JSON.parse(lines[0])).toMatchObject({ type: 'start' });
});

test('what is wrong on the ranks is thrown here, with its code', async () => {
  const folder = temporaryFolder();
  const config = runOf(folder, { batch, layout: layoutOf(2, 1) });
  await runAll({ ...config, steps: 1 }, { out: join(folder, 'run') });
  const error = await failure(runAll(config, { out: join(folder, 'run') }));
  expect(error.code).toBe('ERR_BALEEN_USAGE_RUN_EXISTS');
  const spoiled = { ...config, schedule: structuredClone(config.schedule) };
  spoiled.schedule.learningRate = {
    ...spoiled.schedule.learningRate,
    ...{ peak: 1e30, warmupShare: 0, constantShare: 0.5 },
  };
  expect((await failure(runAll(spoiled))).code).toBe('ERR_BALEEN_TRAIN_NOT_FINITE');
});

test('layouts that cannot be are refused by name', async () => {
  const config = runOf(temporaryFolder(), { batch });
  const refusal = async (layout: Layout, changes: Partial<TrainConfig> = {}): Promise<string> => {
    const error = await failure(runAll({ ...config, ...changes, layout }));
    expect(error.code).toBe('ERR_BALEEN_CONFIG_LAYOUT');
    return error.message;
  };
  expect(await refusal(layoutOf(4, 3))).toBe(
    'config.layout.ep (3) does not divide config.layout.ranks (4)',
  );
  expect(await refusal(layoutOf(8, 8))).toContain('config.model.moe.routedExperts (4)');
  expect(await refusal(layoutOf(5, 1))).toContain('fewer than config.layout.ranks (5)');
  const uneven = { batch: { ...batch, sequences: 5, rampFrom: 5 } };
  expect(await refusal(layoutOf(2, 2), uneven)).toContain('no multiple of config.layout.ranks (2)');
});

test('a preset’s micro-batch shrinks to what a rank gets, one that was chosen does not', () => {
  const values = runOf(temporaryFolder(), { batch: { ...batch, microBatch: 4 } });
  const flag = { origin: 'flag', values: { layout: { ranks: 2 } } };
  const { config, origins } = resolveConfig([{ origin: 'preset tiny', values }, flag]);
  expect(config.batch.microBatch).toBe(2);
  expect(origins['batch.microBatch']).toBe('layout.ranks');
  expect(() => resolveConfig([{ origin: 'file a.yaml', values }, flag])).toThrow('micro-batch');
});
