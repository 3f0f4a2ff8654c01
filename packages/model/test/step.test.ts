// A training step of the decoder: the same bits in any order of work, no memory left behind, none asked for once warm,
// and the null backend's prediction of all of it.
import { type Kernels, loadKernels, nullKernels, referenceKernels } from '@baleen/kernels';
import { lossWeights, mtpTargets } from '@baleen/mtp';
import { AdamW, initialize, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import { Decoder, type ModelConfig, type Precision } from '../src/index';

const config: ModelConfig = {
  vocabSize: 40,
  hiddenSize: 32,
  layers: 2,
  denseLayers: 1,
  intermediateSize: 48,
  maxSequence: 16,
  normEps: 1e-6,
  initStd: 0.1,
  attention: {
    heads: 2,
    nopeDim: 8,
    ropeDim: 4,
    valueDim: 8,
    queryRank: 12,
    kvRank: 8,
    ropeTheta: 10000,
    yarn: null,
  },
  moe: {
    routedExperts: 4,
    sharedExperts: 1,
    expertsPerToken: 2,
    groups: 2,
    groupsPerToken: 2,
    intermediateSize: 24,
    routedScaling: 2.5,
    normalizeGates: true,
  },
  mtp: { depth: 1 },
};
const [batch, length] = [2, 10];

function inputOf(pool: Region, seed: number): { ids: Tensor; targets: Tensor; rowScale: Tensor } {
  const token = (i: number): number => (i * 7 + seed * 13 + ((i * i) % 5)) % config.vocabSize;
  const ids = Int32Array.from({ length: batch * length }, (_, i) => token(i));
  const next = Int32Array.from(ids, (_, i) => token(i + 1));
  const documents = new Int32Array(ids.length);
  const sizes = { batch, length, depth: 1 };
  const later = mtpTargets(next, { inputs: documents, targets: documents }, sizes);
  const targets = Int32Array.from([...next, ...later]);
  return {
    ids: tensorFrom(pool, [batch, length], ids),
    targets: tensorFrom(pool, [targets.length], targets),
    rowScale: tensorFrom(
      pool,
      [targets.length],
      lossWeights([next, later], [2 * next.length, 2 * later.length], 0.3),
    ),
  };
}

function setup(kernels: Kernels, precision: Precision) {
  const model = new Decoder(kernels, config, precision);
  initialize(model, config.initStd, 7);
  const inputs = new Region(kernels, 'inputs');
  const one = tensorFrom(inputs, [1], Float32Array.of(1));
  const balanceLoss = tensorFrom(inputs, [2], new Float32Array(2));
  const phases = model.lossPhases({ balanceFactor: 1e-3, balanceLoss });
  return { model, inputs, one, phases };
}

function gradients(model: Decoder): Float32Array[] {
  return [...model.parameters()].map(([, { grad }]) => grad.readSync().slice() as Float32Array);
}

const implementations = implementationsOf(referenceKernels(), loadKernels());

describe.each(
  implementations.flatMap(([name, kernels]) =>
    (['fp8', 'bf16', 'fp32'] as const).map((precision) => [name, precision, kernels] as const),
  ),
)('%s kernels, %s, recompute on', (_name, precision, kernels) => {
  test('two micro-batches interleaved phase by phase, weight gradients last in any order: the same bits', () => {
    const plain = setup(kernels, precision);
    for (const seed of [0, 1]) {
      const run = new Run(new Region(kernels, 'plain'));
      const input = inputOf(plain.inputs, seed);
      plain.phases.forEach((phase, p) => run.forward(phase, p === 0 ? input : undefined));
      plain.phases.forEach((_, p) => {
        run.backwardInput(p === 0 ? { losses: plain.one } : undefined);
      });
      run.finish();
    }
    const expected = gradients(plain.model);
    expect(expected.every((grad) => grad.every(Number.isFinite))).toBe(true);
    expect(expected.filter((grad) => grad.every((value) => value === 0))).toEqual([]);

    for (const reversed of [false, true]) {
      const { model, inputs, one, phases } = setup(kernels, precision);
      const regions = [new Region(kernels, 'a'), new Region(kernels, 'b')];
      const runs = regions.map((region) => new Run(region, { deferWeightGrads: true }));
      const data = runs.map((_, seed) => inputOf(inputs, seed));
      phases.forEach((phase, p) => {
        runs.forEach((run, i) => run.forward(phase, p === 0 ? data[i] : undefined));
      });
      phases.forEach((_, p) => {
        for (const run of runs) run.backwardInput(p === 0 ? { losses: one } : undefined);
      });
      for (const run of reversed ? [...runs].reverse() : runs) {
        run.finish();
        const order = Array.from({ length: run.tape.pendingWeightGrads }, (_, i) => i);
        expect(order.length).toBeGreaterThan(20);
        run.tape.drainWeightGrads(reversed ? order.reverse() : order);
      }
      for (const region of regions) expect(region.liveBytes).toBe(0);
      expect(gradients(model)).toEqual(expected);
    }
  });
});

/** Peaks, live bytes and buffers of each of some steps. */
function memoryOf(kernels: Kernels, microBatches: number, steps: number) {
  const { model, inputs, one, phases } = setup(kernels, 'fp8');
  const optimizer = new AdamW(kernels, model);
  const region = new Region(kernels, 'micro-batch', 1 << 12);
  const data = inputOf(inputs, 0);
  return Array.from({ length: steps }, () => {
    for (let m = 0; m < microBatches; m += 1) {
      const run = new Run(region);
      phases.forEach((phase, p) => run.forward(phase, p === 0 ? data : undefined));
      phases.forEach((_, p) => {
        run.backwardInput(p === 0 ? { losses: one } : undefined);
      });
      run.finish();
    }
    optimizer.update(one, {
      learningRate: 1e-3,
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay: 0.1,
      maxNorm: 1,
    });
    for (const router of model.routers) router.updateBias(1e-3);
    return { live: region.liveBytes, peak: region.peakBytes, buffers: region.buffers };
  });
}

describe.each(implementations)('%s kernels', (_name, kernels) => {
  test('memory: nothing live after a step, nothing reserved from the third on, the same peak for 1 and 8 micro-batches', () => {
    let created = 0;
    const counting: Kernels = Object.assign(Object.create(kernels) as Kernels, {
      createStorage: (bytes: number) => {
        created += 1;
        return kernels.createStorage(bytes);
      },
    });
    const steps = memoryOf(counting, 1, 2);
    const before = created;
    expect(before).toBeGreaterThan(0);
    const longer = memoryOf(counting, 1, 5);
    expect(created - before).toBe(before);
    expect(steps.every(({ live }) => live === 0)).toBe(true);
    const eight = memoryOf(counting, 8, 1);
    expect(eight[0]?.peak).toBe(longer[4]?.peak);
  });

  test('the null backend predicts the measured peak exactly', () => {
    expect(memoryOf(nullKernels(), 2, 2)).toEqual(memoryOf(kernels, 2, 2));
  });
});
