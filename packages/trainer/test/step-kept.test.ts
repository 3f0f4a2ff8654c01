// What backward finds kept instead of making it again: the same bits, in more memory.
import { loadKernels, nullKernels } from '@baleen/kernels';
import { Decoder, type RecomputedPart, recomputedParts } from '@baleen/model';
import { initialize } from '@baleen/tensor';
import { expect, test } from 'vitest';

import { firstDifference } from '../../../test/support';
import { benchStep, modelConfigOf } from '../src/index';
import { TrainingStep } from '../src/step';
import { smallRun, temporaryFolder } from './helpers';

const config = smallRun(temporaryFolder(), { precision: 'fp8' });
const { sequence, microBatch } = config.batch;

/** Gradients of one micro-batch, and the bytes that waited for its way back. */
function pass(keep: readonly RecomputedPart[], kernels = loadKernels()) {
  const model = new Decoder(kernels, modelConfigOf(config, 40), 'fp8');
  initialize(model, 0.1, 3);
  const { batch, optimizer } = config;
  const settings = { batch: { ...batch, sequences: microBatch }, optimizer };
  const step = new TrainingStep(model, { ...settings, balanceFactor: 0, keep });
  const count = microBatch * sequence;
  const stream = Int32Array.from({ length: count + 1 }, (_, i) => (i * 7 + (i % 11)) % 40);
  const documents = { inputs: new Int32Array(count), targets: new Int32Array(count) };
  step.load({ ids: stream.slice(0, count), targets: stream.slice(1), documents }, 0.3);
  let waiting = 0;
  const plan = { sequences: microBatch, learningRate: 0, biasSpeed: 0, mtpWeight: 0.3 };
  for (const name of step.pieces(plan))
    if (name.endsWith(' forward')) waiting = step.region.liveBytes;
  return { model, waiting, peak: step.region.peakBytes };
}

test.each(recomputedParts)('%s: kept or made again, gradients are the same bits', (part) => {
  const [again, kept] = [pass([]), pass([part])];
  const gradients = new Map(kept.model.parameters());
  for (const [name, { grad }] of again.model.parameters())
    expect(firstDifference(grad.readSync(), gradients.get(name)?.grad.readSync() ?? []), name).toBe(
      -1,
    );
  expect(kept.waiting).toBeGreaterThan(again.waiting);
  expect(pass([part], nullKernels()).waiting).toBe(kept.waiting);
});

test('benchStep says what waits for backward, and what was kept', async () => {
  const options = { steps: 3, kernels: loadKernels() };
  const again = await benchStep(config, options);
  const kept = await benchStep(config, { ...options, keep: ['norms', 'upProjections'] });
  expect(again.keep).toEqual([]);
  expect(kept.keep).toEqual(['norms', 'upProjections']);
  expect(kept.activationBytes).toBeGreaterThan(again.activationBytes);
  expect(again.peakRegionBytes).toBeGreaterThanOrEqual(again.activationBytes);
});
