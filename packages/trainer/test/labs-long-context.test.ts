// The lab of long contexts: needles lie where they should and are asked for as they should, and the same lab at a size of
// seconds comes out either way.
import { loadKernels } from '@baleen/kernels';
import { mulberry32 } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { type LabRow, runLab } from '../src/index';
import { extend, longContext } from '../src/labs/long-context';
import { needlesToFind, needlesToLearn, needleVocabulary } from '../src/labs/needles';
import { failure } from './helpers';

const task = { keys: 3, values: 5, filler: 7 };
const questions = task.filler + task.keys * task.values;
const answers = questions + task.keys;

/** Key, value and place of every needle, read from the tokens. */
function needlesOf(ids: Int32Array): Map<number, { value: number; place: number }> {
  const needles = new Map<number, { value: number; place: number }>();
  ids.forEach((id, place) => {
    if (id < task.filler || id >= questions) return;
    const key = Math.floor((id - task.filler) / task.values);
    expect(needles.has(key)).toBe(false);
    needles.set(key, { value: (id - task.filler) % task.values, place });
  });
  expect(needles.size).toBe(task.keys);
  return needles;
}

describe('needles', () => {
  test('to learn from: every question is about a needle before it, and its answer is that needle’s value', () => {
    expect(needleVocabulary(task)).toBe(answers + task.values);
    const random = mulberry32(3);
    let asked = 0;
    const values = new Set<number>();
    const places = new Set<number>();
    for (let i = 0; i < 200; i += 1) {
      const { ids, targets, counted } = needlesToLearn(task, { length: 16, asked: 0.5 }, random);
      const needles = needlesOf(ids);
      for (const { value, place } of needles.values()) {
        values.add(value);
        places.add(place);
      }
      let seen = 0;
      ids.forEach((id, at) => {
        expect(id).toBeLessThan(answers);
        if (id < questions) {
          expect(targets[at]).toBe(-1);
          return;
        }
        const needle = needles.get(id - questions);
        expect(needle?.place).toBeLessThan(at);
        expect(targets[at]).toBe(answers + (needle?.value ?? NaN));
        seen += 1;
      });
      expect(counted).toBe(seen);
      asked += seen;
    }
    // Half of 13 places, half of whose needles came before; and nothing is left out.
    expect(asked / 200).toBeCloseTo(13 / 4, 0);
    expect([values.size, places.size]).toEqual([task.values, 16]);
  });

  test('to find: every key is asked for once at the end, and each counts in the quarter that its needle lies in', () => {
    const length = 23;
    const within = length - task.keys;
    const streams = [0, 1, 2, 3].map(() => mulberry32(5));
    const orders = new Set<string>();
    for (let i = 0; i < 50; i += 1) {
      const windows = streams.map((random, quarter) =>
        needlesToFind(task, { length, quarter }, random),
      );
      const [{ ids }] = windows;
      const needles = needlesOf(ids.subarray(0, within));
      const asked = [...ids.subarray(within)].map((id) => id - questions);
      expect([...asked].sort()).toEqual([0, 1, 2]);
      orders.add(asked.join());
      for (const window of windows) expect(window.ids).toEqual(ids);
      asked.forEach((key, index) => {
        const needle = needles.get(key) ?? { place: NaN, value: NaN };
        const own = Math.floor(needle.place / 5);
        expect(windows.map(({ targets }) => targets[within + index])).toEqual(
          [0, 1, 2, 3].map((quarter) => (quarter === own ? answers + needle.value : -1)),
        );
      });
      expect(windows.reduce((sum, { counted }) => sum + counted, 0)).toBe(task.keys);
      for (const { targets } of windows)
        expect(targets.subarray(0, within).every((target) => target === -1)).toBe(true);
    }
    expect(orders.size).toBe(6);
  });
});

const kernels = loadKernels();
const small = {
  ...longContext.settings.quick,
  task: { keys: 3, values: 3, filler: 8 },
  tokens: 256,
  training: { length: 16, steps: 3 },
  extension: [
    { length: 32, steps: 2 },
    { length: 64, steps: 2 },
  ],
  lengths: [16, 64],
  haystacks: 8,
  pairs: 2,
};
const quiet = { kernels, signal: new AbortController().signal, progress: () => undefined };

test('models of a seed begin alike, steps at a rate of 0 change nothing, and all is the same again', async () => {
  const [before, alone, after, without] = await extend(small, 4, quiet);
  expect([before, alone, after, without].map(({ name }) => name)).toEqual([
    'before',
    'YaRN, no step',
    'extended',
    'steps, no YaRN',
  ]);
  for (const { cells } of [before, alone, after, without]) {
    expect([...cells.keys()]).toEqual([16, 64]);
    for (const row of cells.values()) expect(row).toHaveLength(4);
  }
  expect(await extend(small, 4, quiet)).toEqual([before, alone, after, without]);
  // What training ends with is also the rate of extension.
  const still = { ...small, learningRate: { peak: 3e-3, end: 0 } };
  const [plain, yarn, yarnLater, plainLater] = (await extend(still, 4, quiet)).map(
    ({ cells }) => cells,
  );
  expect(yarnLater).toEqual(yarn);
  expect(plainLater).toEqual(plain);
});

test('from end to end: a model that learned nothing fails, and Ctrl-C ends it', async () => {
  const rows: LabRow[] = [];
  const lab = { ...longContext, settings: { quick: small, full: small } };
  const { result, furtherValues } = await runLab(lab, {
    kernels,
    seed: 9,
    onRow: (row) => rows.push(row),
  });
  expect(rows.map(({ seed }) => seed)).toEqual([9, 9, 9, 9, 10, 10, 10, 10]);
  expect(result.verdict).toBe('fails');
  expect(result.further).toHaveLength(4);
  const at = (index: number, length: number): number => Number(rows[index][length]);
  expect(furtherValues?.map(([first]) => first)).toEqual([
    at(2, 64) - at(0, 64),
    at(2, 16) - at(0, 16),
    at(1, 64) - at(0, 64),
    at(2, 64) - at(3, 64),
  ]);
  expect(await longContext.estimate(small, { kernels, seed: 1 })).toBeGreaterThan(0);
  const stop = new AbortController();
  const stopped = runLab(lab, {
    kernels,
    signal: stop.signal,
    onProgress: () => {
      stop.abort();
    },
  });
  expect(await failure(stopped)).toMatchObject({ code: 'ERR_BALEEN_LAB_STOPPED' });
});

test('a model that learns finds all needles at the length it was trained at', async () => {
  const training = { length: 16, steps: 250 };
  const easy = { ...small, training, extension: [], lengths: [16], tokens: 512, haystacks: 32 };
  const [{ cells }] = await extend(easy, 1001, quiet);
  expect(Math.min(...(cells.get(16) ?? []))).toBeGreaterThan(0.9);
});
