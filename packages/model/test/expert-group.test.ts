// Experts that are spread over ranks give the bits of a whole model: see expert-group.mjs.
import type { Communicator } from '@baleen/comm';
import { threads } from '@baleen/comm/threads';
import { fp8Recipe } from '@baleen/fp8';
import { loadKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  Decoder,
  type DecoderOptions,
  type ExpertGroupOptions,
  type ModelConfig,
  type Precision,
} from '../src/index';
import { smallConfig } from './small';

const work = new URL('./expert-group.mjs', import.meta.url);

/** More experts a token than a rank may have, and a depth of multi-token prediction. */
const config: ModelConfig = {
  ...smallConfig,
  moe: { ...smallConfig.moe, routedExperts: 8, expertsPerToken: 3, groupsPerToken: 2 },
  mtp: { depth: 1 },
};

/** Where a spread model differs from whole ones, said by all ranks. */
async function differences(
  ranks: number,
  precision: Precision,
  options: Omit<ExpertGroupOptions, 'communicator'> = {},
): Promise<string[]> {
  const given = { config, precision, options };
  const wrong = await threads<string[]>(ranks, work, given, { deadlineMs: 60_000 });
  return wrong.flat();
}

describe.each(['fp32', 'bf16', 'fp8'] as const)('%s', (precision: Precision) => {
  test.each([1, 2, 4])('%i threads: losses, and gradients by source', async (ranks) => {
    expect(await differences(ranks, precision, { bySource: true })).toEqual([]);
  });

  test('2 threads: gradients of all sources added up', async () => {
    expect(await differences(2, precision)).toEqual([]);
  });
});

test('over two levels the bits are the same', async () => {
  expect(await differences(4, 'fp8', { devicesPerNode: 2, bySource: true })).toEqual([]);
});

test('results that travel in BF16 are rounded: losses differ, values do not', async () => {
  const wrong = await differences(2, 'fp32', { transport: 'bf16' });
  expect(wrong).toContain('rank 0: losses of the first pass differ');
  expect(wrong.filter((difference) => difference.includes('values of'))).toEqual([]);
});

test('what cannot be spread is refused before anything is sent', () => {
  // Nothing of it is asked but its size.
  const experts = { communicator: { rank: 0, size: 3 } as Communicator };
  const make = (config: ModelConfig, options: DecoderOptions = {}): Decoder =>
    new Decoder(loadKernels(), config, 'fp8', { experts, ...options });
  expect(() => make(smallConfig)).toThrow(
    expect.objectContaining({ path: 'config.moe.routedExperts' }),
  );
  const six = { ...smallConfig, moe: { ...smallConfig.moe, routedExperts: 6 } };
  const fp8 = fp8Recipe({ gradients: { block: '128x128' } });
  expect(() => make(six, { fp8 })).toThrow(
    expect.objectContaining({ path: 'fp8.gradients.block' }),
  );
});
