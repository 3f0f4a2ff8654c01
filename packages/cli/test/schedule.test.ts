// `baleen schedule`: a schedule made, proven, simulated and drawn, for people and for programs.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import {
  generateSchedule,
  parseSchedule,
  publishedProfile,
  readChromeTrace,
  type Schedule,
  scheduleSchema,
  simulate,
} from '@baleen/dualpipe';
import { expect, test } from 'vitest';

import { cli, cliWith, failure, json, temporaryFolder } from './helpers';

const sizes = { ranks: 2, microBatches: 4 };
const small = ['--ranks', '2', '--micro-batches', '4'];

test('generate --json is the schedule; --out keeps it, and says what it comes to', async () => {
  const schedule = generateSchedule('dualpipe', { ranks: 2, microBatches: 4 });
  expect((await json('schedule', 'generate', 'dualpipe', ...small)).value).toEqual(schedule);
  const out = join(temporaryFolder(), 'schedule.json');
  const { value } = await json('schedule', 'generate', 'dualpipe', ...small, '--out', out);
  expect(value).toMatchObject({ out, method: 'dualpipe', messages: 8, peakInFlight: [3, 3] });
  expect(parseSchedule(readFileSync(out, 'utf8'))).toEqual(schedule);
});

test('schema prints the JSON Schema', async () => {
  expect((await json('schedule', 'schema')).value).toEqual(scheduleSchema);
  expect(JSON.parse((await cli('schedule', 'schema')).stdout)).toEqual(scheduleSchema);
});

test('the sketch has a line for each rank, a letter for each slice', async () => {
  const { code, stdout } = await cli('schedule', 'generate', 'zb1p', ...small);
  expect(code).toBe(0);
  const ranks = [...stdout.matchAll(/^ {2}rank \d {2}(.*)$/gm)].map(([, line]) => line);
  // Two columns a unit: F F I W F I W F I W I W on rank 0 with idle time in between, one later on rank 1.
  expect(ranks).toEqual([
    'FFFF··IIWWFFIIWWFFIIWWIIWW',
    '··FFIIFFIIWWFFIIWWFFIIWWWW'.padEnd(26, '·'),
  ]);
  expect(stdout).toContain('F forward, I input gradient (Bᵢ)');
  const colored = await cliWith({ terminal: true }, 'schedule', 'generate', 'zb1p', ...small);
  expect(colored.stdout).toContain('\u001b[33mFFFF');
  // A long one fits into the terminal.
  const wide = await cli('schedule', 'generate', 'dualpipe', '--micro-batches', '200');
  for (const line of wide.stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
});

test('check proves a file, and names the first wrong action with exit code 1', async () => {
  const path = join(temporaryFolder(), 'mine.json');
  const schedule = generateSchedule('1f1b', { ranks: 2, microBatches: 2 });
  writeFileSync(path, JSON.stringify(schedule));
  expect((await json('schedule', 'check', path)).value).toMatchObject({
    valid: true,
    semantics: 'rendezvous',
    messages: 4,
  });
  expect((await cli('schedule', 'check', path)).stdout).toMatch(/^valid .*under rendezvous$/m);
  const actions = schedule.actions.with(1, schedule.actions[1].toReversed());
  writeFileSync(path, JSON.stringify({ ...schedule, actions } satisfies Schedule));
  expect(await failure('schedule', 'check', path)).toMatchObject({
    exit: 1,
    code: expect.stringMatching(/^ERR_BALEEN_SCHEDULE_/) as string,
    path: expect.stringMatching(/^actions\[\d\]\[\d\]$/) as string,
  });
  writeFileSync(path, '{"format": 1}');
  expect(await failure('schedule', 'check', path)).toMatchObject({
    exit: 1,
    code: 'ERR_BALEEN_SCHEDULE_FORM',
  });
  expect(await failure('schedule', 'check', `${path}x`)).toMatchObject({
    exit: 2,
    code: 'ERR_BALEEN_USAGE_FILE',
  });
});

test('simulate: the report’s figures, and the formula where it is not exact', async () => {
  const { value } = await json('schedule', 'simulate', 'dualpipe');
  expect(value).toMatchObject({
    total: 66,
    idle: [6, 6, 6, 6, 6, 6, 6, 6],
    peakInFlight: [9, 9, 9, 9, 9, 9, 9, 9],
    closedForm: { bubble: 6, holds: true },
  });
  const { stdout } = await cli(
    'schedule',
    'simulate',
    'dualpipe',
    '--input-grad',
    '1.5',
    '--weight-grad',
    '0.5',
  );
  expect(stdout).toMatch(/idle +9\.5,/);
  expect(stdout).toMatch(/formula +10\.5 = /);
  expect(stdout).toContain('not exact here');
  // Of two stages a rank, rendezvous makes each wait for the other's messages.
  const few = ['--ranks', '4', '--micro-batches', '8'];
  const rendezvous = ['interleaved', ...few, '--semantics', 'rendezvous'];
  expect((await json('schedule', 'simulate', 'interleaved', ...few)).value).toMatchObject({
    closedForm: { bubble: 4.5, holds: true },
  });
  expect((await json('schedule', 'simulate', ...rendezvous)).value).toMatchObject({
    closedForm: { bubble: 4.5, holds: false },
  });
});

test('without a method all are compared at the same model, and those that do not allow the sizes say so', async () => {
  const { value } = await json('schedule', 'simulate', '--ranks', '4', '--micro-batches', '10');
  const { schedules, refused } = value as {
    schedules: { method: string; total: number; idle: number[] }[];
    refused: { method: string; hint: string }[];
  };
  expect(schedules.map(({ method }) => method)).toEqual([
    'gpipe',
    '1f1b',
    'zb1p',
    'dualpipe',
    'dualpipev',
  ]);
  expect(refused).toMatchObject([
    { method: 'interleaved', hint: 'take --micro-batches 8 (or 12)' },
  ]);
  // The same work everywhere: ten micro-batches of 3, and the bubble.
  for (const { total, idle } of schedules) expect(total - Math.max(...idle)).toBeCloseTo(30, 9);
  const { stdout } = await cli('schedule', 'simulate', '--ranks', '4', '--micro-batches', '10');
  expect(stdout).toMatch(/^ {2}dualpipe +32 +6\.3 % +2 +2 +5 +2$/m);
});

test('methods whose stages cannot share the layers of --phases are listed with the reason', async () => {
  const compared = async (...flags: string[]) => {
    const { value } = await json('schedule', 'simulate', '--ranks', '2', ...flags);
    const { schedules, refused } = value as Record<'schedules' | 'refused', { method: string }[]>;
    return { made: schedules.map(({ method }) => method), refused };
  };
  const three = await compared('--phases', 'v3', '--stages-per-rank', '3');
  expect(three.made).toEqual(['gpipe', '1f1b', 'zb1p', 'dualpipe', 'dualpipev']);
  expect(three.refused).toEqual([
    {
      method: 'interleaved',
      reason:
        "layers (4) of a rank's share are not whole layers for each of the 3 stages that a rank has in interleaved",
      hint: 'take layers 3 in --phases, or a method of other stages',
    },
  ]);
  const path = join(temporaryFolder(), 'phases.json');
  writeFileSync(path, JSON.stringify({ ...publishedProfile, layers: 1 }));
  const one = await compared('--phases', path);
  expect(one.made).toEqual(['gpipe', '1f1b', 'zb1p', 'dualpipe']);
  expect(one.refused).toMatchObject([
    { method: 'interleaved', hint: expect.stringContaining('take layers 2 ') as string },
    { method: 'dualpipev' },
  ]);
  // Asked for by name it is an error.
  expect(
    await failure('schedule', 'simulate', 'dualpipev', '--ranks', '2', '--phases', path),
  ).toMatchObject({ exit: 2, code: 'ERR_BALEEN_USAGE_LAYERS', path: '--phases' });
});

test('phases, links and traces', async () => {
  const folder = temporaryFolder();
  const trace = join(folder, 'trace.json');
  const { value } = await json(
    'schedule',
    'simulate',
    'dualpipe',
    ...small,
    '--phases',
    'v3',
    '--out',
    trace,
  );
  const back = readChromeTrace(readFileSync(trace, 'utf8'));
  expect(back.total).toBeCloseTo((value as { total: number }).total, 6);
  expect(Math.max(...(value as { exposed: number[] }).exposed)).toBeGreaterThan(0);
  // The same from a file.
  const phases = join(folder, 'phases.json');
  writeFileSync(phases, JSON.stringify(publishedProfile));
  expect(await json('schedule', 'simulate', 'dualpipe', ...small, '--phases', phases)).toEqual({
    code: 0,
    value,
  });
  writeFileSync(phases, JSON.stringify({ ...publishedProfile, inputGrad: {} }));
  expect(
    await failure('schedule', 'simulate', 'dualpipe', ...small, '--phases', phases),
  ).toMatchObject({
    exit: 2,
    code: 'ERR_BALEEN_USAGE_PHASES',
    message: expect.stringContaining('inputGrad ({}) lacks attention') as string,
  });
  writeFileSync(phases, JSON.stringify({ ...publishedProfile, processor: { total: 132 } }));
  expect(
    await failure('schedule', 'simulate', 'dualpipe', ...small, '--phases', phases),
  ).toMatchObject({
    ...{ exit: 2, path: '--phases' },
    message: expect.stringContaining('processor ({"total":132}) is no key here') as string,
  });
  const slower = await json('schedule', 'simulate', '1f1b', ...small, '--latency', '0.5');
  const free = await json('schedule', 'simulate', '1f1b', ...small);
  expect(slower.value).toMatchObject({ closedForm: { holds: false } });
  expect(free.value).toMatchObject({ closedForm: { holds: true } });
  expect((slower.value as { total: number }).total).toBeGreaterThan(
    (free.value as { total: number }).total,
  );
});

test('bytes of activations are spread over stages, and what waits is counted', async () => {
  const zb1p = ['schedule', 'simulate', 'zb1p', ...small, '--activation-bytes', '100'];
  const { value: free } = await json('schedule', 'simulate', 'zb1p', ...small);
  expect(free).toMatchObject({ peakBytes: null });
  const schedule = generateSchedule('zb1p', sizes);
  for (const [flags, waiting] of [
    [[], 100],
    [['--waiting-bytes', '0'], 0],
  ] as const) {
    const held = { activation: 100, waiting };
    const times = { forward: 1, inputGrad: 1, weightGrad: 1 };
    expect((await json(...zb1p, ...flags)).value).toMatchObject({
      peakBytes: simulate(schedule, { times, held }).peakBytes,
    });
  }
  expect((await json(...zb1p, '--waiting-bytes', '0')).value).toMatchObject({
    peakBytes: [200, 100],
  });
  // A stage of two a rank has half; DualPipe holds the model twice, so each of its stages has all.
  const { value } = await json('schedule', 'simulate', ...small, '--activation-bytes', '100');
  const peaks = (value as { schedules: { method: string; peakBytes: number[] }[] }).schedules;
  const most = Object.fromEntries(
    peaks.map(({ method, peakBytes }) => [method, Math.max(...peakBytes)]),
  );
  expect(most).toMatchObject({ gpipe: 400, '1f1b': 200, dualpipe: 300, dualpipev: 250 });
  const { stdout } = await cli('schedule', 'simulate', ...small, '--activation-bytes', '2048');
  expect(stdout).toMatch(/^ +total .* held +peak bytes +copies$/m);
  expect(stdout).toMatch(/^ {2}gpipe .* 8\.\d* KiB +1$/m);
  // The trace has them over time.
  const trace = join(temporaryFolder(), 'trace.json');
  await cli(...zb1p, '--out', trace);
  expect(readFileSync(trace, 'utf8')).toContain('"held bytes"');
  expect(
    await failure('schedule', 'simulate', 'zb1p', ...small, '--waiting-bytes', '1'),
  ).toMatchObject({ exit: 2, code: 'ERR_BALEEN_USAGE_BYTES', path: '--waiting-bytes' });
});

test('flags that would do nothing are refused by name', async () => {
  const folder = temporaryFolder();
  const [file, trace, svg] = ['a.json', 'trace.json', 'a.svg'].map((name) => join(folder, name));
  await cli('schedule', 'generate', 'zb1p', ...small, '--out', file);
  await cli('schedule', 'simulate', file, '--out', trace);
  const refused = async (code: string, path: string, ...args: string[]): Promise<void> => {
    expect(await failure('schedule', ...args)).toMatchObject({
      ...{ exit: 2, code: `ERR_BALEEN_USAGE_${code}`, path },
      message: expect.stringContaining(path) as string,
    });
  };
  await refused('SIZES', '--ranks', 'simulate', file, '--ranks', '8');
  await refused('SIZES', '--micro-batches', 'simulate', file, '--micro-batches', '20');
  await refused('SIZES', '--stages-per-rank', 'simulate', file, '--stages-per-rank', '3');
  await refused('SIZES', '--ranks', 'draw', trace, '--ranks', '7', '--out', svg);
  await refused('TIMES', '--forward', 'draw', trace, '--forward', '9', '--out', svg);
  await refused('TIMES', '--latency', 'draw', trace, '--latency', '4', '--out', svg);
  await refused('TIMES', '--phases', 'draw', trace, '--phases', 'v3', '--out', svg);
  expect(existsSync(svg)).toBe(false);
  await refused('BANDWIDTH', '--bandwidth', 'simulate', '1f1b', '--bandwidth', '3');
  await refused('BANDWIDTH', '--bytes', 'simulate', '1f1b', '--bytes', '3');
  await refused('VALUE', '--bandwidth', 'simulate', '1f1b', '--bytes', '3', '--bandwidth', '0');
  // Errors have the names of the flags.
  await refused('SIZES', '--micro-batches', 'generate', 'dualpipe', '--micro-batches', '3');
  await refused('SIZES', '--stages-per-rank', 'generate', 'zb1p', '--stages-per-rank', '3');
});

test('draw writes an SVG of a method, a schedule or a trace', async () => {
  const folder = temporaryFolder();
  const [svg, again, drawn, file, trace] = ['a.svg', 'b.svg', 'c.svg', 'a.json', 'trace.json'].map(
    (name) => join(folder, name),
  );
  const { value } = await json(
    'schedule',
    'draw',
    '1f1b',
    ...small,
    '--out',
    svg,
    '--theme',
    'dark',
    '--unit',
    'ms',
  );
  expect(value).toMatchObject({ out: svg, method: '1f1b', total: 15 });
  const picture = readFileSync(svg, 'utf8');
  expect(picture).toMatch(/^<svg[^]*total 15 ms[^]*<\/svg>\n$/);
  expect(picture).not.toContain('@media');
  await cli('schedule', 'generate', '1f1b', ...small, '--out', file);
  await cli('schedule', 'draw', file, '--out', again, '--theme', 'dark', '--unit', 'ms');
  expect(readFileSync(again, 'utf8')).toBe(picture);
  await cli('schedule', 'simulate', file, '--forward', '3', '--out', trace);
  const measured = await json('schedule', 'draw', trace, '--out', drawn);
  expect((measured.value as { total: number }).total).toBeCloseTo(25, 9);
});

/** What a page was made with. */
function pageData(path: string): { state: Record<string, unknown>; own: unknown } {
  const html = readFileSync(path, 'utf8');
  const [, data] = /<script type="application\/json" id="data">(.*)<\/script>/.exec(html) ?? [];
  return JSON.parse(data) as ReturnType<typeof pageData>;
}

test('draw --html writes a page of several methods with the sizes, times and links of the flags', async () => {
  const out = join(temporaryFolder(), 'page.html');
  const { value } = await json(
    ...['schedule', 'draw', 'dualpipe', 'interleaved', '--ranks', '4', '--micro-batches', '12'],
    ...['--stages-per-rank', '3', '--overlap', '2.5', '--latency', '0.25', '--html', out],
  );
  expect(value).toMatchObject({
    html: out,
    schedules: [
      { method: 'dualpipe', stages: 4 },
      { method: 'interleaved', stages: 12 },
    ],
    htmlBytes: readFileSync(out).length,
  });
  const { state, own } = pageData(out);
  expect(own).toBeNull();
  expect(state).toMatchObject({
    rows: ['dualpipe', 'interleaved'],
    ...{ timing: 'four', semantics: 'buffered' },
    values: {
      ...{ ranks: 4, 'micro-batches': 12, 'stages-per-rank': 3, overlap: 2.5, latency: 0.25 },
    },
  });
  // One that is there is kept.
  const before = readFileSync(out, 'utf8');
  expect(await failure('schedule', 'draw', 'zb1p', '--html', out)).toMatchObject({
    ...{ exit: 2, code: 'ERR_BALEEN_USAGE_HTML', path: '--html' },
    message: expect.stringContaining('is there already') as string,
  });
  expect(readFileSync(out, 'utf8')).toBe(before);
});

test('a page of a file: methods beside it have its sizes; picture and page may be asked for at once', async () => {
  const folder = temporaryFolder();
  const [mine, trace, page, svg] = ['mine.json', 'trace.json', 'a.html', 'a.svg'].map((name) =>
    join(folder, name),
  );
  await cli('schedule', 'generate', 'zb1p', ...small, '--out', mine);
  await cli('schedule', 'draw', mine, '1f1b', '--phases', 'v3', '--html', page);
  const { state, own } = pageData(page);
  expect(state).toMatchObject({
    ...{ rows: ['own', '1f1b'], timing: 'phases' },
    values: { ranks: 2, 'micro-batches': 4, 'forward-dispatch': 6.69 },
  });
  expect(own).toEqual({ name: mine, schedule: generateSchedule('zb1p', sizes) });
  await cli('schedule', 'simulate', mine, '--forward', '3', '--out', trace);
  const both = join(folder, 'both.html');
  const { value } = await json('schedule', 'draw', trace, '--out', svg, '--html', both);
  expect(value).toMatchObject({ out: svg, html: both, method: 'zb1p' });
  expect(pageData(both).own).toMatchObject({
    schedule: { total: (value as { total: number }).total },
  });
  expect(await failure('schedule', 'draw', mine, trace, '--html', `${page}l`)).toMatchObject({
    ...{ exit: 2, code: 'ERR_BALEEN_USAGE_HTML', path: trace },
  });
  // Sizes that the page does not take.
  const many = ['--ranks', '2', '--micro-batches', '2000'];
  expect(await failure('schedule', 'draw', '1f1b', ...many, '--html', `${page}l`)).toMatchObject({
    ...{ exit: 2, code: 'ERR_BALEEN_USAGE_HTML', path: 'micro-batches' },
  });
  expect(existsSync(`${page}l`)).toBe(false);
});

test('nothing is written where the command is wrong', async () => {
  const out = join(temporaryFolder(), 'nowhere', 'a.svg');
  expect(await failure('schedule', 'draw', '1f1b', '--out', out)).toMatchObject({ exit: 2 });
  expect(existsSync(out)).toBe(false);
});
