// A run through a pipeline is the run of one rank: the same bits with the deterministic layout, by every method, also together
// with expert and data parallelism, and when the layout changes at a checkpoint.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { resolveConfig, type TrainConfig } from '../src/index';
import { failure, only, smallRun, temporaryFolder } from './helpers';
import { runAll, said } from './run-layouts';

type Layout = TrainConfig['layout'];

const batch = {
  sequence: 16,
  sequences: 8,
  microBatch: 1,
  rampFrom: 8,
  rampShare: 0,
  rampBy: null,
};

/** Three layers and a depth: up to four stages. */
function pipelineRun(changes: Partial<TrainConfig> = {}, folder = temporaryFolder()): TrainConfig {
  const config = smallRun(folder, { batch, steps: 2, ...changes });
  return { ...config, model: { ...config.model, layers: 3 } };
}

const oneRank: Layout = {
  ...{ ranks: 1, pp: 1, schedule: 'dualpipe', ep: 1, deterministic: true },
};
const layoutOf = (
  ranks: number,
  pp: number,
  schedule: Layout['schedule'],
  ep = 1,
  deterministic = true,
): Layout => ({ ranks, pp, schedule, ep, deterministic });

const everyMethod = ['gpipe', '1f1b', 'interleaved', 'zb1p', 'dualpipe', 'dualpipev'] as const;

test.each([
  ['fp32', [...everyMethod.map((schedule) => layoutOf(2, 2, schedule))]],
  [
    'fp8',
    [
      layoutOf(4, 2, 'dualpipe', 2),
      layoutOf(4, 2, '1f1b'),
      layoutOf(4, 4, 'dualpipe'),
      layoutOf(4, 4, 'zb1p'),
    ],
  ],
] as const)(
  '%s: every layout gives the bits of one rank',
  { timeout: 120_000 },
  async (precision, layouts) => {
    const config = pipelineRun({ precision });
    const alone = await runAll({ ...config, layout: oneRank });
    for (const layout of layouts) {
      const { events, result } = await runAll({ ...config, layout });
      expect(said(events), JSON.stringify(layout)).toEqual(said(alone.events));
      const { ranks, pp, ep, schedule } = layout;
      expect(result.layout).toEqual({ ranks, pp, ep, dp: ranks / pp / ep, schedule });
    }
  },
);

test('a balance loss over the batch, documents kept apart, pipelines with different numbers of micro-batches', async () => {
  const config = pipelineRun({ batch: { ...batch, sequences: 7, rampFrom: 7 } });
  config.balance = { ...config.balance, lossOver: 'batch' };
  config.schedule = { ...config.schedule, balanceFactor: 0.1 };
  config.data = { ...config.data, documentMask: true };
  const alone = await runAll({ ...config, layout: oneRank });
  const { events } = await runAll({ ...config, layout: layoutOf(4, 2, 'zb1p') });
  expect(said(events)).toEqual(said(alone.events));
});

test('without the deterministic layout gradients of weights wait, and losses in FP32 are those of one rank within 1e-5', async () => {
  const config = pipelineRun({ steps: 4 });
  const alone = await runAll({ ...config, layout: { ...oneRank, deterministic: false } });
  for (const layout of [
    layoutOf(2, 2, 'zb1p', 1, false),
    layoutOf(4, 2, 'dualpipe', 2, false),
    layoutOf(2, 2, 'dualpipev', 1, false),
  ]) {
    const { events } = await runAll({ ...config, layout });
    only(events, 'step').forEach(({ loss }, i) => {
      const { loss: other } = only(alone.events, 'step')[i];
      expect(Math.abs(loss - other) / other, JSON.stringify(layout)).toBeLessThan(1e-5);
    });
  }
});

test('a checkpoint of a pipeline goes on under any layout, to the bit', {
  timeout: 120_000,
}, async () => {
  const folder = temporaryFolder();
  const config = pipelineRun({ steps: 4, checkpoint: { every: 2, keep: 3 } }, folder);
  const whole = await runAll({ ...config, layout: oneRank });
  const rest = said(whole.events.filter((event) => event.type !== 'step' || event.step > 2));
  const dual = { ...config, layout: layoutOf(4, 2, 'dualpipe', 2) };
  const first = await runAll(dual, { out: join(folder, 'dual') });
  const two = join(first.result.run ?? '', 'checkpoints', 'step-2');
  // Both ranks of a place write their experts; both places of DualPipe hold both stages, and one of them writes.
  const files = readdirSync(two);
  expect(files.filter((name) => /^model-.*\.safetensors$/.test(name))).toHaveLength(2);
  expect(files.filter((name) => /^optimizer-.*\.safetensors$/.test(name))).toHaveLength(4);
  for (const [index, layout] of [
    oneRank,
    layoutOf(2, 1, 'dualpipe', 2),
    layoutOf(4, 4, '1f1b'),
  ].entries()) {
    const out = join(folder, `from-${index}`);
    const { events } = await runAll({ ...config, layout }, { resume: two, out });
    expect(said(events), JSON.stringify(layout)).toEqual(rest);
  }
  const alone = await runAll({ ...config, layout: oneRank }, { out: join(folder, 'alone') });
  const three = join(alone.result.run ?? '', 'checkpoints', 'step-2');
  const { events } = await runAll(dual, { resume: three, out: join(folder, 'back') });
  expect(said(events)).toEqual(rest);
});

test('pipelines that cannot be are refused by name', async () => {
  const config = pipelineRun();
  const refusal = async (layout: Layout, changes: Partial<TrainConfig> = {}): Promise<string> => {
    const error = await failure(runAll({ ...config, ...changes, layout }));
    expect(error.code).toBe('ERR_BALEEN_CONFIG_LAYOUT');
    return error.message;
  };
  expect(await refusal(layoutOf(4, 3, '1f1b'))).toBe(
    'config.layout.pp (3) does not divide config.layout.ranks (4)',
  );
  expect(await refusal(layoutOf(4, 2, '1f1b', 4))).toBe(
    'config.layout.ep (4) does not divide config.layout.ranks / config.layout.pp (2)',
  );
  expect(await refusal(layoutOf(3, 3, 'dualpipe'))).toContain('an even number');
  expect(await refusal(layoutOf(4, 4, 'dualpipev'))).toContain('stage 0 of 8 would have no layer');
  expect(
    await refusal(layoutOf(4, 4, 'dualpipe'), {
      batch: { ...batch, sequences: 6, rampFrom: 6 },
    }),
  ).toContain('step 1 has 6 micro-batches (config.batch), 6 for each pipeline');
});

test('a pipeline asks for its ranks, and a preset’s micro-batch shrinks to what its method takes', () => {
  const values = pipelineRun({ batch: { ...batch, microBatch: 8 } });
  const flags = { layout: { pp: 2, ep: 2 } };
  const { config, origins } = resolveConfig([
    { origin: 'preset tiny', values },
    { origin: 'flag', values: flags },
  ]);
  expect(config.layout.ranks).toBe(4);
  expect(origins['layout.ranks']).toBe('layout.pp and layout.ep');
  expect(config.batch.microBatch).toBe(1);
});
