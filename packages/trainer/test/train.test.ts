// A run from end to end: it learns, says what it does, resumes to the bit, and stops without losing anything.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { evaluate, findRun, loadDocuments, openRun, readMetrics } from '../src/index';
import { failure, only, runAll, smallRun, temporaryFolder } from './helpers';

describe('a run', () => {
  test('learns, and every event is a line of metrics.jsonl', async () => {
    const folder = temporaryFolder();
    const out = join(folder, 'run');
    const config = smallRun(folder, {
      steps: 30,
      evaluation: { every: 10, tokens: 200, stride: 0.5 },
      checkpoint: { every: 10, keep: 2 },
    });
    config.schedule.learningRate.peak = 0.02;
    const { events, result } = await runAll(config, { out, preset: 'tiny' });
    const steps = only(events, 'step');
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    expect(steps[0].loss).toBeGreaterThan(5);
    expect(steps[29].loss).toBeLessThan(3);
    expect(steps[29].mtpLoss[0]).toBeLessThan(steps[0].mtpLoss[0]);
    expect(only(events, 'evaluation').map(({ step }) => step)).toEqual([10, 20, 30]);
    expect(only(events, 'checkpoint').map(({ step }) => step)).toEqual([10, 20, 30]);
    expect(events.map(({ type }) => type).at(-1)).toBe('end');
    expect(readMetrics(out)).toEqual(events);
    expect(readdirSync(join(out, 'checkpoints')).sort()).toEqual(['step-20', 'step-30']);
    expect(result).toMatchObject({
      run: out,
      preset: 'tiny',
      precision: 'fp32',
      steps: 30,
      tokens: 30 * 64,
    });
    expect(result.valLoss).toBeLessThan(3);
    expect(result.valBitsPerByte).toBeCloseTo((result.valLoss ?? 0) / Math.LN2, 10);
    expect(result.baselines.map(({ order }) => order)).toEqual([1, 2, 3, 4, 5]);
    expect(result.peakRegionBytes).toBeGreaterThan(0);
    const saved = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')) as { config: unknown };
    expect(saved.config).toEqual(config);
  });

  test('what openRun gives scores as the run did, whatever is evaluated at once', async () => {
    const folder = temporaryFolder();
    const out = join(folder, 'run');
    const config = smallRun(folder, { precision: 'fp8' });
    const { result } = await runAll(config, { out });
    const kernels = referenceKernels();
    const opened = await openRun(out, { kernels });
    expect(opened).toMatchObject({ step: 6, config, folder: join(out, 'checkpoints', 'step-6') });
    const documents = await loadDocuments(config.data.sources);
    const score = (sequences: number, tokens: number): ReturnType<typeof evaluate> =>
      evaluate(opened.model, opened.tokenizer, documents, { sequences, tokens, stride: 0.25 });
    const part = await score(8, 300);
    expect(await score(1, 300)).toEqual(part);
    expect(await score(3, 300)).toEqual(part);
    const whole = await score(8, 0);
    expect(whole.bytes).toBe(new TextEncoder().encode(documents[0].text).length);
    expect(whole.bitsPerByte).toBeCloseTo(result.valBitsPerByte ?? 0, 0);
  });
});

describe.each(['fp32', 'bf16', 'fp8'] as const)('%s', (precision) => {
  test('40 steps, and 20, stop, resume, 20: the same losses and weights to the bit', async () => {
    const folder = temporaryFolder();
    const config = smallRun(folder, {
      precision,
      steps: 40,
      batch: {
        sequence: 16,
        sequences: 4,
        microBatch: 2,
        rampFrom: 2,
        rampShare: 0.7,
        rampBy: null,
      },
      // The one rule with a state beside the biases.
      balance: { rule: 'ema', decay: 0.9, lossOver: 'sequence' },
    });
    const [whole, parts] = [join(folder, 'whole'), join(folder, 'parts')];
    const expected = await runAll(config, { out: whole });
    const stop = new AbortController();
    const first = await runAll(config, { out: parts, signal: stopAfter(stop, 20) });
    expect(first.events.at(-1)).toMatchObject({ type: 'stopped', step: 20, reason: 'signal' });
    expect(first.result).toMatchObject({ steps: 20, valLoss: null });
    const found = findRun(parts);
    expect(found).toMatchObject({ step: 20, config });
    const second = await runAll(config, { resume: parts });
    const seen = only([...first.events, ...second.events], 'step');
    const timeless = (steps: typeof seen): unknown[] =>
      steps.map((event) => ({
        ...event,
        ...{ seconds: 0, computed: [0], tokensPerSecond: 0, secondsLeft: 0 },
      }));
    expect(timeless(seen)).toEqual(timeless(only(expected.events, 'step')));
    expect(second.result.valLoss).toBe(expected.result.valLoss);
    for (const name of ['model', 'optimizer']) {
      const file = `checkpoints/step-40/${name}-00001-of-00001.safetensors`;
      expect(readFileSync(join(parts, file)).equals(readFileSync(join(whole, file)))).toBe(true);
    }
    const metrics = readMetrics(parts);
    expect(only(metrics, 'step').map(({ step }) => step)).toEqual(
      Array.from({ length: 40 }, (_, i) => i + 1),
    );
    expect(only(metrics, 'start').map(({ resumedFrom }) => resumedFrom)).toEqual([null, 20]);
    expect(existsSync(join(parts, 'checkpoints', 'step-40', 'COMPLETE'))).toBe(true);
  });
});

test('text shorter than a sequence is refused before anything is written', async () => {
  const folder = temporaryFolder();
  const config = smallRun(folder);
  config.model.maxSequence = 8192;
  config.batch.sequence = 8192;
  const out = join(folder, 'run');
  const error = await failure(runAll(config, { out }));
  expect(error.code).toBe('ERR_BALEEN_DATA_SHORT');
  expect(error.message).toContain('8192');
  expect(error.hint).toContain('batch.sequence');
  expect(existsSync(out)).toBe(false);
});

test('a vocabulary below the tokenizer’s is refused', async () => {
  const folder = temporaryFolder();
  const config = smallRun(folder);
  config.model.vocabSize = 100;
  expect(await failure(runAll(config))).toMatchObject({
    code: 'ERR_BALEEN_CONFIG_VOCABULARY',
    message: "config.model.vocabSize (100) is below the tokenizer's 257 tokens",
  });
});

test('a run that is done only scores itself again when resumed, and stops at once when asked to', async () => {
  const folder = temporaryFolder();
  const out = join(folder, 'run');
  const config = smallRun(folder, { steps: 2 });
  const first = await runAll(config, { out });
  const again = await runAll(config, { resume: out });
  expect(again.events.map(({ type }) => type)).toEqual(['start', 'evaluation', 'end']);
  expect(again.result).toMatchObject({ steps: 2, trainLoss: null, valLoss: first.result.valLoss });
  const stopped = await runAll(config, { resume: out, signal: AbortSignal.abort() });
  expect(stopped.events.at(-1)).toMatchObject({
    type: 'stopped',
    path: join(out, 'checkpoints', 'step-2'),
  });
});

/** A signal that comes while a step is under way: the run ends after that step. */
function stopAfter(stop: AbortController, step: number): AbortSignal {
  // Asked before every step and during evaluations; the first question is before step 1.
  let asked = 0;
  return new Proxy(stop.signal, {
    get: (signal, key) => {
      if (key === 'aborted' && ++asked === step + 1) stop.abort();
      const value: unknown = Reflect.get(signal, key, signal);
      return typeof value === 'function' ? (value.bind(signal) as unknown) : value;
    },
  });
}
