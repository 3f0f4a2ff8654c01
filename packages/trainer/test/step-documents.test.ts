// Steps whose attention keeps documents apart: however the batch is cut, every micro-batch reads its own borders; and the
// intermediate memory is what it is without.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { Decoder } from '@baleen/model';
import { initialize } from '@baleen/tensor';
import { expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import { estimate, modelConfigOf } from '../src/index';
import { TrainingStep } from '../src/step';
import type { StepBatch } from '../src/step-tokens';
import { only, runAll, smallRun, temporaryFolder } from './helpers';

const folder = temporaryFolder();
const [sequence, sequences] = [16, 4];
const plan = { sequences, learningRate: 1e-3, biasSpeed: 0, mtpWeight: 0.3 };

function stepOf(kernels: Kernels, microBatch: number, documentMask: boolean) {
  const { batch, optimizer, data } = smallRun(folder);
  const config = smallRun(folder, { data: { ...data, documentMask } });
  const sizes = { ...modelConfigOf(config, 40), mtp: { depth: 2 } };
  const model = new Decoder(kernels, sizes, 'fp32');
  initialize(model, 0.1, 3);
  const settings = { batch: { ...batch, microBatch }, optimizer, balanceFactor: 0, documentMask };
  return { model, step: new TrainingStep(model, settings) };
}

/** Documents of another length in every sequence, one of them over a border. */
function batch(seed: number): StepBatch {
  const count = sequence * sequences;
  const stream = Int32Array.from({ length: count + 1 }, (_, i) => ((i + seed) * 7 + (i % 11)) % 40);
  const number = Int32Array.from(stream, (_, i) => Math.floor((i + seed) / (3 + (i >> 5) * 4)));
  return {
    ids: stream.slice(0, count),
    targets: stream.slice(1),
    documents: { inputs: number.slice(0, count), targets: number.slice(1) },
  };
}

/** Losses of two steps on different batches. */
async function losses(kernels: Kernels, microBatch: number, mask: boolean): Promise<number[]> {
  const { step } = stepOf(kernels, microBatch, mask);
  const list: number[] = [];
  for (const seed of [0, 5]) {
    step.load(batch(seed), plan.mtpWeight);
    step.run(plan);
    const { loss, mtpLoss, gradNorm } = await step.finish(0);
    list.push(loss, ...mtpLoss, gradNorm);
  }
  return list;
}

test.each(implementationsOf(referenceKernels(), loadKernels()))(
  '%s: the same losses and gradients in 1, 2 and 4 micro-batches, and others without the mask',
  async (_, kernels) => {
    const whole = await losses(kernels, 4, true);
    for (const microBatch of [1, 2])
      (await losses(kernels, microBatch, true)).forEach((loss, i) => {
        expect(loss / whole[i]).toBeCloseTo(1, 4);
      });
    const mixed = await losses(kernels, 4, false);
    expect(Math.abs(mixed[0] / whole[0] - 1)).toBeGreaterThan(1e-5);
  },
);

test('intermediate memory is that of a step without the mask, and the estimate knows the borders', async () => {
  const make = (documentMask: boolean) => {
    const { data } = smallRun(folder);
    return smallRun(folder, { steps: 60, data: { ...data, documentMask } });
  };
  const [masked, plain] = [estimate(make(true)).bytes, estimate(make(false)).bytes];
  expect(masked.region).toBe(plain.region);
  expect(masked.inputs).toBeGreaterThan(plain.inputs);
  const { result, events } = await runAll(make(true), { kernels: loadKernels() });
  expect(result.peakRegionBytes).toBe(masked.region);
  const unmasked = await runAll(make(false), { kernels: loadKernels() });
  const lossesOf = (list: typeof events): number[] => only(list, 'step').map(({ loss }) => loss);
  expect(lossesOf(events)).not.toEqual(lossesOf(unmasked.events));
});
