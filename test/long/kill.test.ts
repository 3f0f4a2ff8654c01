// Runs that are killed without warning, again and again, while they save after every step: what COMPLETE marks can be
// read, the run goes on from there, and its steps are counted without a gap.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { expect, test } from 'vitest';

const bin = join(import.meta.dirname, '../../packages/cli/bin/baleen.js');
const sizes = {
  'model.hiddenSize': 32,
  'model.layers': 2,
  'model.intermediateSize': 32,
  'batch.sequence': 16,
  'batch.sequences': 2,
  'batch.microBatch': 2,
  'batch.rampFrom': 2,
  'evaluation.every': 0,
  'evaluation.tokens': 64,
  'checkpoint.every': 1,
};
const flags = Object.entries(sizes).flatMap(([key, value]) => [`--${key}`, String(value)]);
const steps = 60;

test('a run killed in the middle of saving goes on from its newest whole checkpoint', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'baleen-kill-'));
  try {
    const text = join(folder, 'text.txt');
    writeFileSync(text, 'A line of text that a small model may learn.\n\n'.repeat(400));
    const run = join(folder, 'run');
    const begin = ['train', '--preset', 'tiny', '--data', text, '--out', run];
    const first = [...begin, '--steps', String(steps), ...flags];
    let [kills, seed] = [0, 7];
    for (let attempt = 0; attempt < 12; attempt += 1) {
      const args = existsSync(join(run, 'checkpoints')) ? ['train', '--resume', run] : first;
      if (args === first) rmSync(run, { recursive: true, force: true });
      const child = spawn(process.execPath, [bin, ...args, '--quiet'], { stdio: 'ignore' });
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      seed = (seed * 16807) % 2147483647;
      await Promise.race([sleep(700 + (seed % 900)), ended]);
      child.kill('SIGKILL');
      if ((await ended) === null) kills += 1;
      for (const name of existsSync(join(run, 'checkpoints'))
        ? readdirSync(join(run, 'checkpoints'))
        : [])
        if (existsSync(join(run, 'checkpoints', name, 'COMPLETE'))) {
          const scored = spawnSync(process.execPath, [
            bin,
            'eval',
            join(run, 'checkpoints', name),
            '--json',
          ]);
          expect(scored.status, String(scored.stdout)).toBe(0);
        }
    }
    expect(kills).toBeGreaterThan(3);
    const last = spawnSync(process.execPath, [bin, 'train', '--resume', run, '--json'], {
      encoding: 'utf8',
    });
    expect(last.status, last.stderr).toBe(0);
    const events = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const counted = events
      .map((line) => JSON.parse(line) as { type: string; step: number })
      .flatMap(({ type, step }) => (type === 'step' ? [step] : []));
    expect(counted).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 300_000);
