// What somebody probably meant: one search, for configuration keys, flags, commands and presets.
import { expect, test } from 'vitest';

import { configKeys, didYouMean, nearest } from '../src/index';

const keys = ['model.moe.groups', 'model.moe.groupsPerToken', 'steps', 'batch.sequences'];

test('a slip of spelling, in any case', () => {
  expect(nearest('step', keys)).toBe('steps');
  expect(nearest('STEPS', keys)).toBe('steps');
  expect(nearest('sequencs', keys)).toBe('batch.sequences');
  expect(nearest('model.moe.grpus', keys)).toBe('model.moe.groups');
});

test('a key by its last parts, or by its last part in the wrong place', () => {
  expect(nearest('groups', keys)).toBe('model.moe.groups');
  expect(nearest('moe.groupsPerToken', keys)).toBe('model.moe.groupsPerToken');
  expect(nearest('data.sequences', keys)).toBe('batch.sequences');
  const flags = keys.map((key) => `--${key}`);
  expect(nearest('--groups', flags)).toBe('--model.moe.groups');
  expect(nearest('--evaluation.steps', flags)).toBe('--steps');
});

test('nothing when nothing is near', () => {
  expect(nearest('temperature', keys)).toBeUndefined();
  expect(nearest('model.temperature', keys)).toBeUndefined();
  expect(nearest('x', [])).toBeUndefined();
  expect(didYouMean('temperature', keys, 'see the list')).toBe('see the list');
  expect(didYouMean('step', keys, 'see the list')).toBe('did you mean steps?');
});

test('every key of the configuration is its own nearest, and with its last letter missing still', () => {
  const all = configKeys().map(({ key }) => key);
  for (const key of all) expect(nearest(key, all)).toBe(key);
  // What it finds may be another key that begins so: `beta1` for `beta`, `batch.sequence` as it is.
  const missed = all.filter((key) => {
    const typed = key.slice(0, -1);
    return nearest(typed, all)?.startsWith(typed) !== true;
  });
  expect(missed).toEqual([]);
});
