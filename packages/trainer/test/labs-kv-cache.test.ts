// The lab of the cache: published figures, verdicts that can come out either way, and a pass whose two forms agree.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import { runLab } from '../src/index';
import { kvCache, measuredPass } from '../src/labs/kv-cache';

type LatentArguments = Parameters<Kernels['latentAttention']>;

const small = { tokens: 24, heads: 2 };

test.each(implementationsOf(referenceKernels(), loadKernels()))(
  '%s: both forms give the same, from as many bytes as their shapes have',
  (_, kernels) => {
    const { expandedBytes, pooledBytes, error } = measuredPass(kernels, { ...small, seed: 3 });
    expect(expandedBytes).toBe(4 * 24 * 2 * (128 + 64 + 128));
    expect(pooledBytes).toBe(4 * 24 * 576);
    expect(error).toBeLessThan(1e-5);
  },
);

const lab = (heads: number): typeof kvCache => ({
  ...kvCache,
  settings: { ...kvCache.settings, quick: { tokens: 8, heads } },
});

test('the figures hold with their own baselines, and 93.3 % does not with another', async () => {
  const { result, rows } = await runLab(lab(128));
  expect(result.verdict).toBe('holds');
  expect(result.effect).toBeCloseTo(32_768 / 576, 9);
  expect(result.further?.map(({ verdict }) => verdict)).toEqual([
    'holds',
    'holds',
    'fails',
    'holds',
  ]);
  const [bytes, v2, v3, measured] = result.further?.map(({ effect }) => effect) ?? [];
  expect(bytes).toBe(70_272);
  expect(v2).toBeCloseTo(1 - 25_920 / 389_120, 9);
  expect(v3).toBeCloseTo(1 - 576 / 32_768, 9);
  expect(measured).toBeCloseTo(40_960 / 576, 9);
  expect(rows.map((row) => row['bytes a token'])).toEqual([
    70_272, 3_997_696, 25_920, 69_120, 389_120,
  ]);
});

test('too few heads are no gain, and kernels that compute something else prove nothing', async () => {
  const kernels = referenceKernels();
  const few = await runLab(lab(2), { kernels });
  expect(few.result.further?.at(-1)?.verdict).toBe('fails');
  const wrong: Kernels = Object.assign(Object.create(kernels) as Kernels, {
    latentAttention: (...[out, lse, q, pages, table, lengths, sizes]: LatentArguments): void => {
      kernels.latentAttention(out, lse, q, pages, table, lengths, { ...sizes, scale: 1 });
    },
  });
  const off = await runLab(lab(2), { kernels: wrong });
  expect(off.result.further?.at(-1)?.verdict).toBe('notResolvable');
});
