// Worker threads of a process: they share its pool and its instruction set, change neither by loading the kernels, and
// say what both are.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { type KernelsReport, nativeKernels } from '@baleen/kernels';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const native = nativeKernels();

/** What every thread of the processes below begins with: `inWorker` runs an expression in a new worker. */
const prelude = `
  import { once } from 'node:events';
  import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
  import * as baleen from './index.js';
  const say = baleen.describeKernels;
  const choose = (isa, threads) => {
    baleen.nativeKernels().setIsa(isa);
    baleen.setThreads(threads);
  };
  const inWorker = async (expression, options) => {
    const worker = new Worker(new URL(import.meta.url), { ...options, workerData: expression });
    const [said] = await once(worker, 'message');
    await once(worker, 'exit');
    return said;
  };
  if (!isMainThread) parentPort.postMessage(eval(workerData));
`;

/** Runs a program in a process of its own, and returns what it `print`s. */
function run(program: string, env: NodeJS.ProcessEnv = {}): KernelsReport[] {
  const path = at('../build/workers.mjs');
  const main = `const print = (value) => console.log(JSON.stringify(value));\n${program}`;
  writeFileSync(path, `${prelude}\nif (isMainThread) {${main}}\n`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [path], {
    encoding: 'utf8',
    env: { ...process.env, BALEEN_KERNELS: 'native', BALEEN_ISA: '', ...env },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as KernelsReport[];
}

describe.skipIf(native === null)('a worker that loads the kernels', () => {
  const best = native?.isas[0] ?? '';
  const report = (isa: string, threads: number): KernelsReport => ({
    implementation: 'native',
    isa,
    threads,
  });

  // Node runs JavaScript only, and tests read sources.
  beforeAll(async () => {
    await build({
      entryPoints: [at(process.env.TEST_DIST ? '../dist/index.js' : '../src/index.ts')],
      outfile: at('../build/index.js'),
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      logLevel: 'error',
    });
  });
  afterAll(() => {
    rmSync(at('../build'), { recursive: true, force: true });
  });

  test('finds the pool and the instruction set that the main thread chose', () => {
    const program = `
      choose('baseline', 3);
      print([await inWorker('say()'), say()]);`;
    expect(run(program)).toEqual([report('baseline', 3), report('baseline', 3)]);
  });

  test('changes both only where it says so, and then for the main thread too', () => {
    const program = `
      choose('baseline', 3);
      print([await inWorker('choose("${best}", 2), say()'), say()]);`;
    expect(run(program)).toEqual([report(best, 2), report(best, 2)]);
  });

  test('may be the first to load them: the main thread then finds what it chose', () => {
    const program = `
      print([await inWorker('choose("baseline", 3), say()'), say()]);`;
    expect(run(program)).toEqual([report('baseline', 3), report('baseline', 3)]);
  });

  test('of the variables that choose for a process only the first to load has a say', () => {
    const program = `
      const env = { ...process.env, BALEEN_ISA: '${best}' };
      const [first, other] = [say(), await inWorker('say()', { env })];
      print([first, other, say()]);`;
    const [first, ...later] = run(program, { BALEEN_ISA: 'baseline' });
    expect(first.isa).toBe('baseline');
    expect(later).toEqual([first, first]);
  });
});
