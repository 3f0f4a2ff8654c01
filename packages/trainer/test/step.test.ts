// One step: what it computes does not depend on how the batch is cut, counts come from the whole batch, and memory stays.
import { type Kernels, nullKernels, referenceKernels } from '@baleen/kernels';
import { Decoder, flopsPerToken } from '@baleen/model';
import { initialize } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';
import { stepOfShapes } from '../src/estimate';
import { benchStep, estimate, modelConfigOf, type TrainConfig } from '../src/index';
import { TrainingStep } from '../src/step';
import type { StepBatch } from '../src/step-tokens';
import { only, runAll, smallRun, temporaryFolder } from './helpers';

const folder = temporaryFolder();
const [sequence, sequences] = [16, 4];

function configured(changes: Partial<TrainConfig> = {}): TrainConfig {
  return smallRun(folder, changes);
}

/** A step of a fresh model on its own batch of short documents: micro-batches differ in how many positions count. */
function stepOf(
  microBatch: number,
  kernels: Kernels = referenceKernels(),
  depth = 2,
  balance: Partial<TrainConfig['balance']> = {},
  balanceFactor = 0.01,
) {
  const config = configured();
  const sizes = { ...modelConfigOf(config, 40), mtp: { depth } };
  const model = new Decoder(kernels, sizes, 'fp32');
  initialize(model, 0.1, 3);
  const step = new TrainingStep(model, {
    batch: { ...config.batch, microBatch },
    optimizer: config.optimizer,
    balanceFactor,
    balance: { ...config.balance, ...balance },
  });
  return { model, step };
}

function batch(): StepBatch {
  const count = sequence * sequences;
  const stream = Int32Array.from({ length: count + 1 }, (_, i) => (i * 7 + ((i * i) % 11)) % 40);
  // Documents of 2 tokens in the first half, of 16 in the second.
  const number = Int32Array.from(stream, (_, i) => (i < count / 2 ? i >> 1 : 1000 + (i >> 4)));
  return {
    ids: stream.slice(0, count),
    targets: stream.slice(1),
    documents: { inputs: number.slice(0, count), targets: number.slice(1) },
  };
}

function gradients(
  microBatch: number,
  lossOver: 'sequence' | 'batch',
): { grads: Float32Array[]; names: string[] } {
  const { model, step } = stepOf(microBatch, referenceKernels(), 2, { lossOver }, 1);
  step.load(batch(), 0.3);
  for (let m = 0; m < sequences / microBatch; m += 1) step.countMicroBatch(m, sequences);
  for (let m = 0; m < sequences / microBatch; m += 1) step.microBatch(m, sequences);
  const named = [...model.parameters()];
  return {
    names: named.map(([name]) => name),
    grads: named.map(([, { grad }]) => grad.readSync().slice() as Float32Array),
  };
}

const plan = { sequences, learningRate: 1e-3, biasSpeed: 0.125, mtpWeight: 0.3 };

describe('a batch cut into 1, 2 and 4 micro-batches', () => {
  // α of 1, so that gradients of the balance loss are not lost among the others.
  test.each(['sequence', 'batch'] as const)(
    'has the same gradients, with the balance loss over the %s: losses of every depth weigh by the whole batch’s counted positions',
    (lossOver) => {
      const whole = gradients(4, lossOver);
      for (const microBatch of [1, 2]) {
        const parts = gradients(microBatch, lossOver);
        whole.grads.forEach((grad, p) => {
          const norm = Math.hypot(...grad);
          const apart = Math.hypot(...grad.map((value, i) => value - parts.grads[p][i]));
          expect(apart / norm, whole.names[p]).toBeLessThan(1e-5);
        });
      }
    },
  );

  test.each(['sequence', 'batch'] as const)(
    'has the same losses, balance loss over the %s and expert counts, and moves the router biases alike',
    async (lossOver) => {
      const reports = [];
      for (const microBatch of [1, 2, 4]) {
        const { model, step } = stepOf(microBatch, referenceKernels(), 2, { lossOver });
        step.load(batch(), plan.mtpWeight);
        step.run(plan);
        const report = await step.finish(plan.biasSpeed);
        const biases = [...model.states()].map(([, { data }]) => [...data.readSync()]);
        reports.push({ report, biases });
      }
      const [first, ...others] = reports;
      expect(first.report.finite).toBe(true);
      expect(first.report.balanceLoss).toBeGreaterThan(0);
      expect(first.biases).toHaveLength(3);
      for (const biases of first.biases) {
        expect(
          biases.some((bias) => bias === 0.125) && biases.some((bias) => bias === -0.125),
        ).toBe(true);
        expect(biases.every((bias) => [0, 0.125, -0.125].includes(bias))).toBe(true);
      }
      for (const { report, biases } of others) {
        expect(biases).toEqual(first.biases);
        expect(report.maxViolation).toBe(first.report.maxViolation);
        for (const key of ['loss', 'balanceLoss', 'gradNorm'] as const)
          expect(report[key] / first.report[key]).toBeCloseTo(1, 5);
        report.mtpLoss.forEach((loss, k) => {
          expect(loss / first.report.mtpLoss[k]).toBeCloseTo(1, 5);
        });
      }
    },
  );

  test('counts all of them before the first goes forward, anew every step, and only where the loss wants it', async () => {
    const piecesOf = (step: TrainingStep): string[] => [
      ...step.pieces({ ...plan, learningRate: 0 }),
    ];
    const counts = (name: string): boolean => name.endsWith(' counting');
    const { step } = stepOf(2, referenceKernels(), 2, { lossOver: 'batch' });
    const losses = [];
    for (let index = 0; index < 2; index += 1) {
      step.load(batch(), plan.mtpWeight);
      const names = piecesOf(step);
      expect(names.filter((name) => name.includes('dispatch counting'))).toHaveLength(6);
      expect(names.findLastIndex(counts)).toBeLessThan(names.findIndex((name) => !counts(name)));
      losses.push((await step.finish(0)).balanceLoss);
    }
    expect(losses[1]).toBe(losses[0]);
    for (const [microBatch, lossOver] of [
      [4, 'batch'],
      [2, 'sequence'],
    ] as const) {
      const other = stepOf(microBatch, referenceKernels(), 2, { lossOver }).step;
      other.load(batch(), plan.mtpWeight);
      expect(piecesOf(other).some(counts)).toBe(false);
    }
  });
});

test('the balance loss over the batch is that of its sequences taken for one', async () => {
  const losses = [];
  for (const lossOver of ['sequence', 'batch'] as const) {
    const { model, step } = stepOf(4, referenceKernels(), 2, { lossOver });
    step.load(batch(), plan.mtpWeight);
    step.run(plan);
    losses.push((await step.finish(0)).balanceLoss);
    expect(model.routers.length).toBeGreaterThan(0);
  }
  // Σ fᵢPᵢ is least over the whole: what one sequence favours another makes up for. α · routers in perfect balance.
  const [sequenceWise, batchWise] = losses;
  expect(batchWise).toBeLessThan(sequenceWise);
  expect(batchWise).toBeGreaterThan(0.01);
});

test('router biases follow the loads by the rule that is configured', async () => {
  const biases = async (balance: Partial<TrainConfig['balance']>): Promise<number[]> => {
    const { model, step } = stepOf(2, referenceKernels(), 2, balance);
    step.load(batch(), plan.mtpWeight);
    step.run(plan);
    const loads = model.routers.map(({ load }) => [...load.readSync()]);
    await step.finish(plan.biasSpeed);
    const moved = model.routers.flatMap(({ bias }) => [...bias.readSync()]);
    const gaps = loads.flatMap((load) => {
      const mean = load.reduce((sum, count) => sum + count, 0) / load.length;
      return load.map((count) => 1 - count / mean);
    });
    return moved.map((bias, i) => (gaps[i] === 0 ? 0 : bias / gaps[i]));
  };
  // A step is γ · gap, and with 3/4 of the average kept γ · gap / 4.
  for (const [rule, factor] of [
    ['proportional', 0.125],
    ['ema', 0.125 / 4],
  ] as const)
    for (const ratio of await biases({ rule, decay: 0.75 }))
      if (ratio !== 0) expect(ratio).toBeCloseTo(factor, 5);
});

test('λ scales the gradient of the depths; 0 leaves them untrained', () => {
  const norms = [0, 0.3, 0.6].map((lambda) => {
    const { model, step } = stepOf(2);
    step.load(batch(), lambda);
    step.microBatch(0, sequences);
    step.microBatch(1, sequences);
    const last = new Map(model.parameters()).get('mtp.1.norm.weight');
    return Math.hypot(...(last?.grad.readSync() as Float32Array));
  });
  expect(norms[0]).toBe(0);
  expect(norms[2] / norms[1]).toBeCloseTo(2, 5);
});

test('a step that is not finite changes neither weights nor moments nor router biases, and leaves no loads', async () => {
  const { model, step } = stepOf(2);
  const snapshot = (): number[][] => [
    ...model.routers.map(({ load }) => [...load.readSync()]),
    ...[...model.parameters()].map(([, { data }]) => [...data.readSync()]),
    ...[...model.states()].map(([, { data }]) => [...data.readSync()]),
    ...[...step.optimizer.moments()].flatMap(([, { m, v }]) => [
      [...m.readSync()],
      [...v.readSync()],
    ]),
  ];
  step.load(batch(), plan.mtpWeight);
  step.run(plan);
  await step.finish(plan.biasSpeed);
  const before = snapshot();
  const [, table] = [...model.parameters()][0];
  const values = table.data.readSync();
  const kept = values[3];
  values[3] = NaN;
  step.load(batch(), plan.mtpWeight);
  step.run(plan);
  expect((await step.finish(plan.biasSpeed)).finite).toBe(false);
  values[3] = kept;
  expect(snapshot()).toEqual(before);
});

describe('memory', () => {
  test('nothing is asked of the backend from the third step on, evaluations and growing batches included', async () => {
    const reference = referenceKernels();
    let asked = 0;
    const counting = Object.assign(Object.create(reference) as Kernels, {
      createStorage: (bytes: number) => {
        asked += 1;
        return reference.createStorage(bytes);
      },
    });
    const config = configured({
      precision: 'fp8',
      steps: 12,
      batch: { sequence, sequences: 4, microBatch: 1, rampFrom: 1, rampShare: 0.5, rampBy: null },
      evaluation: { every: 2, tokens: 64, stride: 0.5 },
      balance: { rule: 'sign', decay: 0, lossOver: 'batch' },
    });
    const after: number[] = [];
    const { train } = await import('../src/index');
    for await (const event of train(config, { kernels: counting }))
      if (event.type === 'step' || event.type === 'end') after.push(asked);
    expect(after.slice(2)).toEqual(new Array<number>(11).fill(after[2]));
  });

  test.each(['fp8', 'bf16', 'fp32'] as const)(
    '%s: the estimate’s intermediate memory is the run’s to the byte',
    async (precision) => {
      const config = configured({
        precision,
        steps: 3,
        evaluation: { every: 1, tokens: 0, stride: 0 },
        balance: { rule: 'sign', decay: 0, lossOver: 'batch' },
      });
      const { result } = await runAll(config);
      const { bytes, params } = estimate(config, { peaks: null });
      expect(bytes.region).toBe(result.peakRegionBytes);
      expect(params).toBe(result.params);
      const { total, ...parts } = bytes;
      expect(Object.values<number>(parts).reduce((sum, size) => sum + size, 0)).toBe(total);
    },
  );

  test('8 micro-batches take what 1 takes', () => {
    const of = (count: number): number =>
      estimate(
        configured({
          batch: {
            sequence,
            sequences: count,
            microBatch: 1,
            rampFrom: 1,
            rampShare: 0,
            rampBy: null,
          },
        }),
      ).bytes.region;
    expect(of(8)).toBe(of(1));
  });
});

test('an estimate counts the step’s products, what is recomputed on top, and bounds its time', () => {
  const config = configured();
  const peaks = { fp32: 1, bf16Dot: 1, copy: 1e9, read: 1e9 };
  const { flopsPerStep, tokensPerStep, secondsPerStep, tokens } = estimate(config, { peaks });
  const sizes = modelConfigOf(config, 257);
  const { training, mtpTraining } = flopsPerToken(sizes, sequence);
  const least = (training + (mtpTraining * (sequence - 1)) / sequence) * tokensPerStep;
  expect(flopsPerStep / least).toBeGreaterThan(1);
  expect(flopsPerStep / least).toBeLessThan(1.4);
  expect(secondsPerStep ?? 0).toBeCloseTo(flopsPerStep / 1e9, 3);
  expect(tokens).toBe(config.steps * tokensPerStep);
  const double = { ...config, batch: { ...config.batch, sequences: 8 } };
  expect(estimate(double, { peaks }).flopsPerStep / flopsPerStep).toBeCloseTo(2, 5);
});

test('an estimate of several ranks divides what they divide, and counts what travels', () => {
  const layout = { ranks: 4, pp: 1, schedule: 'dualpipe', ep: 2, deterministic: false } as const;
  const batch = { sequence, sequences: 4, microBatch: 1, rampFrom: 4, rampShare: 0, rampBy: null };
  const config = configured({ precision: 'fp32', batch });
  const [alone, four] = [config, { ...config, layout }].map((each) =>
    estimate(each, { peaks: null }),
  );
  const { model } = stepOfShapes(config);
  let [common, experts] = [0, 0];
  for (const [name, { size }] of model.parameters())
    if (name.includes('.experts.')) experts += size;
    else common += size;
  expect(experts).toBeGreaterThan(0);
  expect(alone.sent.total).toBe(0);
  expect(four.bytes.parameters).toBe(4 * (common + experts / 2));
  expect(four.bytes.gradients).toBe(four.bytes.parameters);
  const moments = config.optimizer.moments === 'bf16' ? 4 : 8;
  expect(four.bytes.optimizer).toBe((moments * (common + experts)) / 4);
  // To three others of four, and to the other of two.
  const travels = 4 * ((common * 3) / 4 + (experts / 2) * (1 / 2));
  expect(four.sent.weights).toBe(travels);
  expect(four.sent.gradients).toBe(travels);
  expect(four.sent.experts).toBeGreaterThan(0);
  const exact = estimate(
    { ...config, layout: { ...layout, deterministic: true } },
    { peaks: null },
  );
  expect(exact.bytes.gradients).toBe(4 * (common + (experts / 2) * 3));
  expect(exact.bytes.inputs).toBeGreaterThan(four.bytes.inputs);
});

test('the null backend runs a whole step: nothing in it depends on a value', () => {
  const { step } = stepOf(2, nullKernels());
  expect(() => {
    step.run(plan);
  }).not.toThrow();
});

test('benchStep measures whole steps and says where their time goes', async () => {
  const config = configured({ precision: 'fp8' });
  const bench = await benchStep(config, { steps: 4, kernels: referenceKernels(), preset: 'x' });
  expect(bench).toMatchObject({ preset: 'x', precision: 'fp8', tokensPerStep: 64, bound: null });
  expect(bench.tokensPerSecond).toBeCloseTo(64 / bench.medianStepSeconds, 6);
  const seconds = Object.values(bench.breakdown);
  expect(Object.keys(bench.breakdown)).toContain('linearCrossEntropy');
  expect(seconds).toEqual([...seconds].sort((a, b) => b - a));
  await expect(benchStep(config, { steps: 2 })).rejects.toMatchObject({
    code: 'ERR_BALEEN_USAGE_STEPS',
  });
});

test('events of a run say what the schedules said', async () => {
  const config = configured({ steps: 4 });
  const { events } = await runAll(config);
  const rates = only(events, 'step').map(({ learningRate }) => learningRate);
  expect(new Set(rates).size).toBeGreaterThan(1);
  expect(only(events, 'step').every(({ gradNorm, seconds }) => gradNorm > 0 && seconds > 0)).toBe(
    true,
  );
});
