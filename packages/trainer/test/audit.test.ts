// A step under audit computes what it computes without, and every operand's figures are those of the values themselves.
import { emptyStatistics, type Fp8Recipe, fp8Recipe, quantize } from '@baleen/fp8';
import { loadKernels, observeKernels, referenceKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { OperandObserver } from '../src/audit/operands';
import { auditStep, type OperandAudit, type TrainConfig } from '../src/index';
import { prepare, type Session } from '../src/session';
import { runAll, smallRun, temporaryFolder } from './helpers';

const folder = temporaryFolder();
const configured = (changes: Partial<TrainConfig> = {}): TrainConfig =>
  smallRun(folder, { precision: 'fp8', ...changes });

/** Takes a prepared session's first step, forward and backward. */
function takeStep({ step, packer, plan, model, config }: Session): Float32Array[] {
  const { sequences, mtpWeight } = plan.at(0);
  step.load(packer.next(sequences, config.batch.sequence), mtpWeight);
  for (let m = 0; m < sequences / config.batch.microBatch; m += 1) step.microBatch(m, sequences);
  return [...model.parameters()].map(([, { grad }]) => grad.readSync().slice() as Float32Array);
}

test.each<[string, Fp8Recipe]>([
  ['V3’s recipe', fp8Recipe()],
  [
    'the others',
    fp8Recipe({
      gradients: { block: '128x128', scales: 'powerOfTwo' },
      weights: { block: '1x128', scales: 'powerOfTwo' },
      kept: { swigluInputs: 'e5m6', attentionOutput: 'fp8' },
    }),
  ],
])('gradients are the same to the bit: %s', async (_, fp8) => {
  const config = configured({ fp8 });
  const plain = await prepare(config, { out: null, kernels: loadKernels() });
  const observer = new OperandObserver(loadKernels());
  const kernels = observeKernels(loadKernels(), (call) => {
    observer.see(call);
  });
  const watched = await prepare(config, { out: null, kernels });
  observer.name(watched.model.parameters());
  expect(takeStep(watched)).toEqual(takeStep(plain));
  expect(observer.results().length).toBeGreaterThan(0);
});

const linears = [
  ...['attention.queryDown', 'attention.kvDown', 'attention.queryUp', 'attention.kvUp'],
  'attention.output',
];
const gated = (part: string): string[] => ['gate', 'up', 'down'].map((name) => `${part}${name}`);

/** The layers that run in FP8, by hand. */
const layers = [
  ...[...linears, ...gated('feedForward.')].map((name) => `layers.0.${name}`),
  ...['layers.1.', 'mtp.0.block.'].flatMap((layer) =>
    [...linears, ...gated('feedForward.experts.'), ...gated('feedForward.shared.')].map(
      (name) => layer + name,
    ),
  ),
].map((name) => `${name}.weight`);

test('every FP8 layer has its activation, weight and gradient, and what is kept is told', async () => {
  const config = configured();
  const shares: number[] = [];
  const audit = await auditStep(config, {
    kernels: referenceKernels(),
    onProgress: (share) => shares.push(share),
  });
  expect(shares).toEqual([0.5, 1]);
  expect(audit).toMatchObject({ step: 1, tokens: 64 });
  const of = (operand: OperandAudit['operand']): string[] =>
    audit.operands.filter((one) => one.operand === operand).map(({ layer }) => layer);
  for (const operand of ['activation', 'weight', 'gradient'] as const)
    expect(of(operand).sort()).toEqual([...layers].sort());
  expect(of('kept').sort()).toEqual(
    layers.filter((name) => /\.(gate|up|output)\.weight$/.test(name)).sort(),
  );
  const find = (layer: string, operand: OperandAudit['operand']): OperandAudit | undefined =>
    audit.operands.find((one) => one.layer === layer && one.operand === operand);
  expect(find('layers.1.attention.output.weight', 'kept')?.format).toBe('e5m6');
  expect(find('layers.1.feedForward.experts.gate.weight', 'kept')?.format).toBe('e4m3');

  // Tokens of both micro-batches, once each: the attention input of 4 sequences of 16, 16 wide.
  expect(find('layers.0.attention.kvDown.weight', 'activation')?.values).toBe(4 * 16 * 16);
  // Up-projections are computed again in backward, and count once.
  expect(find('layers.0.attention.kvUp.weight', 'activation')?.values).toBe(4 * 16 * 8);
  // Experts see the tokens' forms that their dispatch made: one quantisation for all.
  expect(find('layers.1.feedForward.experts.up.weight', 'activation')).toMatchObject({
    ...find('layers.1.feedForward.shared.up.weight', 'activation'),
    layer: 'layers.1.feedForward.experts.up.weight',
  });
});

test('figures are those of the values: weights of a stack, with their scales', async () => {
  const config = configured();
  const { model } = await prepare(config, { out: null, kernels: referenceKernels() });
  const { operands } = await auditStep(config, { kernels: referenceKernels() });
  for (const [name, { data, shape }] of model.parameters()) {
    if (!layers.includes(name)) continue;
    const [rows, cols] = shape.slice(-2);
    const stack = shape.length === 3 ? shape[0] : 1;
    const statistics = emptyStatistics();
    const values = data.readSync() as Float32Array;
    quantize(values, { rows, cols, stack }, { block: '128x128', statistics });
    const found = operands.find((one) => one.layer === name && one.operand === 'weight');
    expect(found).toMatchObject({
      values: values.length,
      saturated: 0,
      underflowed: statistics.underflowed,
      scales: { smallest: statistics.smallestScale, largest: statistics.largestScale },
    });
    expect(found?.signalToNoise).toBeCloseTo(statistics.signalToNoise, 9);
  }
});

test('the next step of a run, which is not touched; and one that has lost its precision', async () => {
  const run = `${temporaryFolder()}/run`;
  const config = configured({ steps: 2 });
  await runAll(config, { out: run });
  const audit = await auditStep(config, { resume: run, kernels: referenceKernels() });
  expect(audit.step).toBe(3);
  // A head of zeros sends nothing back; a tiny one sends gradients far below the floor of scales.
  const small = configured({ model: { ...config.model, initStd: 1e-7 } });
  const { findings } = await auditStep(small, { kernels: referenceKernels() });
  expect(findings.map(({ code }) => code)).toContain('ERR_BALEEN_AUDIT_PRECISION');
  expect(findings[0].message).toMatch(
    /^layers\.\d\.\S+ \w+: -?[\d.]+ dB of signal to noise, below/,
  );
});
