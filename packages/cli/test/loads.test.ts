// `baleen loads`: the numbers of a run's loads, and the picture of the same numbers; those of a trace that `eval` wrote.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { maxViolation, readTrace } from '@baleen/moe-router';
import { readMetrics } from '@baleen/trainer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

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

describe('a routing trace', () => {
  const trace = join(folder, 'routing.trace');
  const texts = ['calm', 'loud'].map((name) => join(folder, `${name}.txt`));
  let evaluated: { loads: number[][]; maxViolation: number; trace: string };

  interface TraceLoads {
    tokens: number;
    steps: number;
    columns: { from: number; to: number }[];
    layers: { load: number[][]; globalViolation: number }[];
    domains: { names: string[]; loads: number[][]; layers: { load: number[][] }[] };
    coActivation: number[][];
    closestPairs: { experts: [number, number]; lift: number }[];
  }
  const loadsOf = async (...flags: string[]): Promise<TraceLoads> => {
    const { code, value } = await json('loads', trace, ...flags);
    expect(code).toBe(0);
    return value as TraceLoads;
  };
  const sumOf = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

  beforeAll(async () => {
    writeFileSync(texts[0], 'The sea was calm. '.repeat(40));
    writeFileSync(texts[1], 'AYE! AYE! 1851, 1851? '.repeat(30));
    const { value } = await json('eval', run, '--data', texts.join(','), '--trace', trace);
    evaluated = value as typeof evaluated;
  });

  test('gives the loads of the evaluation that wrote it', async () => {
    expect(evaluated.trace).toBe(trace);
    const { tokens, steps, columns, layers, domains } = await loadsOf();
    expect(columns).toHaveLength(steps);
    expect(domains.names).toEqual(texts);
    evaluated.loads.forEach((counts, layer) => {
      const perDomain = domains.loads[layer];
      const experts = counts.length;
      counts.forEach((count, e) => {
        expect(perDomain[e] + perDomain[experts + e]).toBe(count);
      });
      expect(layers[layer].globalViolation).toBeCloseTo(maxViolation(counts), 9);
      expect(sumOf(counts)).toBe(2 * tokens);
    });
    expect(sumOf(evaluated.loads.map(maxViolation)) / evaluated.loads.length).toBeCloseTo(
      evaluated.maxViolation,
      9,
    );
  });

  test('says which experts and domains go together', async () => {
    const { coActivation: together, closestPairs, tokens, domains } = await loadsOf();
    const read = readTrace(readFileSync(trace));
    expect(read.choice.expertsPerToken).toBe(2);
    together.forEach((own, layer) => {
      const { experts } = read;
      // Pairs of two experts a token: each token is in one pair.
      let pairs = 0;
      for (let i = 0; i < experts; i += 1)
        for (let j = i + 1; j < experts; j += 1) pairs += own[i * experts + j];
      expect(pairs).toBe(tokens);
      const { experts: pair, lift } = closestPairs[layer];
      const [a, b] = pair;
      const apart = own[a * (experts + 1)] * own[b * (experts + 1)];
      expect(lift).toBeCloseTo((own[a * experts + b] * tokens) / apart, 9);
    });
    const { stdout } = await cli('loads', trace);
    expect(stdout).toMatch(/^ +busiest expert \(× mean\) +MoE 1/m);
    for (const name of domains.names) expect(stdout).toContain(name);
    expect(stdout).toMatch(/together +MoE 1: experts \d and \d/);
  });

  test('is routed again as flags say', async () => {
    const [own, one, apart, balanced] = await Promise.all([
      loadsOf(),
      loadsOf('--top-k', '1'),
      loadsOf('--no-bias'),
      loadsOf('--speed', '0.5', '--rule', 'sign'),
    ]);
    expect(sumOf(one.domains.loads[0])).toBe(own.tokens);
    expect(apart.tokens).toBe(own.tokens);
    expect(balanced.layers).not.toEqual(own.layers);
  });

  test('is drawn by domain, or by step', async () => {
    const out = join(folder, 'trace.svg');
    const { domains } = await loadsOf('--out', out);
    const svg = readFileSync(out, 'utf8');
    const shown = [...svg.matchAll(/data-load="([^"]*)"/g)].map(([, list]) => list);
    expect(shown).toEqual(
      domains.layers.flatMap(({ load }) =>
        load.map((list) => list.map((value) => Number(value.toFixed(4))).join(' ')),
      ),
    );
    const again = join(folder, 'steps.svg');
    const { steps } = await loadsOf('--out', again, '--by', 'step');
    expect(/data-load="([^"]*)"/.exec(readFileSync(again, 'utf8'))?.[1].split(' ')).toHaveLength(
      steps,
    );
  });

  test('that is cut short, or flags that do not fit, are refused', async () => {
    const cut = join(folder, 'cut.trace');
    writeFileSync(cut, readFileSync(trace).subarray(0, -5));
    expect(await failure('loads', cut)).toMatchObject({
      code: 'ERR_BALEEN_ROUTER_TRACE',
      path: cut,
    });
    expect(await failure('loads', trace, '--top-k', '99')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_VALUE',
      path: '--top-k',
      exit: 2,
    });
    expect(await failure('loads', trace, '--rule', 'sign')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_RULE',
      exit: 2,
    });
    // What is there stays as it is.
    const bytes = readFileSync(trace);
    for (const argv of [
      ['loads', trace, '--out', trace],
      ['eval', run, '--trace', trace],
    ])
      expect(await failure(...argv)).toMatchObject({
        message: expect.stringContaining('is there already') as string,
        exit: 2,
      });
    expect(readFileSync(trace).equals(bytes)).toBe(true);
    expect(await failure('loads', run, '--no-bias')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_FLAG',
      path: '--no-bias',
      exit: 2,
    });
    const lost = join(folder, 'missing', 'routing.trace');
    expect(await failure('eval', run, '--trace', lost)).toMatchObject({
      code: 'ERR_BALEEN_USAGE_TRACE',
      exit: 2,
    });
  });
});

test('what is no run and no trace is named as what it is', async () => {
  const text = join(folder, 'text.txt');
  writeFileSync(text, 'BALEEN');
  expect(await failure('loads', text)).toMatchObject({
    code: 'ERR_BALEEN_USAGE_RUN',
    message: `${text} is neither a run folder nor a routing trace`,
  });
  expect(await failure('loads', join(folder, 'none'))).toMatchObject({
    code: 'ERR_BALEEN_USAGE_RUN',
    message: `${join(folder, 'none')} does not exist`,
    exit: 2,
  });
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
