// Seeded mutations of what is read from elsewhere: schedules, times of phases and traces are refused with a code, a hint and a
// path, or what they are read to keeps its promises.
import Ajv from 'ajv';
import { expect, test } from 'vitest';

import { mutateJson, randomFrom } from '../../../test/support';
import {
  drawSchedule,
  generateSchedule,
  parsePhases,
  parseSchedule,
  publishedProfile,
  readChromeTrace,
  type Schedule,
  scheduleSchema,
  simulate,
  toChromeTrace,
  validateSchedule,
} from '../src/index';
import { randomSchedules } from './random';

const unit = { forward: 1, inputGrad: 1, weightGrad: 1 };
const schedule = generateSchedule('dualpipe', { ranks: 2, microBatches: 4 });

/** Runs something that may only fail with a code of its own. */
function attempt<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    const { code, hint, path, message } = error as Error & Record<string, unknown>;
    expect(code ?? message).toMatch(/^ERR_BALEEN_SCHEDULE_/);
    expect(hint).toBeTruthy();
    expect(path).toBeTypeOf('string');
    return undefined;
  }
}

test('schedules: 4,000 damaged ones are refused, or proven and simulated', () => {
  const random = randomFrom(1);
  let valid = 0;
  for (let round = 0; round < 4000; round += 1) {
    const read = attempt(() => parseSchedule(JSON.stringify(mutateJson(schedule, random))));
    if (!read) continue;
    const report = attempt(() => validateSchedule(read));
    if (!report) continue;
    valid += 1;
    expect(simulate(read, { times: unit }).ranks.map(({ peakInFlight }) => peakInFlight)).toEqual(
      report.peakInFlight,
    );
  }
  // A few mutations are harmless: another method, another bound.
  expect(valid).toBeGreaterThan(10);
  expect(valid).toBeLessThan(1000);
});

test('a validator of JSON Schema says what parseSchedule says', () => {
  // The words are those of draft 7 as well, against whose own schema this one is checked.
  const accepts = new Ajv().compile({ ...scheduleSchema, $schema: undefined });
  for (const each of randomSchedules(60, 11))
    expect(accepts(each.schedule), ajvWords(accepts)).toBe(true);
  const random = randomFrom(5);
  const agreed = { accepted: 0, refused: 0 };
  for (let round = 0; round < 4000; round += 1) {
    const damaged: unknown = JSON.parse(JSON.stringify(mutateJson(schedule, random)));
    let message = '';
    try {
      parseSchedule(typeof damaged === 'string' ? JSON.stringify(damaged) : damaged);
    } catch (error) {
      ({ message } = error as Error);
    }
    const accepted = accepts(damaged) === true;
    // Beyond 2 ** 53 only the schema counts on.
    if (accepted && /\((9007199254740992|1e\+300)\) is not a whole number/.test(message)) continue;
    expect(accepted, `${message} ${ajvWords(accepts)}`).toBe(message === '');
    agreed[accepted ? 'accepted' : 'refused'] += 1;
  }
  expect(agreed.accepted).toBeGreaterThan(100);
  expect(agreed.refused).toBeGreaterThan(1000);
});

const ajvWords = ({ errors }: Ajv.ValidateFunction): string => JSON.stringify(errors);

test('schedules that nobody parsed: 4,000 damaged ones are refused with a code, or proven', () => {
  const random = randomFrom(4);
  let valid = 0;
  for (let round = 0; round < 4000; round += 1) {
    const damaged: unknown = JSON.parse(JSON.stringify(mutateJson(schedule, random)));
    if (typeof damaged !== 'object' || damaged === null) continue;
    if (attempt(() => validateSchedule(damaged as Schedule))) valid += 1;
  }
  // It reads neither the format nor the method.
  expect(valid).toBeGreaterThan(10);
  expect(valid).toBeLessThan(2000);
});

test('phases: 2,000 damaged ones are refused, or simulated', () => {
  const random = randomFrom(2);
  const whole = { ...publishedProfile, processors: { total: 132, communication: 20 } };
  let read = 0;
  for (let round = 0; round < 2000; round += 1) {
    const times = attempt(() => parsePhases(JSON.stringify(mutateJson(whole, random))));
    if (!times || times.layers > 1000) continue;
    read += 1;
    expect(simulate(schedule, { times }).bubbleShare).toBeGreaterThanOrEqual(0);
  }
  expect(read).toBeGreaterThan(100);
});

test('traces: 4,000 damaged ones are refused, or times are possible', () => {
  const random = randomFrom(3);
  const trace = toChromeTrace(simulate(schedule, { times: unit }));
  let read = 0;
  for (let round = 0; round < 4000; round += 1) {
    const damaged = JSON.stringify(mutateJson(trace, random));
    const timeline = attempt(() => readChromeTrace(damaged));
    if (!timeline) continue;
    read += 1;
    expect(timeline.bubbleShare).toBeGreaterThanOrEqual(0);
    expect(timeline.bubbleShare).toBeLessThanOrEqual(1);
    for (const { idle, busy } of timeline.ranks) {
      expect(idle).toBeGreaterThanOrEqual(-0.01);
      expect(busy + idle).toBeCloseTo(timeline.total, 9);
    }
    if (attempt(() => validateSchedule(timeline.schedule)))
      expect(drawSchedule(timeline)).toMatch(/^<svg/);
  }
  expect(read).toBeGreaterThan(1000);
});
