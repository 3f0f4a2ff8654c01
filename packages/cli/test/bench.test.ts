// `bench step`: the fields that comparisons read, and the words that people do.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { cli, failure, json, smallFile, temporaryFolder } from './helpers';

test('bench step --json has every field of the contract', async () => {
  const config = smallFile(temporaryFolder());
  const { code, value } = await json('bench', 'step', '--config', config, '--steps', '3');
  expect(code).toBe(0);
  expect(value).toMatchObject({
    preset: 'tiny',
    precision: 'fp32',
    threads: 1,
    tokensPerStep: 64,
    // The reference kernels have no measured peaks to be held against.
    bound: null,
    ofBound: null,
  });
  const { medianStepSeconds, tokensPerSecond, breakdown } = value as {
    medianStepSeconds: number;
    tokensPerSecond: number;
    breakdown: Record<string, number>;
  };
  expect(tokensPerSecond * medianStepSeconds).toBeCloseTo(64, 6);
  const seconds = Object.values(breakdown);
  expect(breakdown.gemm).toBeGreaterThan(0);
  expect(seconds).toEqual([...seconds].sort((a, b) => b - a));
});

test('bench step says where the time goes and why there is no bound', async () => {
  const config = smallFile(temporaryFolder());
  const { stdout } = await cli('bench', 'step', '--config', config, '--steps', '3');
  for (const part of ['tokens/s', 'Where the time goes', 'gemm', 'only the native kernels'])
    expect(stdout).toContain(part);
});

test('bench step --profile writes a trace: steps, passes, phases, kernels inside them with their sizes, gaps between', async () => {
  const folder = temporaryFolder();
  const trace = join(folder, 'trace.json');
  const { code } = await json(
    ...['bench', 'step', '--config', smallFile(folder), '--steps', '3', '--profile', trace],
  );
  expect(code).toBe(0);
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8')) as {
    traceEvents: {
      name: string;
      ph: string;
      tid: number;
      ts: number;
      dur: number;
      args?: Record<string, unknown>;
    }[];
  };
  type Event = (typeof traceEvents)[number];
  const row = (name: string): Event[] => {
    const title = traceEvents.find(({ ph, args }) => ph === 'M' && args?.name === name);
    return traceEvents.filter(({ ph, tid }) => ph === 'X' && tid === title?.tid);
  };
  const within = (outer: Event, events: Event[]): Event[] =>
    events.filter(({ ts, dur }) => ts >= outer.ts && ts + dur <= outer.ts + outer.dur + 0.001);
  const [phases, kernels] = [row('phases'), row('kernels')];
  const named = (name: string) => phases.filter((phase) => phase.name === name);
  expect(named('layers.0.attention forward')).toHaveLength(3);
  expect(named('layers.0.attention backward')).toHaveLength(3);
  const [attention] = named('layers.0.attention forward');
  const inside = within(attention, kernels);
  // Two sequences of 32 tokens, two heads of 8 + 4 and a value of 8.
  expect(inside.find(({ name }) => name === 'attention')?.args).toMatchObject({
    batch: 2,
    queries: 32,
    heads: 2,
    valueWidth: 8,
    operands: expect.arrayContaining([`f32 ${2 * 32 * 2 * 8}`]) as unknown,
  });
  const steps = row('steps');
  expect(steps).toHaveLength(3);
  for (const step of steps) {
    expect(step.args).toEqual({ tokens: 64 });
    const passes = within(step, row('passes'));
    expect(passes.map(({ name }) => name)).toEqual(['forward', 'backward']);
    for (const pass of passes)
      expect(within(pass, phases).every(({ name }) => name.endsWith(` ${pass.name}`))).toBe(true);
    expect(within(step, phases).at(-1)?.name).toBe('finish');
  }
  expect(readdirSync(folder)).not.toContain('trace.json.tmp');
});

test('bench step says at once where a trace cannot go', async () => {
  const folder = temporaryFolder();
  const { code, stderr } = await cli(
    ...['bench', 'step', '--config', smallFile(folder), '--steps', '3'],
    ...['--profile', join(folder, 'missing', 'trace.json')],
  );
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /--profile \(.*missing.trace\.json\) lies in a folder that does not exist/,
  );
  expect(stderr).not.toContain('Timing');
});

test('bench step refuses a folder as a trace', async () => {
  const folder = temporaryFolder();
  const { code, value } = await json(
    ...['bench', 'step', '--config', smallFile(folder), '--profile', folder],
  );
  expect(code).toBe(2);
  expect(value).toMatchObject({ error: { code: 'ERR_BALEEN_USAGE_PROFILE', path: '--profile' } });
});

test('bench decode times both forms, for programs and for people, and refuses what is no list', async () => {
  const config = smallFile(temporaryFolder());
  const sizes = ['--steps', '1', '--warm-up', '0', '--contexts', '3,9'];
  const argv = ['bench', 'decode', '--config', config, ...sizes];
  const { code, value } = await json(...argv, '--batches', '2');
  expect(code).toBe(0);
  expect(value).toMatchObject({
    preset: 'tiny',
    precision: 'fp32',
    cache: 'fp32',
    threads: 1,
    cases: [3, 3, 9, 9].map((context, index) => ({
      context,
      batch: 2,
      form: index % 2 === 0 ? 'absorbed' : 'expanded',
    })),
  });
  const { stdout } = await cli(...argv, '--batches', '1', '--cache', 'bf16');
  for (const part of ['9 tokens', '1 sequence', 'absorbed', 'expanded', 'tokens/s', 'bf16'])
    expect(stdout).toContain(part);
  expect(await failure('bench', 'decode', '--contexts', '4,x')).toMatchObject({
    code: 'ERR_BALEEN_USAGE_VALUE',
    path: '--contexts',
    exit: 2,
  });
});

test('bench kernels on the reference says that only native kernels are measured', async () => {
  const { code, value } = await json('bench', 'kernels');
  expect(code).toBe(1);
  expect(value).toMatchObject({ error: { code: 'ERR_BALEEN_KERNELS_NATIVE' } });
});

test('bench kernels refuses a number of threads that is none', async () => {
  const { code, stderr } = await cli('bench', 'kernels', '--threads', 'two');
  expect(code).toBe(2);
  expect(stderr).toContain('--threads (two)');
});

test('bench comm measures every operation on threads and says what is missing', async () => {
  const { code, value } = await json(
    ...['bench', 'comm', '--transport', 'threads', '--ranks', '1'],
  );
  expect(code).toBe(0);
  const { ranks, cases, missing } = value as {
    ranks: number;
    cases: {
      operation: string;
      bytes: number;
      us: number;
      bestUs: number;
      ofCopy: number | null;
    }[];
    missing: object;
  };
  expect({ ranks, missing }).toEqual({ ranks: 1, missing: {} });
  const names = ['copy', 'broadcast', 'allReduce', 'reduceScatter', 'allGather', 'allToAll'];
  expect(cases.map(({ operation, bytes }) => `${operation} ${bytes}`)).toEqual([
    'barrier 0',
    ...[8, 65536, 2 ** 24].flatMap((bytes) => names.map((name) => `${name} ${bytes}`)),
  ]);
  for (const { us, bestUs, operation, ofCopy } of cases) {
    expect(bestUs).toBeGreaterThan(0);
    expect(us).toBeGreaterThanOrEqual(bestUs);
    expect(ofCopy === null).toBe(operation === 'barrier');
  }
});

test.each([
  ['--ranks', 'none', 'USAGE_RANKS'],
  ['--transport', 'pigeons', 'USAGE_TRANSPORT'],
])('bench comm refuses %s %s', async (flag, value, what) => {
  const { code, value: said } = await json('bench', 'comm', flag, value);
  expect(code).toBe(2);
  expect(said).toMatchObject({ error: { code: `ERR_BALEEN_${what}`, path: flag } });
});
