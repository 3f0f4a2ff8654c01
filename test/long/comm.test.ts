// Communicators in every combination of form, memory, type and size, and with more bytes than 32 bits count.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { threads } from '../../packages/comm/src/threads';

const at = (name: string): URL => new URL(`../../packages/comm/test/${name}`, import.meta.url);

test.each([2, 3, 7])('%i threads, every combination', async (ranks) => {
  const wrong = await threads<string[]>(ranks, at('conformance.mjs'), { thoroughly: true });
  expect(wrong.flat()).toEqual([]);
});

test('more than 2^31 bytes between threads', async () => {
  expect(await threads(2, at('large.mjs'))).toEqual([true, true]);
});

const found = spawnSync('mpirun', ['--version']).status === 0;

test.skipIf(!found)('more than 2^31 bytes under MPI', () => {
  const { stdout, stderr } = spawnSync(
    'mpirun',
    [
      ...['-n', '2', '--allow-run-as-root', '--oversubscribe'],
      ...[process.execPath, fileURLToPath(at('mpi-rank.mjs')), 'large'],
    ],
    { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
  );
  const said = stdout.split('\n').filter((line) => line.startsWith('{"rank"'));
  expect(
    said.map((line) => (JSON.parse(line) as { said: unknown }).said),
    stderr,
  ).toEqual([true, true]);
});
