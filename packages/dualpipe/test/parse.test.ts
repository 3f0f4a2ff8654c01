// Schedules from elsewhere: what is not one is refused by path, and the schema is the one that is shipped.
import { expect, test } from 'vitest';

import {
  generateSchedule,
  parsePhases,
  parseSchedule,
  publishedProfile,
  scheduleSchema,
} from '../src/index';

/** A schedule as a value that anything may be done to. */
function value(): Record<string, unknown> & { actions: Record<string, unknown>[][] } {
  return JSON.parse(
    JSON.stringify(generateSchedule('dualpipe', { ranks: 2, microBatches: 4 })),
  ) as Record<string, unknown> & { actions: Record<string, unknown>[][] };
}

test.each<[string, (schedule: ReturnType<typeof value>) => void, string, string]>([
  [
    'another format',
    (s) => (s.format = 'baleen-schedule/2'),
    'format',
    '("baleen-schedule/2") is not baleen-schedule/1',
  ],
  ['no ranks', (s) => (s.ranks = 0), 'ranks', 'ranks (0) is not a whole number from 1'],
  ['a key too few', (s) => delete s.pipelines, '', 'lacks pipelines'],
  ['a key too many', (s) => (s.color = 'red'), 'color', 'color ("red") is no key here'],
  ['a method that is no text', (s) => (s.method = 1), 'method', 'method (1) is not a text'],
  ['no lists', (s) => (s.actions = []), 'actions', 'actions ([]) is empty'],
  ['a list that is none', (s) => (s.actions[1] = {} as never), 'actions[1]', 'is not a list'],
  [
    'an action that is none',
    (s) => (s.actions[1][0] = 7 as never),
    'actions[1][0]',
    'is not an object',
  ],
  [
    'a bare backward',
    (s) => (s.actions[0][3].kind = 'backward'),
    'actions[0][3].kind',
    '("backward") is no kind of action',
  ],
  [
    'half a micro-batch',
    (s) => (s.actions[1][0].microBatch = 0.5),
    'actions[1][0].microBatch',
    '(0.5) is not a whole number from 0',
  ],
  [
    'an action without its stage',
    (s) => delete s.actions[1][0].stage,
    'actions[1][0]',
    'lacks stage',
  ],
  [
    'a message of a forward',
    (s) => (s.actions[0][0].peer = 1),
    'actions[0][0].peer',
    'is no key here',
  ],
])('%s', (_, spoil, path, message) => {
  const schedule = value();
  spoil(schedule);
  expect(() => parseSchedule(schedule)).toThrow(
    expect.objectContaining({
      code: 'ERR_BALEEN_SCHEDULE_FORM',
      path,
      message: expect.stringContaining(message) as string,
      hint: expect.any(String) as string,
    }),
  );
});

test('text that is not JSON', () => {
  expect(() => parseSchedule('{')).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_JSON' }),
  );
  expect(() => parseSchedule('null')).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_FORM' }),
  );
});

test('the schema is JSON, in the words of its dialect', () => {
  expect(JSON.parse(JSON.stringify(scheduleSchema))).toEqual(scheduleSchema);
  expect(scheduleSchema.$schema).toBe('https://json-schema.org/draft/2020-12/schema');
});

test.each<[string, object, string, string, string]>([
  ['a misspelt key', { layer: 4 }, 'FORM', 'layer', 'is no key here'],
  ['half a layer', { layers: 0.5 }, 'FORM', 'layers', '(0.5) is not a whole number from 1'],
  ['no times', { forward: {} }, 'FORM', 'forward', 'lacks attention'],
  [
    'a negative time',
    { weightGrad: { attention: -1, experts: 1 } },
    'FORM',
    'weightGrad.attention',
    '(-1) is not a number from 0',
  ],
  [
    'processors without those that communicate',
    { processors: { total: 132 } },
    'FORM',
    'processors',
    'lacks communication',
  ],
  [
    'more processors than there are',
    { processors: { total: 132, communication: 132 } },
    'COSTS',
    'processors.communication',
    'is not a part of processors.total (132)',
  ],
])('phases: %s', (_, change, code, path, message) => {
  expect(() => parsePhases({ ...publishedProfile, ...change })).toThrow(
    expect.objectContaining({
      code: `ERR_BALEEN_SCHEDULE_${code}`,
      path,
      message: expect.stringContaining(message) as string,
    }),
  );
});

test('phases that fit are read as they are', () => {
  const times = { ...publishedProfile, processors: { total: 132, communication: 20 } };
  expect(parsePhases(JSON.stringify(times))).toEqual(times);
  expect(() => parsePhases('null')).toThrow('the JSON (null) is not an object');
  expect(() => parsePhases('{')).toThrow('times of phases: not JSON');
});
