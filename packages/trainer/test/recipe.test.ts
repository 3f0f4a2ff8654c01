// The FP8 recipe of a run's configuration: the run, its estimate and whoever opens it later go by it.
import { type Fp8Changes, fp8Recipe } from '@baleen/fp8';
import { referenceKernels } from '@baleen/kernels';
import { Decoder } from '@baleen/model';
import { expect, test } from 'vitest';

import { estimate, evaluate, openRun, type TrainConfig } from '../src/index';
import { copyValues } from '../src/labs/gradients';
import { findRun } from '../src/run-folder';
import { only, runAll, sampleText, smallRun, temporaryFolder } from './helpers';

const configOf = (folder: string, changes: Fp8Changes): TrainConfig =>
  smallRun(folder, { precision: 'fp8', steps: 2, fp8: fp8Recipe(changes) });

test('what is kept decides on memory, to the byte of the estimate, and not on the first loss', async () => {
  const folder = temporaryFolder();
  const peaks: number[] = [];
  const losses = new Set<number>();
  for (const kept of [
    { swigluInputs: 'fp32', attentionOutput: 'fp32' },
    { attentionOutput: 'fp32' },
    {},
  ] as const) {
    const config = configOf(folder, { kept });
    const { events, result } = await runAll(config);
    expect(result.peakRegionBytes).toBe(estimate(config, { peaks: null }).bytes.region);
    peaks.push(result.peakRegionBytes);
    losses.add(only(events, 'step')[0].loss);
  }
  expect(peaks).toEqual([...new Set(peaks)].sort((a, b) => b - a));
  expect(losses.size).toBe(1);
});

test('a run in another recipe is another run, recorded, and opened in that recipe', async () => {
  const folder = temporaryFolder();
  const out = `${folder}/run`;
  const changes = { weights: { block: '1x128' }, layers: { experts: false } } as const;
  const { result } = await runAll(configOf(folder, changes), { out });
  const usual = await runAll(configOf(folder, {}));
  expect(result.valLoss).not.toBe(usual.result.valLoss);
  expect(findRun(out).config?.fp8).toEqual(fp8Recipe(changes));
  // Opened, it scores text as a model of its recipe does, and not as one of V3's.
  const { model, tokenizer } = await openRun(out, { kernels: referenceKernels() });
  const score = async (scored: Decoder): Promise<number> => {
    const documents = [{ name: 'text', text: sampleText() }];
    return (await evaluate(scored, tokenizer, documents, { tokens: 100 })).loss;
  };
  const [same, other] = [changes, {}].map((each) => {
    const copy = new Decoder(model.kernels, model.config, 'fp8', { fp8: fp8Recipe(each) });
    copyValues(copy, model);
    return copy;
  });
  expect(await score(model)).toBe(await score(same));
  expect(await score(model)).not.toBe(await score(other));
  // Going on without more steps keeps what was recorded.
  const resumed = await runAll(configOf(folder, changes), { resume: out });
  expect(resumed.result.valLoss).toBe(result.valLoss);
});
