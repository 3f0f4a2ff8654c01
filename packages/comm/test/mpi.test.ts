// Ranks as processes under mpirun: the suite of every communicator, and how jobs end. Skips where there is no MPI, and fails
// instead with BALEEN_REQUIRE_MPI=1.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { benchComm } from '@baleen/comm/bench';
import { describe, expect, test } from 'vitest';

const program = fileURLToPath(new URL('./mpi-rank.mjs', import.meta.url));
const found = spawnSync('mpirun', ['--version'], { encoding: 'utf8' });
const missing = found.status !== 0;
if (missing) {
  const reason = 'mpirun is not installed (apt-get install openmpi-bin)';
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_MPI)) throw new Error(reason);
  console.log(`tests of MPI skipped: ${reason}`);
}

interface Ran {
  status: number | null;
  /** What ranks said, by rank. */
  said: unknown[];
  stderr: string;
}

/** Runs ranks to their end. */
function mpirun(
  ranks: number,
  args: string[],
  { flags = [], env = {} }: { flags?: string[]; env?: NodeJS.ProcessEnv } = {},
): Ran {
  const { status, stdout, stderr } = spawnSync(
    'mpirun',
    [
      ...['-n', String(ranks), '--allow-run-as-root', '--oversubscribe', ...flags],
      ...[process.execPath, program, ...args],
    ],
    { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '', ...env }, timeout: 180_000 },
  );
  const lines = stdout.split('\n').filter((line) => line.startsWith('{"rank"'));
  const said = lines
    .map((line) => JSON.parse(line) as { rank: number; said: unknown })
    .sort((a, b) => a.rank - b.rank);
  return { status, said: said.map((rank) => rank.said), stderr };
}

describe.skipIf(missing)('under mpirun', { timeout: 200_000 }, () => {
  test.each([1, 2, 3, 4])('%i ranks do what every communicator must', (ranks) => {
    const { status, said, stderr } = mpirun(ranks, ['conformance', '{}']);
    expect(said, stderr).toEqual(Array.from({ length: ranks }, () => []));
    expect(status).toBe(0);
  });

  test.each([2, 4])('%i ranks dispatch to experts and combine', (ranks) => {
    const { status, said, stderr } = mpirun(ranks, ['exchange', '{}']);
    expect(said, stderr).toEqual(Array.from({ length: ranks }, () => []));
    expect(status).toBe(0);
  });

  test('one thread serves all calls where the library lets in only one', () => {
    const env = { BALEEN_MPI_THREADS: 'serialized' };
    const { said, stderr } = mpirun(3, ['conformance', '{}'], { env });
    expect(said, stderr).toEqual([[], [], []]);
  });

  test('a rank that throws ends the job', () => {
    const { status, stderr } = mpirun(2, ['throws']);
    // What the launcher says of it does not always arrive.
    expect(status).toBe(1);
    expect(stderr).toMatch(/no more memory/);
  });

  test('a rank that is killed ends the job', () => {
    expect(mpirun(2, ['killed']).status).not.toBe(0);
  });

  test('where the launcher lets the others live, they name who was killed', () => {
    const { said } = mpirun(3, ['killed'], { flags: ['--enable-recovery'] });
    const heard = {
      code: 'ERR_BALEEN_COMM_RANK_FAILED',
      ranks: [1],
      message: 'barrier: rank 1 died',
    };
    expect(said).toEqual([0, 2].map(() => ({ ...heard, soon: true })));
  });

  test('a library that does not know the launcher is refused: it would see each rank alone', () => {
    const { status, stderr } = spawnSync(process.execPath, [program, 'conformance', '{}'], {
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '', PMI_SIZE: '4', BALEEN_MPI_LIBRARY: 'libmpi.so.40' },
    });
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/the launcher started 4 ranks \(PMI_SIZE\), libmpi.so.40 sees 1/);
    expect(stderr).toMatch(/ERR_BALEEN_COMM_LAUNCHER/);
  });

  test('the benchmark measures every operation', async () => {
    const { cases, missing } = await benchComm({
      ...{ ranks: 2, transports: ['mpi'], bytes: [8, 4096], seconds: 0.001 },
    });
    expect(missing).toEqual({});
    expect(cases).toHaveLength(1 + 2 * 7);
    for (const { bestUs, transport } of cases) {
      expect(transport).toBe('mpi');
      expect(bestUs).toBeGreaterThan(0);
    }
  });

  test('a library that is not there is named', () => {
    const { stderr } = mpirun(1, ['conformance', '{}'], { env: { BALEEN_MPI_LIBRARY: 'none.so' } });
    expect(stderr).toMatch(/no MPI library was found \(none.so: /);
    expect(stderr).toMatch(/ERR_BALEEN_COMM_MPI/);
  });
});
