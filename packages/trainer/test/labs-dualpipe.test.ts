// The labs of DualPipe: a bubble and a pair worked out by hand, and verdicts that can come out either way.
import { referenceKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { runLab } from '../src/index';
import { type BubbleSettings, bubbleOf, dualpipeBubble } from '../src/labs/dualpipe-bubble';
import { dualpipeOverlap, type OverlapSettings, pairOf } from '../src/labs/dualpipe-overlap';

const options = { kernels: referenceKernels() };

test('two ranks, four micro-batches: nobody stands still', () => {
  // 2 · 4 forwards, and so on, of which a half on each rank: 4 · (1 + 2 + 3).
  expect(bubbleOf([2, 4, 1, 2, 3, 6])).toEqual({
    total: 24,
    middle: 0,
    edge: 0,
    formula: 0,
    held: 3,
  });
});

test('dualpipe-bubble judges the cases of the verdict, and shows the others', async () => {
  const record = await runLab(dualpipeBubble, options);
  expect(record.result).toMatchObject({ measured: 6, n: 7, verdict: 'holds', ci95: null });
  const beside = record.rows.filter(({ judged }) => judged === 'no');
  expect(
    beside.map((row) => [row['idle, middle'], row.formula].map((x) => Number(x).toFixed(1))),
  ).toEqual([
    ['6.9', '6.3'],
    ['9.5', '10.5'],
    ['5.4', '4.8'],
  ]);
  expect(record.notes[0]).toContain('R + 1 activations at most in 10 of 10 cases');
  // The same cases inside of the verdict: the claim without its condition fails.
  const { within, beside: others } = dualpipeBubble.settings.quick;
  const quick: BubbleSettings = { within: [...within, ...others], beside: [] };
  const wider = await runLab({ ...dualpipeBubble, settings: { quick, full: quick } }, options);
  expect(wider.result.verdict).toBe('fails');
  expect(wider.result.effect).toBeCloseTo(1, 9);
});

const { quick } = dualpipeOverlap.settings;

test('a pair of the profile, followed by hand', () => {
  // Only the first combine of the backward is waited for when the second stream is counted: 5.77 − 4.36.
  const layer = 4.36 + 5.31 + 3.54 + 4.6 + 9.34 + 2.39;
  const counted = pairOf(quick, 'where nothing else computes');
  expect(counted.compute).toBeCloseTo(124.3, 9);
  expect(counted.pair).toBeCloseTo(4 * (layer + 1.535) + 1.41, 9);
  expect(counted.hidden).toBeCloseTo(1 - 1.41 / (4 * 28.63), 9);
  expect(counted.effect).toBeCloseTo((counted.hidden - 110.3 / 114.5) / 0.02, 9);
  // Without it, every layer also waits for the dispatch of the backward: 0.73, in the first 0.73 as well.
  const alone = pairOf(quick, 'on a lane of its own');
  expect(alone.pair).toBeCloseTo(4 * (layer + 0.73) + 1.41, 9);
});

test('dualpipe-overlap reports what it finds, and a verdict that its settings decide', async () => {
  const record = await runLab(dualpipeOverlap, options);
  expect(record.rows).toHaveLength(3);
  expect(record.result.effect).toBe(pairOf(quick, quick.verdict).effect);
  expect(record.result.verdict).toBe(record.result.effect < 1 ? 'holds' : 'fails');
  expect(record.plan.settings).toMatchObject({
    phases: { layers: 4, forward: { dispatch: 6.69 }, weightGrad: { experts: 3.54 } },
  });
  expect(record.notes[0]).toMatch(/compute time, 124\.3 ms .* is an input and no result/);
  for (const [i, way] of Object.entries(quick.secondStream).entries())
    expect(record.notes[1 + i]).toContain(`${way[0]}, +${way[1]} ms a layer: `);
  expect(record.notes.join('\n')).toMatch(
    /hides more than the profile: 98\.8 %[^]*3\.29 ms are gaps[^]*1f1b, 16 ranks[^]*dualpipe, 16 ranks/,
  );
  const wide: OverlapSettings = { ...quick, tolerance: { pair: 0.05, hidden: 0.03 } };
  const kinder = await runLab(
    { ...dualpipeOverlap, settings: { quick: wide, full: wide } },
    options,
  );
  expect(kinder.result.verdict).toBe('holds');
});
