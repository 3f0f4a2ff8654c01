// What only a process gets. Ctrl-C: the first ends the run after its step, the second ends the process at once. Two
// processes that would train in one folder. Pipes: cut off, and left open.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type PrintedFailure, smallFile } from './helpers';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
let folder = '';
let config = '';

// Node runs JavaScript only, and tests read sources: bundle the program, third parties left out.
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baleen-cli-'));
  config = smallFile(folder, { steps: 100000 });
  const manifest = JSON.parse(readFileSync(at('../package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  const parties = Object.keys({ ...manifest.dependencies, ...manifest.devDependencies });
  await build({
    entryPoints: [at('../src/bin.ts')],
    outdir: at('../build'),
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    conditions: process.env.TEST_DIST ? [] : ['@baleen/source'],
    external: [
      ...parties.filter((name) => !name.startsWith('@baleen/')),
      ...['tokenizers', '@stdlib/*', 'node-gyp-build'],
    ],
    logLevel: 'error',
  });
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(at('../build'), { recursive: true, force: true });
});

/** A child that trains until it is told otherwise, and what it has said. */
function start(...argv: string[]): {
  child: ChildProcess;
  output: { stdout: string; stderr: string };
  heard: (text: string) => Promise<void>;
  ended: Promise<{ code: number | null; signal: string | null }>;
} {
  const child = spawn(process.execPath, [at('../build/bin.js'), ...argv], {
    cwd: folder,
    env: { ...process.env, BALEEN_KERNELS: 'reference' },
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (data: Buffer) => {
      output[name] += data.toString();
    });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.on('close', (code, signal) => {
      resolve({ code, signal });
    });
  });
  const heard = async (text: string): Promise<void> => {
    while (!output.stderr.includes(text)) {
      if (child.exitCode !== null) throw new Error(`ended early: ${output.stderr}`);
      await setTimeout(10);
    }
  };
  return { child, output, heard, ended };
}

test('the first Ctrl-C ends the run after its step, saves, and says how to resume', async () => {
  const { child, output, heard, ended } = start('train', '--config', config, '--out', 'once');
  await heard('step ');
  child.kill('SIGINT');
  expect(await ended).toEqual({ code: 0, signal: null });
  expect(output.stderr).toContain('Ctrl-C again');
  expect(output.stdout).toMatch(/Stopped after step \d+ of 100000/);
  expect(output.stdout).toContain(' train --resume once');
  const [checkpoint] = readdirSync(join(folder, 'once', 'checkpoints'));
  expect(existsSync(join(folder, 'once', 'checkpoints', checkpoint, 'COMPLETE'))).toBe(true);
});

test('SIGTERM, which a cluster sends before it takes the machine back, does the same', async () => {
  const { child, output, heard, ended } = start('train', '--config', config, '--out', 'term');
  await heard('step ');
  child.kill('SIGTERM');
  expect(await ended).toEqual({ code: 0, signal: null });
  expect(output.stdout).toContain(' train --resume term');
});

test('a second Ctrl-C stops at once, in the middle of a step, with exit code 130', async () => {
  // The step takes seconds: the first is heard in it, and the step goes on.
  const { child, output, heard, ended } = start(
    ...['train', '--config', config, '--out', 'twice'],
    ...['--batch.sequences', '2048', '--batch.microBatch', '256', '--batch.rampFrom', '256'],
  );
  await heard('steps of');
  child.kill('SIGINT');
  await heard('Ctrl-C again');
  expect(output.stderr).not.toContain('step 1');
  child.kill('SIGINT');
  // Killed by the signal itself: a shell calls that 130.
  expect(await ended).toEqual({ code: null, signal: 'SIGINT' });
  expect(output.stderr).not.toContain('step 1');
});

test('a second process does not train in the folder of the first, until that one is gone', async () => {
  const first = start('train', '--config', config, '--out', 'shared', '--checkpoint.every', '1');
  await first.heard('steps of');
  const files = (): string[] => readdirSync(join(folder, 'shared')).sort();
  while (!files().includes('metrics.jsonl')) await setTimeout(10);
  for (const how of [
    ['--config', config, '--out', 'shared'],
    ['--resume', 'shared'],
    ['--resume', 'shared/checkpoints/step-1'],
  ]) {
    const second = start('train', ...how, '--json');
    expect(await second.ended).toEqual({ code: 2, signal: null });
    const { error } = JSON.parse(second.output.stdout) as PrintedFailure;
    expect(error.code).toBe('ERR_BALEEN_USAGE_RUN_LOCKED');
    expect(error.message).toMatch(
      new RegExp(`shared is being trained by process ${first.child.pid} since `),
    );
    expect(error.path).toMatch(/shared$/);
    expect(error.hint).toContain('--out');
  }
  const saved = (): boolean =>
    existsSync(join(folder, 'shared', 'checkpoints')) &&
    readdirSync(join(folder, 'shared', 'checkpoints')).some((name) =>
      existsSync(join(folder, 'shared', 'checkpoints', name, 'COMPLETE')),
    );
  while (!saved()) await setTimeout(10);
  // Nothing can run when this comes: the lock stays, and is no obstacle.
  first.child.kill('SIGKILL');
  expect(await first.ended).toEqual({ code: null, signal: 'SIGKILL' });
  expect(files()).toContain('train.lock');
  const next = start('train', '--resume', 'shared');
  await next.heard('Resuming');
  await next.heard('step ');
  next.child.kill('SIGINT');
  expect(await next.ended).toEqual({ code: 0, signal: null });
  expect(files()).toEqual(['checkpoints', 'config.json', 'metrics.jsonl']);
});

test('output that is cut off early, as by `head`, is no failure', async () => {
  const { child, output, ended } = start('presets', 'tiny', '--quiet');
  child.stdout?.destroy();
  expect(await ended).toEqual({ code: 0, signal: null });
  expect(output.stderr).toBe('');
});

test('a prompt comes through a pipe; one that is never closed holds up nothing', async () => {
  const made = start('train', '--config', config, '--steps', '1', '--out', 'made');
  expect(await made.ended).toEqual({ code: 0, signal: null });
  const piped = start('generate', 'made', '--tokens', '2');
  piped.child.stdin?.end('The whale\n');
  expect(await piped.ended).toEqual({ code: 0, signal: null });
  expect(piped.output.stdout.startsWith('The whale')).toBe(true);
  const open = start('generate', 'made', '--tokens', '2');
  expect(await open.ended).toEqual({ code: 0, signal: null });
  expect(open.output.stderr).toContain('stdin is open and silent');
});
