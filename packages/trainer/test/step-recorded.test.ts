// Steps made from recordings are the steps that the program makes, to the bit.
import { type Kernels, nativeKernels } from '@baleen/kernels';
import { Decoder } from '@baleen/model';
import { initialize, Region, Run, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { modelConfigOf } from '../src/index';
import { type StepReport, TrainingStep } from '../src/step';
import { smallRun, temporaryFolder } from './helpers';

const native = nativeKernels();
const folder = temporaryFolder();
const [sequence, sequences, vocabulary] = [16, 4, 40];

/** A small model in FP8 with its step, and what fills the step with tokens. */
function smallStep(kernels: Kernels, lossOver: 'sequence' | 'batch' = 'sequence') {
  const config = smallRun(folder);
  const model = new Decoder(
    kernels,
    { ...modelConfigOf(config, vocabulary), mtp: { depth: 1 } },
    'fp8',
  );
  initialize(model, 0.1, 3);
  const step = new TrainingStep(model, {
    batch: { ...config.batch, microBatch: 2 },
    optimizer: config.optimizer,
    balanceFactor: 0.01,
    balance: { ...config.balance, lossOver },
  });
  const load = (seed = 0, used = 2): void => {
    const stream = Int32Array.from(
      { length: sequence * used + 1 },
      (_, i) => (i * 7 + ((i * i) % 11) + seed * 13) % vocabulary,
    );
    const documents = new Int32Array(sequence * used);
    step.load(
      {
        ids: stream.slice(0, -1),
        targets: stream.slice(1),
        documents: { inputs: documents, targets: documents },
      },
      0.3,
    );
  };
  return { model, step, load };
}

/** Six steps in FP8, other tokens each time, an evaluation in between and a batch that grows. */
async function train(
  kernels: Kernels,
  lossOver: 'sequence' | 'batch',
): Promise<{ reports: StepReport[]; weights: Float32Array[] }> {
  const { model, step, load } = smallStep(kernels, lossOver);
  const reports: StepReport[] = [];
  for (let index = 0; index < 6; index += 1) {
    const used = index < 3 ? 2 : sequences;
    load(index, used);
    const plan = {
      sequences: used,
      learningRate: 1e-3 / (index + 1),
      biasSpeed: 0.01,
      mtpWeight: 0.3,
    };
    step.run(plan);
    reports.push(await step.finish(plan.biasSpeed));
    // Just before the batch grows: only here do the weights' forms exist when a recording begins.
    if (index === 2) evaluate(model, step.region);
  }
  const weights = [...model.parameters()].map(
    ([, { data }]) => data.readSync().slice() as Float32Array,
  );
  expect(step.region.liveBytes).toBe(0);
  return { reports, weights };
}

/** A forward pass of another size in the same memory, which makes the weights' forms before the next step does. */
function evaluate(model: Decoder, region: Region): void {
  const ids = tensorFrom(new Region(model.kernels, 'ids'), [3, 8], new Int32Array(24).fill(5));
  const run = new Run(region, { grad: false });
  for (const [p, phase] of model.hiddenPhases().entries())
    run.forward(phase, p === 0 ? { ids } : undefined);
  run.finish();
}

describe.skipIf(native === null)('steps from recordings', () => {
  test('may be left in the middle, recorded or recording: no memory stays taken, and none can be taken meanwhile', () => {
    const { step, load } = smallStep(native as Kernels);
    const plan = { sequences: 2, learningRate: 1e-3, biasSpeed: 0, mtpWeight: 0.3 };
    for (const turn of ['recording', 'recorded']) {
      load();
      let pieces = 0;
      for (const name of step.pieces(plan)) {
        expect(name).toMatch(/ forward$/);
        if (turn === 'recorded')
          expect(() => step.region.allocate(64)).toThrow(/is in use by a micro-batch/);
        pieces += 1;
        if (pieces === 3) break;
      }
      expect(step.region.liveBytes, turn).toBe(0);
      step.region.allocate(64).release();
      step.run(plan); // makes the recording, the first time
    }
  });

  test.each(['sequence', 'batch'] as const)(
    'equal those that run the program every time, with the balance loss over the %s',
    async (lossOver) => {
      const recorded = await train(native as Kernels, lossOver);
      const programmed = await train(
        Object.create(native, { record: { value: undefined } }) as Kernels,
        lossOver,
      );
      expect(recorded.reports).toEqual(programmed.reports);
      expect(recorded.weights).toEqual(programmed.weights);
      expect(recorded.reports.every(({ finite }) => finite)).toBe(true);
    },
  );
});
