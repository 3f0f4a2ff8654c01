// A network trained for one step by every method, on threads and under MPI, beside the same in a single process: losses are equal
// to the bit, gradients within 1e-13; see pipeline.mjs, and test/long/pipeline.test.ts for every number of ranks. Under MPI it
// skips where there is none, and fails instead with BALEEN_REQUIRE_MPI=1.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { threads } from '@baleen/comm/threads';
import { describe, expect, test } from 'vitest';

const job = new URL('./pipeline.mjs', import.meta.url);

test.each([1, 2, 3, 4, 8])('%i threads', async (ranks) => {
  const wrong = await threads<string[]>(ranks, job, {}, { deadlineMs: 60_000 });
  expect(wrong.flat()).toEqual([]);
});

test('the first action that fails is named, with its rank, stage and micro-batch, and so is who is to blame', async () => {
  const fault = { method: 'dualpipe', rank: 1, stage: 2, microBatch: 13 };
  await expect(threads(4, job, { fault }, { deadlineMs: 60_000 })).rejects.toMatchObject({
    code: 'ERR_BALEEN_SCHEDULE_FAILED',
    rank: 1,
    message: expect.stringMatching(
      /^actions\[1\]\[\d+\], .*forward of stage 2, micro-batch 13.*, failed: no more memory$/,
    ) as string,
  });
});

const program = fileURLToPath(new URL('./mpi-rank.mjs', import.meta.url));
const missing = spawnSync('mpirun', ['--version']).status !== 0;
if (missing) {
  const reason = 'mpirun is not installed (apt-get install openmpi-bin)';
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_MPI)) throw new Error(reason);
  console.log(`tests of MPI skipped: ${reason}`);
}

describe.skipIf(missing)('under mpirun', { timeout: 200_000 }, () => {
  test.each([2, 4])('%i ranks', (ranks) => {
    const { status, stdout, stderr } = spawnSync(
      'mpirun',
      [
        ...['-n', String(ranks), '--allow-run-as-root', '--oversubscribe'],
        ...[process.execPath, program],
      ],
      { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' }, timeout: 180_000 },
    );
    const said = stdout
      .split('\n')
      .filter((line) => line.startsWith('{"rank"'))
      .map((line) => (JSON.parse(line) as { wrong: string[] }).wrong);
    expect(said, stderr).toEqual(Array.from({ length: ranks }, () => []));
    expect(status).toBe(0);
  });
});
