// Dispatch and combine on every communicator: see exchange.mjs. Under MPI they run in mpi.test.ts.
import { self } from '@baleen/comm';
import { threads } from '@baleen/comm/threads';
import { expect, test } from 'vitest';

const suite = new URL('./exchange.mjs', import.meta.url);

test('self', async () => {
  const { default: run } = (await import(suite.href)) as {
    default: (communicator: unknown) => Promise<string[]>;
  };
  expect(await run(self())).toEqual([]);
});

test.each([1, 2, 3, 4, 8])('%i threads', async (ranks) => {
  const wrong = await threads<string[]>(ranks, suite, {}, { deadlineMs: 30_000 });
  expect(wrong.flat()).toEqual([]);
});
