// The lab of multi-token prediction at a size of seconds: pairs that differ in the depth alone, and drafts that are counted.
import { loadKernels } from '@baleen/kernels';
import { generate } from '@baleen/model';
import { draftCounts, draftRates } from '@baleen/mtp';
import { expect, test } from 'vitest';

import { type LabRow, runLab } from '../src/index';
import { draftText, mtp } from '../src/labs/mtp';
import { prepare } from '../src/session';
import { smallRun, temporaryFolder } from './helpers';

const config = smallRun(temporaryFolder());
const making = { prompts: 3, promptTokens: 4, tokens: 8, rounds: 1 };
const context = { signal: new AbortController().signal };
const kernels = loadKernels();

test('acceptance is that of the drafts made, and drafts change no text', async () => {
  const session = await prepare(config, { kernels });
  const { windows, model } = session;
  // A model of noise agrees with its depth now and then; one whose depth is asked nothing cannot be told.
  for (const [, { data }] of model.parameters())
    data.readSync().forEach((value, i, all) => {
      all[i] = 3 * value;
    });
  const made = draftText(session, making, context);
  expect(made.same).toBe(true);
  expect(made.speed).toBeGreaterThan(0);
  const counts = draftCounts();
  for (const i of [0, 1, 2]) {
    const { ids } = windows[Math.floor((i * windows.length) / 3)];
    const options = { maxTokens: 8, temperature: 0, drafts: 1, counts };
    expect([...generate(model, ids.slice(0, 4), options)]).toHaveLength(8);
  }
  expect(made.acceptance).toBe(draftRates(counts).rate);
});

test('from end to end: a row a pair, a verdict a claim', async () => {
  const quick = {
    ...mtp.settings.quick,
    preset: 'tiny',
    pairs: 2,
    changes: { ...config },
  } as const;
  const rows: LabRow[] = [];
  const lab = { ...mtp, settings: { quick: { ...quick, ...making }, full: mtp.settings.full } };
  const { result, notes } = await runLab(lab, { kernels, onRow: (row) => rows.push(row) });
  expect(rows.map(({ seed }) => seed)).toEqual([1, 2]);
  // Main models of a pair begin alike and see the same batches: after a few steps they are near each other, not the same.
  for (const row of rows) {
    expect(row['loss with']).not.toBe(row['loss without']);
    expect(Number(row['loss with']) / Number(row['loss without'])).toBeCloseTo(1, 1);
  }
  expect(result.further?.map(({ n }) => n)).toEqual([2, 2]);
  expect(result.further?.[0].effect).toBeLessThanOrEqual(1);
  expect(notes).toEqual(['drafts changed no text']);
});
