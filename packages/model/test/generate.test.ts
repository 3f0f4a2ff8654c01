// Generation: through the cache as without it, and choices that follow temperature, top-p and seed.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { draw, probabilities } from '@baleen/mtp';
import { Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { firstDifference, implementationsOf } from '../../../test/support';
import { type Decoder, generate } from '../src/index';
import { smallConfig, smallModel } from './small';

/** The next token, the likeliest unless told otherwise, computed from scratch. */
function nextOf(
  model: Decoder,
  tokens: number[],
  { temperature, random } = { temperature: 0, random: () => 0 },
): number {
  const { kernels } = model;
  const ids = tensorFrom(
    new Region(kernels, 'inputs'),
    [1, tokens.length],
    Int32Array.from(tokens),
  );
  const run = new Run(new Region(kernels, 'test'), { grad: false });
  let h: Tensor = ids;
  model.hiddenPhases().forEach((phase, index) => {
    h = run.forward(phase, index === 0 ? { ids } : undefined).h as Tensor;
  });
  let best = -1;
  run.tape.scoped(() => {
    const logits = model.logits(run.tape, h).readSync();
    const last = Float32Array.from(logits.slice(-20));
    best = draw(probabilities(last, { vocab: 20 }, { temperature }), random());
    return [];
  });
  run.finish();
  return best;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each(['fp32', 'bf16', 'fp8'] as const)(
    '%s: greedy tokens through the cache are those of the whole sequence each time',
    (precision) => {
      const model = smallModel(kernels, {}, precision);
      const tokens = [3, 1, 4];
      for (const token of generate(model, Int32Array.of(3, 1, 4), { maxTokens: 9 })) {
        expect(token).toBe(nextOf(model, tokens));
        tokens.push(token);
      }
      expect(tokens).toHaveLength(12);
    },
  );

  test('YaRN changes the model where its sequences may exceed the length trained at, and only there', () => {
    const yarn = { factor: 4, betaFast: 2, betaSlow: 0.5, mscale: 1, mscaleAllDim: 1 };
    const hidden = (originalMaxSequence: number | null): Float32Array => {
      const extension = originalMaxSequence === null ? null : { ...yarn, originalMaxSequence };
      const { attention } = smallConfig;
      const model = smallModel(kernels, { attention: { ...attention, yarn: extension } });
      const ids = tensorFrom(new Region(kernels, 'inputs'), [1, 8], Int32Array.from('31415926'));
      const run = new Run(new Region(kernels, 'test'), { grad: false });
      let h: Tensor = ids;
      model.hiddenPhases().forEach((phase, index) => {
        h = run.forward(phase, index === 0 ? { ids } : undefined).h as Tensor;
      });
      const values = h.readSync().slice() as Float32Array;
      run.finish();
      return values;
    };
    const plain = hidden(null);
    expect(smallConfig.maxSequence).toBe(16);
    expect(firstDifference(hidden(16), plain)).toBe(-1);
    expect(firstDifference(hidden(15), plain)).not.toBe(-1);
  });

  test('ends at the longest sequence, at a stop token, at its signal, and at its number of tokens', () => {
    const model = smallModel(kernels);
    const prompt = Int32Array.of(3, 1, 4);
    const free = [...generate(model, prompt, { maxTokens: 100 })];
    expect(free).toHaveLength(13); // 16 positions
    expect([...generate(model, prompt, { maxTokens: 5 })]).toEqual(free.slice(0, 5));
    const stop = free[4];
    expect([...generate(model, prompt, { maxTokens: 100, stop: [stop] })]).toEqual(
      free.slice(0, free.indexOf(stop)),
    );
    const controller = new AbortController();
    const { signal } = controller;
    const made: number[] = [];
    for (const token of generate(model, prompt, { maxTokens: 100, signal }))
      if (made.push(token) === 2) controller.abort();
    expect(made).toEqual(free.slice(0, 2));
  });

  test('a seed gives the same tokens, another seed others', () => {
    const model = smallModel(kernels);
    const sample = (seed: number): number[] => [
      ...generate(model, Int32Array.of(7), { maxTokens: 15, temperature: 2, seed }),
    ];
    expect(sample(1)).toEqual(sample(1));
    expect(sample(1)).not.toEqual(sample(2));
  });

  test('tokens are chosen by the numbers their seed has always given', () => {
    const model = smallModel(kernels);
    // mulberry32 from seed 1.
    const stream = [2693262067, 11749833, 2265367787, 4213581821, 4159151403, 1207330352];
    const tokens = [7];
    for (const bits of stream)
      tokens.push(nextOf(model, tokens, { temperature: 2, random: () => bits / 2 ** 32 }));
    const options = { maxTokens: stream.length, temperature: 2, seed: 1 };
    expect([...generate(model, Int32Array.of(7), options)]).toEqual(tokens.slice(1));
  });

  test('a prompt that is empty or too long is refused', () => {
    const model = smallModel(kernels);
    const usage = expect.objectContaining({ code: 'ERR_BALEEN_USAGE_PROMPT' }) as unknown;
    for (const prompt of [new Int32Array(0), new Int32Array(17)])
      expect(() => [...generate(model, prompt, { maxTokens: 1 })]).toThrow(usage);
  });
});
