// Runs on several ranks from the command line: what is said when a rank dies or hangs, on threads and under mpirun, and how the
// run goes on. What needs MPI skips where there is none, and fails instead with BALEEN_REQUIRE_MPI=1.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test, vi } from 'vitest';

import { cli, cliWith, failure, json, smallFile, temporaryFolder } from './helpers';

const found = spawnSync('mpirun', ['--version'], { encoding: 'utf8' });
const missing = found.status !== 0;
if (missing) {
  const reason = 'mpirun is not installed (apt-get install openmpi-bin)';
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_MPI)) throw new Error(reason);
  console.log(`tests of MPI skipped: ${reason}`);
}
const mpirun = ['mpirun', '--allow-run-as-root', '--oversubscribe'];

/** A run of 4 steps on two ranks, saved after the second. */
function twoRanks(folder: string): string[] {
  const file = smallFile(folder, {
    batch: { sequence: 32, sequences: 8, microBatch: 4, rampFrom: 8 },
    evaluation: { every: 0, tokens: 256, stride: 0 },
    checkpoint: { every: 2, keep: 2 },
  });
  return ['train', '--config', file, '--ranks', '2', '--ep', '2', '--out', join(folder, 'run')];
}

/** Losses of a run by step, as it wrote them. */
function losses(folder: string): unknown[] {
  return readFileSync(join(folder, 'run', 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; step: number; loss: number })
    .flatMap(({ type, step, loss }) => (type === 'step' ? [[step, loss]] : []));
}

test('a rank that dies is named with exit code 1, and with --max-restarts the run goes on', async () => {
  const folder = temporaryFolder();
  const drill = ['--inject', 'kill-rank=1@step=3'];
  const { exit, ...error } = await failure(...twoRanks(folder), ...drill);
  expect(exit).toBe(1);
  expect(error).toMatchObject({
    code: 'ERR_BALEEN_COMM_RANK_FAILED',
    message: 'rank 1 exited with code 137 before its work was done',
    hint: `all up to step 2 is saved: go on with --resume ${join(folder, 'run')}, or let it go on by itself with --max-restarts 3`,
  });
  const { code, stdout, stderr } = await cli(
    ...['train', '--resume', join(folder, 'run'), ...drill, '--max-restarts', '1'],
  );
  expect(code).toBe(0);
  expect(stderr).toContain(
    'lost in step 3: rank 1 exited with code 137 before its work was done; going on after step 2 (restart 1 of 1)',
  );
  expect(stdout).toMatch(/steps 3 to 4 in/);
  expect(stdout).toMatch(/ranks +2, .*computing .* % of the time; begun again once/);
});

test.each([
  [['--inject', 'kill-rank'], 'inject (kill-rank) is no fault', '--inject'],
  [['--inject', 'kill-rank=2@step=1'], 'there is no rank 2, of 2', 'inject'],
  [['--deadline', '0'], '--deadline (0) is not a number from 0.1', '--deadline'],
  [['--max-restarts', '1.5'], '--max-restarts (1.5) is not a whole number', '--max-restarts'],
  [['--launch', 'mpirun -n 2'], 'launch (mpirun -n 2) says -n itself', 'launch'],
])('%s is refused', async (flags, message, path) => {
  const error = await failure(...twoRanks(temporaryFolder()), ...flags);
  expect(error).toMatchObject({ exit: 2, path });
  expect(error.message).toContain(message);
});

test('a rank that a launcher started cannot start its job again', async () => {
  const env = { OMPI_COMM_WORLD_SIZE: '2' };
  for (const flag of [
    ['--max-restarts', '2'],
    ['--launch', 'mpirun'],
  ]) {
    const { code, stderr } = await cliWith({ env }, ...twoRanks(temporaryFolder()), ...flag);
    expect(code).toBe(2);
    expect(stderr).toContain(`${flag[0]}: this process is a rank that a launcher started`);
    expect(stderr).toContain('baleen train --ranks 2 --launch mpirun --max-restarts 3');
  }
});

/** The line of doctor about MPI. */
async function mpiCheck(): Promise<unknown> {
  const env = { PATH: process.env.PATH ?? '' };
  const { code, stdout } = await cliWith({ env }, 'doctor', '--json');
  expect(code).toBe(0);
  const { checks } = JSON.parse(stdout) as { checks: { name: string }[] };
  return checks.find(({ name }) => name === 'MPI');
}

test('doctor names what of MPI is missing, which is no failure', async () => {
  vi.stubEnv('BALEEN_MPI_LIBRARY', 'none.so');
  try {
    expect(await mpiCheck()).toMatchObject({
      state: 'missing',
      found: expect.stringContaining('no MPI library was found (none.so') as string,
      hint: 'install one (apt-get install openmpi-bin), or name it in BALEEN_MPI_LIBRARY',
    });
  } finally {
    vi.unstubAllEnvs();
  }
});

describe.skipIf(missing)('under mpirun', { timeout: 200_000 }, () => {
  test('the command line starts it, and again when a rank dies, to the losses of threads', async () => {
    const [folder, other] = [temporaryFolder(), temporaryFolder()];
    const flags = ['--inject', 'kill-rank=0@step=3', '--max-restarts', '1'];
    const run = await json(...twoRanks(folder), '--launch', mpirun.join(' '), ...flags);
    expect(run).toMatchObject({ code: 0, value: { restarts: 1, steps: 4, layout: { ranks: 2 } } });
    const threads = await json(...twoRanks(other));
    expect(run.value).toMatchObject({
      valLoss: (threads.value as { valLoss: number }).valLoss,
    });
    expect(losses(folder)).toEqual(losses(other));
  });

  test('doctor says which library and launcher are here', async () => {
    expect(await mpiCheck()).toMatchObject({
      state: 'ok',
      found: expect.stringMatching(/^(Open MPI v|MPICH )\S+ \(lib.*\), koffi, mpirun/) as string,
      hint: null,
    });
  });

  test('started by hand, every rank says whom it waits for', () => {
    const bin = fileURLToPath(new URL('../bin/baleen.js', import.meta.url));
    const run = (...flags: string[]): { status: number | null; stderr: string } =>
      spawnSync(
        mpirun[0],
        [
          ...mpirun.slice(1),
          '-n',
          '2',
          process.execPath,
          bin,
          ...twoRanks(temporaryFolder()),
          ...flags,
        ],
        { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' }, timeout: 120_000 },
      );
    const hung = run('--inject', 'hang-rank=0@step=3', '--deadline', '3');
    expect(hung.status).toBe(1);
    expect(hung.stderr).toMatch(/note {2}rank 1: \w+: rank 0 did not come within 3000 ms/);
  });
});
