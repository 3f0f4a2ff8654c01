// `benchDecode`: what it measures, and what it refuses.
import { observeKernels, referenceKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { benchDecode, presets } from '../src/index';

const tiny = () => {
  const config = presets.tiny();
  const { model } = config;
  return {
    ...config,
    precision: 'bf16' as const,
    model: {
      ...model,
      vocabSize: 20,
      hiddenSize: 16,
      layers: 2,
      denseLayers: 1,
      intermediateSize: 16,
      attention: { ...model.attention, heads: 2, nopeDim: 4, ropeDim: 4, valueDim: 4, kvRank: 8 },
    },
  };
};

test('every context and batch in both forms, each pass over one token of each sequence', async () => {
  const calls = { latentAttention: [] as string[], attention: [] as string[] };
  const kernels = observeKernels(
    referenceKernels(),
    ({ kernel, sizes, operands: [, , , pages] }) => {
      if (kernel === 'latentAttention')
        calls[kernel].push(
          `${Number(sizes.sequences)} of ${pages && 'dtype' in pages ? pages.dtype : ''}`,
        );
      if (kernel === 'attention') calls[kernel].push(`${Number(sizes.keys)}`);
    },
  );
  const shares: number[] = [];
  const result = await benchDecode(tiny(), {
    contexts: [5, 70],
    batches: [1, 3],
    steps: 2,
    warmUp: 0,
    cache: 'fp8',
    kernels,
    onProgress: (share) => shares.push(share),
  });
  expect(result).toMatchObject({ preset: null, precision: 'bf16', cache: 'fp8' });
  expect(result.cases.map(({ context, batch, form }) => `${context} ${batch} ${form}`)).toEqual(
    [5, 70].flatMap((context) =>
      [1, 3].flatMap((batch) =>
        ['absorbed', 'expanded'].map((form) => `${context} ${batch} ${form}`),
      ),
    ),
  );
  for (const { batch, medianStepSeconds, tokensPerSecond } of result.cases)
    expect(tokensPerSecond * medianStepSeconds).toBeCloseTo(batch, 6);
  // Pages of 64 tokens that 5 and 70 of them take, in two layers: 8 codes, a scale, 4 BF16 numbers each.
  const page = 64 * 2 * (8 + 4 + 2 * 4);
  expect(result.cases.map(({ cacheBytes }) => cacheBytes / page)).toEqual([1, 1, 3, 3, 2, 2, 6, 6]);
  // Twice two passes of two layers a case: absorbed all sequences at once, expanded one by one over what grows by a token a
  // pass, from the same length again when it is measured.
  expect(calls.latentAttention.slice(0, 8)).toEqual(new Array(8).fill('1 of e4m3'));
  expect(calls.latentAttention.slice(8, 16)).toEqual(new Array(8).fill('3 of e4m3'));
  expect(calls.attention.slice(0, 8)).toEqual(['6', '6', '7', '7', '6', '6', '7', '7']);
  expect(shares).toHaveLength(16);
  expect(shares.at(-1)).toBe(1);
});

test('contexts, batches and steps that cannot be are refused by name', async () => {
  for (const [path, options] of [
    ['contexts', { contexts: [] }],
    ['batches', { batches: [1, 0] }],
    ['steps', { steps: 1.5 }],
  ] as const)
    await expect(
      benchDecode(tiny(), { kernels: referenceKernels(), ...options }),
    ).rejects.toMatchObject({ code: 'ERR_BALEEN_USAGE_DECODE', path });
});
