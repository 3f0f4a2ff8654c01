// `bench step`: the fields that comparisons read, and the words that people do.
import { expect, test } from 'vitest';

import { cli, json, smallFile, temporaryFolder } from './helpers';

test('bench step --json has every field of the contract', async () => {
  const config = smallFile(temporaryFolder());
  const { code, value } = await json('bench', 'step', '--config', config, '--steps', '3');
  expect(code).toBe(0);
  expect(value).toMatchObject({
    preset: 'tiny',
    precision: 'fp32',
    threads: 1,
    tokensPerStep: 64,
    // The reference kernels have no measured peaks to be held against.
    bound: null,
    ofBound: null,
  });
  const { medianStepSeconds, tokensPerSecond, breakdown } = value as {
    medianStepSeconds: number;
    tokensPerSecond: number;
    breakdown: Record<string, number>;
  };
  expect(tokensPerSecond * medianStepSeconds).toBeCloseTo(64, 6);
  const seconds = Object.values(breakdown);
  expect(breakdown.gemm).toBeGreaterThan(0);
  expect(seconds).toEqual([...seconds].sort((a, b) => b - a));
});

test('bench step says where the time goes and why there is no bound', async () => {
  const config = smallFile(temporaryFolder());
  const { stdout } = await cli('bench', 'step', '--config', config, '--steps', '3');
  for (const part of ['tokens/s', 'Where the time goes', 'gemm', 'only the native kernels'])
    expect(stdout).toContain(part);
});
