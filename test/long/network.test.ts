// Ranks on two machines, as far as one can play two: network namespaces with a link between them, host names of their own,
// and MPI over TCP. A rank is killed in the middle of a step, another hangs, the link is taken down: the job ends or goes on
// as docs/ranks.md promises, nothing that was saved is lost, and nothing hangs. Needs Linux, root, mpirun, ip and unshare
// (apt-get install openmpi-bin iproute2); skips without, and fails instead with BALEEN_REQUIRE_NETNS=1.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

const bin = join(import.meta.dirname, '../../packages/cli/bin/baleen.js');
const [near, far] = [`baleen-a-${process.pid}`, `baleen-b-${process.pid}`];
/** The link's end on either. */
const wire = 'wire0';
const steps = 40;
/** Seconds that ranks wait for each other. */
const deadline = 5;
/** Seconds that the launcher gets beyond that, and a busy machine. */
const grace = 5;
const busy = 10;

function ip(...args: string[]): { ok: boolean; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  return { ok: status === 0, stdout, stderr };
}

/** Takes the link up. What did not answer while it was down would be held unreachable for a while yet. */
function linkUp(): void {
  ip('-n', near, 'link', 'set', wire, 'up');
  for (const space of [near, far]) ip('-n', space, 'neigh', 'flush', 'dev', wire);
}

function whyNot(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are Linux’s';
  for (const [program, flag] of [
    ['mpirun', '--version'],
    ['ip', '-V'],
    ['unshare', '--version'],
  ])
    if (spawnSync(program, [flag]).status !== 0)
      return `${program} is not installed (apt-get install openmpi-bin iproute2)`;
  const made = ip('netns', 'add', near);
  if (!made.ok) return `no network namespace can be made: ${made.stderr.trim()}`;
  return null;
}

const reason = whyNot();
if (reason !== null) {
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_NETNS)) throw new Error(reason);
  console.log(`drills between network namespaces skipped: ${reason}`);
}

describe.skipIf(reason !== null)('two machines', () => {
  let folder = '';
  let mpirun: string[] = [];
  let expected: [number, number][] = [];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'baleen-network-'));
    writeFileSync(
      join(folder, 'text.txt'),
      'A line of text that a small model may learn.\n\n'.repeat(400),
    );
    const must = (...args: string[]): void => {
      const { ok, stderr } = ip(...args);
      if (!ok) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
    };
    must('netns', 'add', far);
    must('link', 'add', wire, 'netns', near, 'type', 'veth', 'peer', 'name', wire, 'netns', far);
    for (const [space, address] of [
      [near, '10.77.0.1/24'],
      [far, '10.77.0.2/24'],
    ]) {
      must('-n', space, 'addr', 'add', address, 'dev', wire);
      must('-n', space, 'link', 'set', 'lo', 'up');
      must('-n', space, 'link', 'set', wire, 'up');
    }
    // What ssh would be: the launcher's daemon on the other machine, which has a name of its own.
    const agent = join(folder, 'agent.sh');
    writeFileSync(
      agent,
      `#!/bin/sh\nshift\nexec ip netns exec ${far} unshare --uts sh -c "echo far > /proc/sys/kernel/hostname; $*"\n`,
      { mode: 0o755 },
    );
    mpirun = [
      ...['ip', 'netns', 'exec', near, 'mpirun', '--allow-run-as-root', '--bind-to', 'none'],
      ...['--host', '10.77.0.1:1,10.77.0.2:1', '--mca', 'plm_rsh_agent', agent],
      ...['--mca', 'btl', 'tcp,self', '--mca', 'btl_tcp_if_include', '10.77.0.0/24'],
      ...['--mca', 'oob_tcp_if_include', '10.77.0.0/24'],
    ];
    const whole = spawnSync(process.execPath, [bin, ...train('threads'), '--ranks', '2'], {
      encoding: 'utf8',
    });
    expect(whole.status, whole.stderr).toBe(0);
    expected = losses('threads');
    expect(expected.map(([step]) => step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  });

  afterEach(() => {
    linkUp();
    // A daemon of the launcher that was cut off waits for its peer; no rank is among what is left by now.
    for (const space of [near, far]) for (const pid of pids(space)) process.kill(pid, 'SIGKILL');
  });

  afterAll(() => {
    for (const space of [near, far]) ip('netns', 'del', space);
    rmSync(folder, { recursive: true, force: true });
  });

  function train(name: string): string[] {
    const sizes = {
      data: join(folder, 'text.txt'),
      ...{ steps, threads: 1, ep: 2, out: join(folder, name), quiet: '' },
      ...{ 'model.hiddenSize': 32, 'model.layers': 2, 'model.intermediateSize': 32 },
      ...{ 'batch.sequence': 16, 'batch.sequences': 4, 'batch.microBatch': 2, 'batch.rampFrom': 4 },
      ...{ 'evaluation.every': 0, 'evaluation.stride': 0, 'checkpoint.every': 4 },
    };
    const flags = Object.entries(sizes).flatMap(([key, value]) =>
      value === '' ? [`--${key}`] : [`--${key}`, String(value)],
    );
    return ['train', '--preset', 'tiny', ...flags];
  }

  /** The command line that calls the launcher. */
  function launched(name: string, ...flags: string[]): string[] {
    const launch = ['--ranks', '2', '--launch', mpirun.join(' ')];
    return [
      process.execPath,
      bin,
      ...train(name),
      ...launch,
      '--deadline',
      `${deadline}`,
      ...flags,
    ];
  }

  function losses(name: string): [number, number][] {
    const path = join(folder, name, 'metrics.jsonl');
    if (!existsSync(path)) return [];
    return readFileSync(path, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { type: string; step: number; loss: number })
      .flatMap(({ type, step, loss }): [number, number][] =>
        type === 'step' ? [[step, loss]] : [],
      );
  }

  function restarts(name: string): unknown[] {
    const lines = readFileSync(join(folder, name, 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n');
    return lines
      .map((line) => JSON.parse(line) as { type: string; ranks: number[] })
      .filter(({ type }) => type === 'restart');
  }

  /** Processes of a namespace. */
  function pids(space: string): number[] {
    return ip('netns', 'pids', space).stdout.split('\n').filter(Boolean).map(Number);
  }

  /** Those of them that are ranks. */
  function ranksLeft(): string[] {
    return [near, far].flatMap(pids).flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return words[0].endsWith('node') ? [words.join(' ')] : [];
      } catch {
        return [];
      }
    });
  }

  interface Job {
    ended: Promise<number | null>;
    /** What it has said. */
    said: () => string;
    child: ChildProcess;
  }

  function start([command, ...args]: string[]): Job {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (data: Buffer) => {
        text += data.toString();
      });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    return { ended, said: () => text, child };
  }

  /** Starts a job and takes the link down in the middle of it. */
  async function cut(name: string, command: string[]): Promise<Job & { at: number }> {
    const job = start(command);
    while (losses(name).length < 10) {
      expect(job.child.exitCode, job.said()).toBeNull();
      await sleep(20);
    }
    expect(ip('-n', near, 'link', 'set', wire, 'down').ok).toBe(true);
    return { ...job, at: performance.now() };
  }

  /** Goes on with a run to its end: nothing that was saved is lost. */
  async function resumed(name: string): Promise<void> {
    const args = ['train', '--resume', join(folder, name), '--ranks', '2', '--quiet'];
    const { ended, said } = start([process.execPath, bin, ...args]);
    expect(await ended, said()).toBe(0);
    expect(losses(name)).toEqual(expected);
  }

  test('a run over TCP has the losses of one on threads', async () => {
    const { ended, said } = start(launched('tcp'));
    expect(await ended, said()).toBe(0);
    expect(losses('tcp')).toEqual(expected);
  });

  test.each([0, 1])(
    'rank %i is killed in a step: it is named, and what was saved goes on',
    async (rank) => {
      const name = `killed-${rank}`;
      const { ended, said } = start(launched(name, '--inject', `kill-rank=${rank}@step=11`));
      expect(await ended, said()).toBe(1);
      expect(said()).toMatch(new RegExp(`error {2}.*rank ${rank} (died|did not come)`));
      expect(said()).toContain('all up to step 8 is saved');
      expect(losses(name)).toEqual(expected.slice(0, 10));
      await expect.poll(ranksLeft, { timeout: 20_000 }).toEqual([]);
      await resumed(name);
    },
  );

  test.each(['kill', 'hang'])(
    '%s: the run goes on by itself, to the losses of one that nothing befell',
    async (kind) => {
      const name = `again-${kind}`;
      const drill = ['--inject', `${kind}-rank=1@step=11`, '--max-restarts', '1'];
      const { ended, said } = start(launched(name, ...drill));
      expect(await ended, said()).toBe(0);
      expect(losses(name)).toEqual(expected);
      expect(restarts(name)).toMatchObject([{ restart: 1, step: 8, reached: 10, ranks: [1] }]);
    },
  );

  test('the link is taken down: the rank behind it is named in time, no rank is left, nothing is lost', async () => {
    const { ended, said, at } = await cut('down', launched('down'));
    expect(await ended, said()).toBe(1);
    const seconds = (performance.now() - at) / 1000;
    expect(seconds).toBeLessThan(deadline + grace + busy);
    expect(said()).toMatch(
      new RegExp(`error {2}\\w+: rank 1 did not come within ${deadline}000 ms`),
    );
    // Of the rank behind the link nobody here can be told; it ends by itself.
    await expect.poll(ranksLeft, { timeout: 1000 * (grace + busy + 10) }).toEqual([]);
    await resumed('down');
  });

  test('the link is taken down and comes up again: the run goes on by itself', async () => {
    const { ended, said } = await cut('up', launched('up', '--max-restarts', '5'));
    await expect.poll(() => restarts('up').length, { timeout: 60_000 }).toBeGreaterThan(0);
    linkUp();
    expect(await ended, said()).toBe(0);
    expect(losses('up')).toEqual(expected);
    expect(restarts('up')[0]).toMatchObject({ restart: 1, ranks: [1] });
  });

  test('started by hand, ranks end all the same, and so does mpirun that is told to look after its connections', async () => {
    const keepalive = Object.entries({ time: 5, intvl: 1, probes: 3 }).flatMap(([key, value]) => [
      ...['--mca', `oob_tcp_keepalive_${key}`, String(value)],
    ]);
    // Probes are for connections on which nothing is under way; on others the system gives up after so many attempts.
    for (const space of [near, far])
      expect(ip('netns', 'exec', space, 'sysctl', '-qw', 'net.ipv4.tcp_retries2=5').ok).toBe(true);
    const rank = [process.execPath, bin, ...train('hand'), '--deadline', `${deadline}`];
    const { ended, said, at } = await cut('hand', [...mpirun, ...keepalive, '-n', '2', ...rank]);
    expect(await ended, said()).not.toBe(0);
    expect((performance.now() - at) / 1000).toBeLessThan(deadline + 10 + busy);
    expect(said()).toMatch(
      new RegExp(`error {2}\\w+: rank 1 did not come within ${deadline}000 ms`),
    );
    await expect.poll(ranksLeft, { timeout: 1000 * (grace + busy + 10) }).toEqual([]);
    linkUp();
    await resumed('hand');
  });
});
