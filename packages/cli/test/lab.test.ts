// `baleen lab`: what is printed before and after, what programs get, and a record that is complete or absent.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

import { type Lab, type LabMeasurements, type LabRecord, labs } from '@baleen/trainer';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

import { cli, cliWith, failure, json, type PrintedFailure, temporaryFolder } from './helpers';

let effect: LabMeasurements['effect'] = { pairs: [] };
let afterRow = (): void => undefined;

/** A lab that measures what a test tells it to. */
const synthetic: Lab = {
  name: 'synthetic',
  claim: 'the gap is below 1 %',
  source: 'nowhere, §1',
  published: 0.01,
  quantity: { name: 'largest gap', unit: 'percent' },
  effect: { name: 'mean gap', unit: 'percent' },
  inequality: { above: -0.01, below: 0.01 },
  settings: { quick: { pairs: 3, changes: { model: { layers: 2 } } }, full: { pairs: 99 } },
  estimate: () => Promise.resolve(3960),
  run: async (_, { row, progress, signal, seed }) => {
    progress(0.1, 'pair 1/2');
    row({ seed, kind: 'plain', loss: 2.34567 });
    afterRow();
    // A pace of some seconds, which is shown.
    await setTimeout(5);
    progress(0.101, 'pair 1/2', 'loss 2.346');
    signal.throwIfAborted();
    row({ seed: seed + 1, kind: 'scaled', loss: 2.5 });
    return { effect, notes: ['seen beside it'] };
  },
};

const list = labs as Lab[];
beforeAll(() => list.push(synthetic));
afterAll(() => list.pop());
beforeEach(() => {
  effect = { pairs: [0.001, 0.002, 0.0015] };
  afterRow = () => undefined;
});

const keys = [
  ...['lab', 'claim', 'source', 'published', 'measured', 'effect', 'ci95', 'n'],
  ...['smallestResolvableEffect', 'verdict', 'seconds'],
];

test('--json is one line with exactly the keys of the contract', async () => {
  const { code, value } = await json('lab', 'synthetic');
  expect(code).toBe(0);
  expect(Object.keys(value as object)).toEqual(keys);
  expect(value).toMatchObject({
    lab: 'synthetic',
    claim: 'the gap is below 1 %',
    source: 'nowhere, §1',
    published: 0.01,
    n: 3,
    verdict: 'holds',
  });
  const {
    measured,
    effect: mean,
    ci95,
  } = value as { measured: number; effect: number; ci95: number[] };
  expect(measured).toBe(mean);
  expect(mean).toBeCloseTo(0.0015, 12);
  // s = 0.0005, t with two degrees of freedom 4.303.
  expect(ci95[1] - mean).toBeCloseTo((4.3027 * 0.0005) / Math.sqrt(3), 7);
});

test.each([
  ['holds', { pairs: [0.001, 0.002, 0.0015] }, 'The claim holds here.'],
  ['fails', { pairs: [0.1, 0.11, 0.12] }, 'The claim does not hold here.'],
  ['notResolvable', { pairs: [0.1, -0.1, 0] }, 'Not resolvable'],
  ['fails', { exact: 0.5, n: 6 }, 'The claim does not hold here.'],
] as const)('settings, grid and verdict as a table: %s', async (verdict, given, saying) => {
  effect = given;
  const { code, stdout } = await cli('lab', 'synthetic', '--seed', '4');
  // A claim that fails is a result, not a failure.
  expect(code).toBe(0);
  for (const line of [
    /^Lab synthetic · quick$/m,
    /claim +the gap is below 1 %$/m,
    /published +1\.00 %, largest gap$/m,
    /measured .* %, largest gap$/m,
    /holds if +−1\.00 % < mean gap < 1\.00 %$/m,
    /settings +seed +4$/m,
    /^ +pairs +3$/m,
    /^ +changes\.model\.layers +2$/m,
    /^ {2}seed +kind +loss$/m,
    /^ {5}4 +plain +2\.346$/m,
    /^ {5}5 +scaled +2\.500$/m,
    new RegExp(`verdict +${verdict} +${saying.replace('.', '\\.')}`),
    new RegExp(`n = ${'exact' in given ? 6 : 3}\\)$`, 'm'),
    /also +seen beside it$/m,
    /took .* reference kernels/,
  ])
    expect(stdout).toMatch(line);
  // What was settled stands before what was measured.
  expect(stdout.indexOf('settings')).toBeLessThan(stdout.indexOf('2.346'));
});

test('further claims have lines and verdicts of their own', async () => {
  const further = [
    {
      claim: 'and the factor is large',
      published: 3,
      quantity: { name: 'factor seen', unit: 'ratio' },
      effect: { name: 'factor', unit: 'ratio' },
      inequality: { above: 1.5 },
    },
  ] as const;
  list.push({
    ...synthetic,
    name: 'several',
    further,
    run: () => Promise.resolve({ effect, further: [{ effect: { exact: 1.2, n: 4 } }] }),
  });
  try {
    const { value } = await json('lab', 'several');
    expect(Object.keys(value as object)).toEqual([...keys, 'further']);
    expect(value).toMatchObject({
      verdict: 'holds',
      further: [{ claim: 'and the factor is large', effect: 1.2, verdict: 'fails' }],
    });
    const { stdout } = await cli('lab', 'several');
    expect(stdout).toMatch(/claim +the gap[^]*claim +and the factor[^]*settings[^]*verdict +holds/);
    expect(stdout).toMatch(/claim +and the factor is large\n.*verdict +fails/);
    expect(stdout).toMatch(/published +× 3\.00, factor seen/);
    const listed = (await json('lab', 'list')).value as { labs: object[] };
    expect(listed.labs.at(-1)).toMatchObject({
      further: [{ claim: 'and the factor is large', published: 3, holdsIf: '× 1.50 < factor' }],
    });
    expect((await cli('lab', 'list')).stdout).toContain('and the factor is large');
  } finally {
    list.pop();
  }
});

test('a run that diverged has no interval, and JSON shows null', async () => {
  effect = { pairs: [0.001, Infinity] };
  const { value } = await json('lab', 'synthetic');
  expect(value).toMatchObject({ effect: null, ci95: null, verdict: 'fails' });
  expect((await cli('lab', 'synthetic')).stdout).toMatch(/effect +diverged \(n = 2\)/);
});

test('--full states its time before it begins, also under --json, which keeps stdout to its line', async () => {
  const human = await cli('lab', 'synthetic', '--full');
  expect(human.stderr).toContain('about 1 h 6 min');
  expect(human.stdout).toMatch(/Lab synthetic · full[^]*pairs +99/);
  const { stdout, stderr } = await cli('lab', 'synthetic', '--full', '--json');
  expect(stdout.split('\n')).toHaveLength(2);
  expect(stderr).toMatch(/pairs +99[^]*about 1 h 6 min/);
  expect((await cli('lab', 'synthetic')).stderr).not.toContain('about');
  expect((await cli('lab', 'synthetic', '--json', '--quiet')).stderr).not.toContain('pairs');
});

test('progress goes to stderr, with the share done and the time left', async () => {
  const { stderr } = await cli('lab', 'synthetic');
  expect(stderr).toMatch(/^ +10 % {2}pair 1\/2 {2}loss 2\.346 {2}\d:\d\d left$/m);
});

test('--out writes the whole record', async () => {
  const folder = temporaryFolder();
  const path = join(folder, 'record.json');
  const { stdout } = await cli('lab', 'synthetic', '--out', path, '--seed', '2');
  expect(stdout).toContain(path);
  const record = JSON.parse(readFileSync(path, 'utf8')) as LabRecord;
  expect(Object.keys(record.result)).toEqual(keys);
  expect(record).toMatchObject({
    plan: { budget: 'quick', seed: 2, settings: synthetic.settings.quick },
    rows: [{ seed: 2 }, { seed: 3 }],
    values: [0.001, 0.002, 0.0015],
    notes: ['seen beside it'],
    kernels: { implementation: 'reference' },
  });
  expect(readdirSync(folder)).toEqual(['record.json']);
});

test('a place where the record cannot go is refused before the lab runs', async () => {
  afterRow = () => {
    throw new Error('it ran');
  };
  const folder = temporaryFolder();
  const lost = join(folder, 'missing', 'record.json');
  expect(await failure('lab', 'synthetic', '--out', lost)).toMatchObject({
    code: 'ERR_BALEEN_USAGE_OUT',
    path: '--out',
    exit: 2,
  });
  expect((await cli('lab', 'synthetic', '--out', folder)).stderr).toContain('is a folder');
});

test('Ctrl-C: no verdict, no record, and what was measured until then', async () => {
  const path = join(temporaryFolder(), 'record.json');
  const stop = new AbortController();
  afterRow = () => {
    stop.abort();
  };
  const argv = ['lab', 'synthetic', '--out', path];
  const { code, stdout, stderr } = await cliWith({ signal: stop.signal }, ...argv);
  expect(code).toBe(1);
  expect(stdout).not.toContain('verdict');
  expect(stderr).toMatch(
    /Stopping\.[^]*Measured until then:[^]*plain +2\.346[^]*there is no verdict/,
  );
  const again = await cliWith({ signal: stop.signal }, ...argv, '--json');
  expect((JSON.parse(again.stdout) as PrintedFailure).error.code).toBe('ERR_BALEEN_LAB_STOPPED');
  expect(existsSync(path)).toBe(false);
});

test('lab list, and lab alone, say what there is', async () => {
  const { code, value } = await json('lab', 'list');
  expect(code).toBe(0);
  const { labs: listed } = value as {
    labs: { lab: string; published: unknown; holdsIf: string }[];
  };
  expect(listed.map(({ lab }) => lab)).toEqual(labs.map(({ name }) => name));
  expect(listed[0]).toEqual({
    lab: 'fp8-loss',
    claim: labs[0].claim,
    source: 'arXiv 2412.19437, §3.3',
    published: 0.0025,
    holdsIf: '−0.250 % < mean of (FP8 − BF16) / BF16 held-out loss < 0.250 %',
  });
  const { stdout } = await cli('lab', 'list');
  expect(stdout).toContain('a 16B model diverged');
  expect((await cli('lab')).stdout).toBe(stdout);
});

test('slow kernels are not passed over in silence', async () => {
  const { stderr } = await cli('lab', 'synthetic', '--quiet');
  expect(stderr).toMatch(/the reference kernels are slow/);
});
