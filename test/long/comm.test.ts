// Communicators in every combination of form, memory, type and size, and with more bytes than 32 bits
// count; on up to 8 processes, under Open MPI and under MPICH where they are installed (apt-get install openmpi-bin mpich).
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { threads } from '../../packages/comm/src/threads';

const at = (name: string): URL => new URL(`../../packages/comm/test/${name}`, import.meta.url);

test.each([2, 3, 7])('%i threads, every combination', async (ranks) => {
  const wrong = await threads<string[]>(ranks, at('conformance.mjs'), { thoroughly: true });
  expect(wrong.flat()).toEqual([]);
});

test('more than 2^31 bytes between threads', async () => {
  expect(await threads(2, at('large.mjs'))).toEqual([true, true]);
});

/** Launchers with the flags that let them start more ranks than there are processors. */
const launchers = [
  ['mpirun', 'Open MPI', ['--allow-run-as-root', '--oversubscribe']],
  ['mpirun.mpich', 'MPICH', []],
] as const;

for (const [program, name, flags] of launchers) {
  const found = spawnSync(program, ['--version']).status === 0;
  if (!found) console.log(`tests under ${name} skipped: ${program} is not installed`);

  /** What each rank said. */
  const run = (ranks: number, ...args: string[]): { said: unknown[]; stderr: string } => {
    const { stdout, stderr } = spawnSync(
      program,
      [
        ...['-n', String(ranks), ...flags],
        ...[process.execPath, fileURLToPath(at('mpi-rank.mjs')), ...args],
      ],
      { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
    );
    const lines = stdout.split('\n').filter((line) => line.startsWith('{"rank"'));
    return { said: lines.map((line) => (JSON.parse(line) as { said: unknown }).said), stderr };
  };

  describe.skipIf(!found)(`under ${name}`, () => {
    test('more than 2^31 bytes', () => {
      const { said, stderr } = run(2, 'large');
      expect(said, stderr).toEqual([true, true]);
    });

    test.each([1, 2, 3, 4, 5, 6, 7, 8])('%i ranks do what every communicator must', (ranks) => {
      const { said, stderr } = run(ranks, 'conformance', '{}');
      expect(said, stderr).toEqual(Array.from({ length: ranks }, () => []));
    });

    test.each([2, 4, 8])('%i ranks dispatch to experts and combine', (ranks) => {
      const { said, stderr } = run(ranks, 'exchange', '{}');
      expect(said, stderr).toEqual(Array.from({ length: ranks }, () => []));
    });
  });
}
