// `baleen loads`: the numbers of a run's loads, and the picture of the same numbers.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { readMetrics } from '@baleen/trainer';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { cli, failure, json, smallFile } from './helpers';

const folder = mkdtempSync(join(tmpdir(), 'baleen-cli-loads-'));
const run = join(folder, 'run');

beforeAll(async () => {
  await cli('train', '--config', smallFile(folder), '--out', run);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('the picture shows the numbers that --json prints, which are those of metrics.jsonl', async () => {
  const out = join(folder, 'loads.svg');
  const { code, value } = await json('loads', run, '--out', out);
  expect(code).toBe(0);
  const { layers, columns, steps } = value as {
    layers: { load: number[][]; batchViolation: number[]; globalViolation: number }[];
    columns: { from: number; to: number }[];
    steps: number;
  };
  const events = readMetrics(run).flatMap((event) => (event.type === 'step' ? [event] : []));
  expect(steps).toBe(events.length);
  expect(columns).toEqual(events.map(({ step }) => ({ from: step, to: step })));
  const svg = readFileSync(out, 'utf8');
  const strips = svg.split(/(?=<g data-layer=)/).slice(1);
  expect(strips).toHaveLength(layers.length);
  layers.forEach((layer, index) => {
    const shown = [...strips[index].matchAll(/data-load="([^"]*)"/g)].map(([, numbers]) =>
      numbers.split(' ').map(Number),
    );
    expect(shown).toHaveLength(layer.load.length);
    layer.load.forEach((loads, e) => {
      loads.forEach((load, c) => {
        const counts = events[c].loads[index];
        const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
        expect(load).toBeCloseTo(counts[e] / mean, 9);
        expect(shown[e][c]).toBeCloseTo(load, 3);
      });
    });
  });
});

test('a line a layer, and where the picture is', async () => {
  const out = join(folder, 'other.svg');
  const { code, stdout } = await cli('loads', run, '--out', out);
  expect(code).toBe(0);
  expect(stdout).toMatch(/layer +MaxVio at first/);
  expect(stdout).toMatch(/^ +MoE 1 +\d/m);
  expect(stdout).toContain(out);
  expect((await cli('loads', join(run, 'checkpoints', 'step-4'))).code).toBe(0);
});

test('what has no loads is refused, and so is a place for the picture that is not there', async () => {
  expect(await failure('loads', folder)).toMatchObject({
    code: 'ERR_BALEEN_DATA_LOADS',
    path: folder,
  });
  const lost = join(folder, 'missing', 'loads.svg');
  expect(await failure('loads', run, '--out', lost)).toMatchObject({
    code: 'ERR_BALEEN_USAGE_OUT',
    exit: 2,
  });
  expect(existsSync(lost)).toBe(false);
});
