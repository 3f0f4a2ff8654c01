// Flags win over the file, the file over the preset, and every value remembers where it came from.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { presets } from '@baleen/trainer';
import { describe, expect, test } from 'vitest';

import { resolveSettings } from '../src/settings';
import { slowPath } from '../src/slow-path';
import { failure, json, temporaryFolder } from './helpers';

describe('precedence', () => {
  test('flag, then file, then preset; origins say which', async () => {
    const path = join(temporaryFolder(), 'mine.yaml');
    writeFileSync(path, 'steps: 50\nseed: 5\nmodel:\n  moe: {routedExperts: 16}\n');
    const { config, origins, preset, name } = await resolveSettings(
      { preset: 'small', config: path, seed: 9, 'model.layers': 3 },
      'tiny',
    );
    expect(config.seed).toBe(9);
    expect(config.steps).toBe(50);
    expect(config.model.layers).toBe(3);
    expect(config.model.hiddenSize).toBe(presets.small().model.hiddenSize);
    expect(origins.seed).toBe('flag');
    expect(origins['model.layers']).toBe('flag');
    expect(origins.steps).toBe(`file ${path}`);
    expect(origins['model.moe.routedExperts']).toBe(`file ${path}`);
    expect(origins['model.hiddenSize']).toBe('preset small');
    expect({ preset, name }).toEqual({ preset: 'small', name: 'mine' });
  });

  test('nothing said takes the fallback; a file may name its preset, and --preset wins over it', async () => {
    expect((await resolveSettings({}, 'tiny')).config).toEqual(presets.tiny());
    const path = join(temporaryFolder(), 'a.json');
    writeFileSync(path, '{"preset":"small","steps":7}');
    expect((await resolveSettings({ config: path }, 'tiny')).preset).toBe('small');
    expect((await resolveSettings({ config: path, preset: 'base' }, 'tiny')).preset).toBe('base');
  });

  test('short names are the keys they stand for, null and lists included', async () => {
    const { value } = await json(
      ...['train', '--dry-run', '--preset', 'tiny', '--steps', '3', '--batch.sequence=64'],
      ...['--data', 'a.txt,b.txt', '--data', 'c.txt', '--model.attention.queryRank', 'null'],
    );
    expect(value).toMatchObject({ steps: 3, tokensPerStep: 64 * presets.tiny().batch.sequences });
    const narrow = value as { params: number };
    const { value: wide } = await json('train', '--dry-run', '--preset', 'tiny');
    expect(narrow.params).not.toBe((wide as typeof narrow).params);
  });
});

test('without native kernels the bare preset tiny is cut short, and only that', async () => {
  const kernels = { implementation: 'reference', isa: 'none', threads: 1 } as const;
  const bare = await resolveSettings({ preset: 'tiny', seed: 3 }, 'tiny');
  const slow = slowPath(bare, kernels);
  expect(slow?.note).toBe(
    'the reference kernels are slow: 32 steps of 512 tokens instead of 2,200, ' +
      'every 100th document held out to measure with instead of every 10th, ' +
      'no measurement before the end; to choose yourself, say --steps',
  );
  const { config, origins } = await resolveSettings({ seed: 3 }, 'tiny', slow?.layer);
  expect(config).toMatchObject({
    steps: 32,
    seed: 3,
    batch: { sequences: 4 },
    data: { heldOutEvery: 100 },
    evaluation: { every: 0 },
  });
  expect(origins).toMatchObject({ steps: 'reference kernels', seed: 'flag' });
  const split = await resolveSettings({ 'data.heldOutEvery': 5 }, 'tiny');
  expect(slowPath(split, kernels)?.note).not.toContain('held out');
  const cut = await resolveSettings({ 'data.heldOutEvery': 5 }, 'tiny', slow?.layer);
  expect(cut.config).toMatchObject({ steps: 32, data: { heldOutEvery: 5 } });
  expect(slowPath(bare, { ...kernels, implementation: 'native' })).toBeNull();
  for (const options of [{ steps: 400 }, { 'batch.microBatch': 8 }, { preset: 'small' }])
    expect(slowPath(await resolveSettings(options, 'tiny'), kernels)).toBeNull();
});

describe('a configuration that cannot be', () => {
  const cases: [string, string[], string, string][] = [
    ['top-k above experts', ['--model.moe.expertsPerToken', '9'], 'TOP_K', 'expertsPerToken (9)'],
    ['groups that do not divide', ['--model.moe.groups', '3'], 'GROUPS', 'groups (3)'],
    ['an odd rotary width', ['--model.attention.ropeDim', '15'], 'ROPE', 'ropeDim (15)'],
    ['sequence 0', ['--batch.sequence', '0'], 'VALUE', 'batch.sequence (0'],
    ['a micro-batch that does not divide', ['--batch.microBatch', '5'], 'BATCH', 'microBatch (5)'],
    ['half a step', ['--steps', '1.5'], 'VALUE', 'steps (1.5'],
  ];
  test.each(cases)(
    '%s exits 2, names key and value, and writes nothing',
    async (_, flags, code, text) => {
      const error = await failure('train', '--preset', 'tiny', ...flags);
      expect(error).toMatchObject({ code: `ERR_BALEEN_CONFIG_${code}`, exit: 2 });
      expect(error.message).toContain(text);
      expect(error.hint).not.toBe('');
      expect(error.path).not.toBeNull();
    },
  );
});

describe('a configuration file', () => {
  const write = (name: string, text: string): string => {
    const path = join(temporaryFolder(), name);
    writeFileSync(path, text);
    return path;
  };
  test.each([
    [
      'unknown key',
      'a.yaml',
      'model: {moe: {routedExpert: 8}}',
      'UNKNOWN',
      /did you mean model\.moe\.routedExperts\?/,
    ],
    ['unknown preset', 'a.json', '{"preset":"tinny"}', 'PRESET', /did you mean tiny\?/],
    ['not JSON', 'a.json', '{"steps": }', 'FILE', /correct the file/],
    ['not YAML', 'a.yml', 'steps: [1', 'FILE', /correct the file/],
    ['no mapping', 'a.yaml', '- 1', 'FILE', /write a mapping/],
    ['another format', 'a.toml', 'steps = 1', 'FILE', /use \.json, \.yaml or \.yml/],
    ['a wrong type', 'a.yaml', 'preset: tiny\nsteps: many', 'VALUE', /./],
    ['a preset that is no name', 'a.yaml', 'preset: 3', 'VALUE', /preset: tiny/],
    ['keys missing, no preset', 'a.yaml', 'steps: 3', 'VALUE', /write `preset: tiny`/],
  ])('with %s exits 2', async (_, name, text, code, hint) => {
    const error = await failure('train', '--config', write(name, text));
    expect(error.code).toMatch(new RegExp(`^ERR_BALEEN_(CONFIG|USAGE)_${code}$`));
    expect(error.exit).toBe(2);
    expect(error.hint).toMatch(hint);
  });

  test('that does not exist exits 2 and names it', async () => {
    const error = await failure('train', '--config', '/nowhere/at-all.yaml');
    expect(error).toMatchObject({
      code: 'ERR_BALEEN_CONFIG_FILE',
      message: '--config /nowhere/at-all.yaml does not exist',
      path: '/nowhere/at-all.yaml',
      exit: 2,
    });
  });
});
