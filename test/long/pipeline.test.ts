// Pipelines on 2 to 8 ranks: DualPipe's own test in kind on every number of ranks, on threads and under MPI; and schedules timed
// on ranks that sleep instead of computing, beside the simulator. Under MPI it skips where there is none, and fails instead with
// BALEEN_REQUIRE_MPI=1.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { threads } from '../../packages/comm/src/threads';

const at = (name: string): URL => new URL(`../../packages/dualpipe/test/${name}`, import.meta.url);
const eachNumber = test.each([2, 3, 4, 5, 6, 7, 8]);

const missing = spawnSync('mpirun', ['--version']).status !== 0;
if (missing) {
  const reason = 'mpirun is not installed (apt-get install openmpi-bin)';
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_MPI)) throw new Error(reason);
  console.log(`tests of MPI skipped: ${reason}`);
}

describe('a network trained for a step by every method', () => {
  eachNumber('%i threads', async (ranks) => {
    const wrong = await threads<string[]>(ranks, at('pipeline.mjs'), {}, { deadlineMs: 120_000 });
    expect(wrong.flat()).toEqual([]);
  });

  describe.skipIf(missing)('under mpirun', () => {
    eachNumber('%i ranks', (ranks) => {
      const { status, stdout, stderr } = spawnSync(
        'mpirun',
        [
          ...['-n', String(ranks), '--allow-run-as-root', '--oversubscribe'],
          ...[process.execPath, fileURLToPath(at('mpi-rank.mjs')), 'all'],
        ],
        { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
      );
      const said = stdout
        .split('\n')
        .filter((line) => line.startsWith('{"rank"'))
        .map((line) => (JSON.parse(line) as { wrong: string[] }).wrong);
      expect(said, stderr).toEqual(Array.from({ length: ranks }, () => []));
      expect(status).toBe(0);
    });
  });
});

/** What `bench/pipeline.mjs` says of a schedule. */
interface Timed {
  method: string;
  ranks: number;
  totalMs: number;
  simulatedTotalMs: number;
  idleMs: number;
  simulatedIdleMs: number;
  forwardMs: number;
}

interface TimedPhases extends Timed {
  hidden: number;
  simulatedHidden: number;
}

test('on ranks that sleep, idle time is the simulator’s and all-to-alls are hidden', () => {
  const bench = fileURLToPath(new URL('../../bench/pipeline.mjs', import.meta.url));
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [bench, '--ranks', '2,4,8', '--rounds', '3', '--json'],
    { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
  );
  const { plain, phases } = JSON.parse(stdout || '{}') as {
    plain: Timed[];
    phases: TimedPhases[];
  };
  expect(plain.length, stderr).toBe(18);
  expect(phases.length).toBe(4);
  for (const each of [...plain, ...phases]) {
    const name = `${each.method} on ${each.ranks} ranks`;
    // Nothing is computed before what it needs is there, and no message is there before its time.
    expect(each.totalMs, name).toBeGreaterThan(each.simulatedTotalMs - 2);
    const longer = Math.max(each.simulatedIdleMs, each.forwardMs);
    // Within 5 % on a machine for itself (docs/performance.md); here others may compute meanwhile.
    expect(Math.abs(each.idleMs - each.simulatedIdleMs) / longer, name).toBeLessThanOrEqual(0.15);
  }
  for (const { method, ranks, hidden, simulatedHidden } of phases) {
    expect(simulatedHidden, method).toBeGreaterThan(0.97);
    expect(hidden, `${method} on ${ranks} ranks`).toBeGreaterThanOrEqual(0.9);
  }
});
