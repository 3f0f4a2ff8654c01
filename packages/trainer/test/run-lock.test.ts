// One process trains in a run's folder at a time; what a process left that no longer runs is no obstacle.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { referenceKernels } from '@baleen/kernels';
import { build } from 'esbuild';
import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { checkRunLock, openRun, train } from '../src/index';
import { holderOf, type LockHolder, lockRun } from '../src/run-lock';
import { failure, runAll, smallRun, temporaryFolder } from './helpers';

const kernels = referenceKernels();
const lockName = 'train.lock';

/** Called once, after the next file was read. */
const afterRead = vi.hoisted(() => ({ next: null as (() => void) | null }));
/** What the file system answers instead: to reading a lock, to giving a file a second name. */
const answers = vi.hoisted(() => ({
  read: null as string | null,
  link: null as string | null,
}));

/** Has the file system answer so until the test ends. */
function answering(given: Partial<typeof answers>): void {
  Object.assign(answers, given);
  onTestFinished(() => {
    Object.assign(answers, { read: null, link: null });
  });
}

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const failing = (syscall: string, code: string): Error =>
    Object.assign(new Error(`${code}: ${syscall}`), { code, syscall });
  return {
    ...fs,
    linkSync: (...args: Parameters<typeof fs.linkSync>) => {
      if (answers.link !== null) throw failing('link', answers.link);
      fs.linkSync(...args);
    },
    readFileSync: (...args: Parameters<typeof fs.readFileSync>) => {
      if (answers.read !== null && String(args[0]).endsWith('train.lock'))
        throw failing('open', answers.read);
      const text = fs.readFileSync(...args);
      const { next } = afterRead;
      afterRead.next = null;
      next?.();
      return text;
    },
  };
});

/** A process that does nothing for a while. */
function idle(): { child: ChildProcess; pid: number; kill: () => Promise<void> } {
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)']);
  const kill = async (): Promise<void> => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    if (child.kill('SIGKILL')) await ended;
  };
  onTestFinished(kill);
  return { child, pid: child.pid ?? 0, kill };
}

/** A folder that a process has locked. */
function lockedBy(holder: LockHolder): string {
  const run = join(temporaryFolder(), 'run');
  mkdirSync(run);
  writeFileSync(join(run, lockName), JSON.stringify(holder));
  return run;
}

function refusal(run: string): Error & { code?: string; path?: string; hint?: string } {
  try {
    lockRun(run)();
  } catch (error) {
    return error as Error;
  }
  throw new Error(`${run} was not locked`);
}

describe('a run’s folder', () => {
  test('is refused while another process trains there, by number and path', async () => {
    const { pid } = idle();
    const run = lockedBy(holderOf(pid));
    const error = refusal(run);
    expect(error).toMatchObject({ code: 'ERR_BALEEN_USAGE_RUN_LOCKED', path: run, pid });
    expect(error.message).toContain(`${run} is being trained by process ${pid} since `);
    expect(error.hint).toContain('--out');
    expect(error.hint).toContain(join(run, lockName));
    // Before the text is read: there is none.
    const config = smallRun(temporaryFolder());
    config.data.sources = ['/none.txt'];
    expect((await failure(runAll(config, { out: run }))).code).toBe('ERR_BALEEN_USAGE_RUN_LOCKED');
    expect(readdirSync(run)).toEqual([lockName]);
  });

  test('is free when that process was killed', async () => {
    const { pid, kill } = idle();
    const run = lockedBy(holderOf(pid));
    await kill();
    lockRun(run)();
    expect(readdirSync(run)).toEqual([]);
  });

  test.skipIf(!existsSync('/proc/self/stat'))(
    'is free when nobody has asked how the killed process ended',
    async () => {
      // A shell that becomes `sleep` never asks after the child it had.
      const parent = spawn('sh', ['-c', 'sleep 0.05 & echo $!; exec sleep 60']);
      onTestFinished(() => {
        parent.kill('SIGKILL');
      });
      const pid = await new Promise<number>((resolve) => {
        parent.stdout.once('data', (data: Buffer) => {
          resolve(Number(data.toString()));
        });
      });
      const run = lockedBy(holderOf(pid));
      while (!readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '))
        await new Promise((resolve) => setTimeout(resolve, 10));
      expect(() => {
        checkRunLock(run);
      }).not.toThrow();
    },
  );

  test.skipIf(!existsSync('/proc/self/stat'))(
    'is free when its process’s number was given again, or the machine restarted',
    () => {
      const self = holderOf(process.pid);
      const [boot, tick] = (self.started ?? '').split(' ');
      for (const started of [`${boot} ${Number(tick) - 1}`, `${'0'.repeat(36)} ${tick}`]) {
        const run = lockedBy({ ...self, started });
        lockRun(run)();
        expect(readdirSync(run)).toEqual([]);
      }
      expect(refusal(lockedBy(self)).message).toContain(String(process.pid));
    },
  );

  test.skipIf(!existsSync('/proc/self/ns/pid'))(
    'locked in another container stays so, whatever runs here under that number',
    async () => {
      const { pid, kill } = idle();
      const holder = { ...holderOf(pid), pidNamespace: 'pid:[1]' };
      await kill();
      const run = lockedBy(holder);
      const error = refusal(run);
      expect(error).toMatchObject({ code: 'ERR_BALEEN_USAGE_RUN_LOCKED', path: run, pid });
      expect(error.message).toContain(`process ${pid} in another container of ${hostname()}`);
      expect(error.hint).toContain('any more');
      expect(holderOf(pid).pidNamespace).toMatch(/^pid:\[\d+\]$/);
      lockRun(lockedBy(holderOf(pid)))();
    },
  );

  test('left locked goes to one of two that find it so at once', () => {
    const run = lockedBy({ ...holderOf(process.pid), pid: 999_999_999 });
    let unlock = (): void => undefined;
    // Between this one's look at the lock and what it does about it, another takes the folder.
    afterRead.next = () => {
      unlock = lockRun(run);
    };
    expect(refusal(run)).toMatchObject({ code: 'ERR_BALEEN_USAGE_RUN_LOCKED', pid: process.pid });
    expect(readdirSync(run)).toEqual([lockName]);
    unlock();
    expect(readdirSync(run)).toEqual([]);
  });

  test('locked on another machine stays so: nobody here can tell', () => {
    const run = lockedBy({ ...holderOf(999_999_999), host: `not-${hostname()}` });
    const error = refusal(run);
    expect(error.message).toContain(`process 999999999 on not-${hostname()}`);
    expect(error.hint).toContain(`remove ${join(run, lockName)}`);
  });

  test('whose lock names nobody stays locked, and the error says which file to remove', () => {
    const run = join(temporaryFolder(), 'run');
    mkdirSync(run);
    const path = join(run, lockName);
    for (const text of ['', '{"pid":12', '7', '{}']) {
      writeFileSync(path, text);
      const error = refusal(run);
      expect(error).toMatchObject({ code: 'ERR_BALEEN_USAGE_RUN_LOCKED', path: run });
      expect(error.message).toBe(`${run} is locked, but ${path} does not say by which process`);
      expect(error.hint).toContain(`remove ${path}`);
      expect(readdirSync(run)).toEqual([lockName]);
    }
  });

  test('whose lock cannot be read is refused at once, with the file and what to do', () => {
    const run = join(temporaryFolder(), 'run');
    const path = join(run, lockName);
    const refused = (why: string): void => {
      const expected = { code: 'ERR_BALEEN_USAGE_RUN_LOCKED', path: run };
      const error = refusal(run);
      expect(error).toMatchObject(expected);
      expect(error.message).toBe(`${run} is locked, but ${path} ${why}`);
      expect(error.hint).toContain(`remove ${path}`);
      expect(() => {
        checkRunLock(run);
      }).toThrow(expect.objectContaining({ ...expected, message: error.message }));
      expect(readdirSync(run)).toEqual([lockName]);
    };
    mkdirSync(path, { recursive: true });
    refused('is a folder');
    rmSync(path, { recursive: true });
    writeFileSync(path, '');
    for (const code of ['EACCES', 'EIO']) {
      answering({ read: code });
      refused(`cannot be read (${code})`);
    }
    answering({ read: null });
    rmSync(path);
    symlinkSync(join(run, 'nowhere'), path);
    refused('is a link to a file that does not exist');
  });

  test('is locked where files have one name each, too', async () => {
    const { pid, kill } = idle();
    for (const code of ['EPERM', 'ENOTSUP', 'ENOSYS']) {
      answering({ link: code });
      const run = join(temporaryFolder(), 'run');
      const unlock = lockRun(run);
      expect(readdirSync(run)).toEqual([lockName]);
      expect(refusal(run)).toMatchObject({ pid: process.pid });
      unlock();
    }
    const run = lockedBy(holderOf(pid));
    await kill();
    const unlock = lockRun(run);
    expect(refusal(run)).toMatchObject({ pid: process.pid });
    unlock();
    expect(readdirSync(run)).toEqual([]);
  });

  test('goes to one of many processes that want it at once, locked before or not', async () => {
    const folder = temporaryFolder();
    const script = join(folder, 'take.mjs');
    await build({
      stdin: {
        contents: `import { lockRun } from './run-lock';
          const [run, from] = process.argv.slice(2);
          while (Date.now() < Number(from));
          try { lockRun(run); process.stdout.write('taken\\n'); setTimeout(() => {}, 60000); }
          catch (error) { process.stdout.write(error.code + '\\n'); }`,
        resolveDir: join(import.meta.dirname, '../src'),
      },
      bundle: true,
      platform: 'node',
      format: 'esm',
      conditions: ['@baleen/source'],
      external: ['*.node'],
      outfile: script,
    });
    const dead = { ...holderOf(process.pid), pid: 999_999_999 };
    for (const run of [join(folder, 'new'), lockedBy(dead)]) {
      const from = Date.now() + 1500;
      const children = Array.from({ length: 12 }, () =>
        spawn(process.execPath, [script, run, String(from)]),
      );
      onTestFinished(() => {
        for (const child of children) child.kill('SIGKILL');
      });
      const answered = await Promise.all(
        children.map(
          (child) =>
            new Promise<string>((resolve, reject) => {
              child.stdout.once('data', (data: Buffer) => {
                resolve(data.toString().trim());
              });
              child.once('error', reject);
              child.once('close', (code) => {
                reject(new Error(`ended without a word: ${code}`));
              });
            }),
        ),
      );
      expect(answered.sort()).toEqual([
        ...new Array<string>(11).fill('ERR_BALEEN_USAGE_RUN_LOCKED'),
        'taken',
      ]);
      expect(readdirSync(run)).toEqual([lockName]);
    }
  });

  test('made for a lock goes with it, the folders above included, unless something lies there', () => {
    const above = temporaryFolder();
    const run = join(above, 'a', 'b');
    lockRun(run)();
    expect(readdirSync(above)).toEqual([]);
    const unlock = lockRun(run);
    writeFileSync(join(above, 'a', 'mine.txt'), '');
    unlock();
    unlock();
    expect(readdirSync(join(above, 'a'))).toEqual(['mine.txt']);
    expect(refusal(join(above, 'a', 'mine.txt')).code).toBe('ERR_BALEEN_USAGE_FOLDER');
  });
});

describe('train', () => {
  test('holds the lock from its first event to its end, and only who reads is let in', async () => {
    const folder = temporaryFolder();
    const out = join(folder, 'run');
    const config = smallRun(folder, { steps: 4, checkpoint: { every: 1, keep: 4 } });
    const run = train(config, { out, kernels });
    const seen: string[] = [];
    for (;;) {
      const next = await run.next();
      if (next.done) break;
      seen.push(next.value.type);
      expect(existsSync(join(out, lockName))).toBe(true);
      if (next.value.type !== 'checkpoint' || next.value.step !== 2) continue;
      for (const options of [{ out }, { resume: out }])
        expect(await failure(runAll(config, options))).toMatchObject({
          code: 'ERR_BALEEN_USAGE_RUN_LOCKED',
          pid: process.pid,
        });
      expect((await openRun(out, { kernels })).step).toBe(2);
      const branch = await runAll(config, { resume: out, out: join(folder, 'branch') });
      expect(branch.result.steps).toBe(4);
    }
    expect(seen.filter((type) => type === 'step')).toHaveLength(4);
    expect(readdirSync(out).sort()).toEqual(['checkpoints', 'config.json', 'metrics.jsonl']);
    await runAll(config, { resume: out });
    expect(existsSync(join(out, lockName))).toBe(false);
  });

  test('takes its lock away when it fails and when it is left', async () => {
    const folder = temporaryFolder();
    const out = join(folder, 'run');
    const config = smallRun(folder, { steps: 4 });
    config.schedule.learningRate.peak = 1e30;
    config.schedule.learningRate.warmupShare = 0;
    const error = await failure(runAll(config, { out }));
    expect(error.code).toBe('ERR_BALEEN_TRAIN_NOT_FINITE');
    expect(readdirSync(out)).not.toContain(lockName);
    const left = join(folder, 'left');
    for await (const event of train(smallRun(folder), { out: left, kernels })) {
      expect(event.type).toBe('start');
      // Nothing to read yet, and not because the run had ended.
      const reading = await failure(openRun(left));
      expect(reading.hint).toContain('a process trains there and has not saved yet');
      break;
    }
    expect((await failure(openRun(left))).hint).toContain('the run ended before its first save');
    expect(readdirSync(left).sort()).toEqual(['config.json', 'metrics.jsonl']);
  });
});
