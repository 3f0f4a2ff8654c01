// Labs: what statistics say of known values, how an effect becomes a verdict, and a runner that settles everything first.
import { referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  inequalityText,
  type Lab,
  type LabMeasurements,
  type LabOptions,
  labFigure,
  labs,
  runLab,
} from '../src/index';
import {
  relativeDifferences,
  studentQuantile,
  summarize,
  summarizeRatios,
} from '../src/labs/statistics';
import { judge } from '../src/labs/verdict';
import { failure } from './helpers';

describe('statistics', () => {
  // The tables that every textbook prints, three decimals.
  test.each([
    [0.975, 1, 12.706],
    [0.975, 2, 4.303],
    [0.975, 3, 3.182],
    [0.975, 4, 2.776],
    [0.975, 9, 2.262],
    [0.975, 11, 2.201],
    [0.975, 30, 2.042],
    [0.975, 120, 1.98],
    [0.8, 1, 1.376],
    [0.8, 4, 0.941],
    [0.8, 9, 0.883],
    [0.9, 5, 1.476],
    [0.995, 10, 3.169],
    [0.5, 7, 0],
  ])('Student’s t: quantile %f with %i degrees of freedom is %f', (p, freedom, quantile) => {
    expect(studentQuantile(p, freedom)).toBeCloseTo(quantile, 3);
  });

  test('the mean of 1 to 5 is 3 ± 1.963, and 2.629 could be resolved', () => {
    // s = √2.5, √n = √5: the standard error is √0.5.
    const { mean, ci95, n, smallestResolvable } = summarize([1, 2, 3, 4, 5]);
    expect({ mean, n }).toEqual({ mean: 3, n: 5 });
    expect(ci95?.[0]).toBeCloseTo(3 - 2.776445 * Math.SQRT1_2, 5);
    expect(ci95?.[1]).toBeCloseTo(3 + 2.776445 * Math.SQRT1_2, 5);
    expect(smallestResolvable).toBeCloseTo((2.776445 + 0.940965) * Math.SQRT1_2, 5);
  });

  test('intervals cover the truth in 95 of 100 repetitions', () => {
    let state = 1;
    const uniform = (): number => (state = (state * 48271) % 2147483647) / 2147483647;
    const normal = (): number =>
      Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    let covered = 0;
    for (let i = 0; i < 4000; i += 1) {
      const { ci95 } = summarize(Array.from({ length: 6 }, () => 10 + 3 * normal()));
      if (ci95 && ci95[0] < 10 && ci95[1] > 10) covered += 1;
    }
    expect(covered / 4000).toBeCloseTo(0.95, 1.7);
  });

  test('factors are averaged as logarithms', () => {
    const { mean, ci95, smallestResolvable } = summarizeRatios([2, 8]);
    expect(mean).toBeCloseTo(4, 12);
    // Logarithms 1 and 3 times ln 2: mean 2, standard error 1.
    expect(Math.log2(ci95?.[0] ?? 0)).toBeCloseTo(2 - 12.7062, 3);
    expect(Math.log2(ci95?.[1] ?? 0)).toBeCloseTo(2 + 12.7062, 3);
    expect(Math.log2(smallestResolvable ?? 0)).toBeCloseTo(12.7062 + 1.3764, 3);
  });

  test('one value, and values that are not finite, have no interval', () => {
    expect(summarize([5])).toEqual({ mean: 5, ci95: null, n: 1, smallestResolvable: null });
    expect(summarize([1, Infinity])).toMatchObject({ mean: Infinity, ci95: null, n: 2 });
  });

  test('differences are taken pair by pair', () => {
    expect(relativeDifferences([2, 4], [3, 3])).toEqual([0.5, -0.25]);
  });
});

describe('a lab with several claims', () => {
  const further: Lab['further'] = [
    {
      claim: 'the factor is large',
      published: 'large',
      quantity: { name: 'factor', unit: 'ratio' },
      effect: { name: 'factor', unit: 'ratio' },
      inequality: { above: 1.5 },
    },
  ];
  const options: LabOptions = { kernels: referenceKernels() };
  const lab = (measured: LabMeasurements['further']): Lab => ({
    ...synthetic({ pairs: [0.001, 0.002, 0.0015] }),
    further,
    run: () =>
      Promise.resolve({
        effect: { pairs: [0.001, 0.002, 0.0015] },
        ...(measured && { further: measured }),
      }),
  });

  test.each([
    ['holds', [2, 2.1, 1.9]],
    ['fails', [1, 1.01, 0.99]],
    ['notResolvable', [1.4, 1.6, 1.5]],
  ] as const)('judges each by its own inequality: %s', async (verdict, pairs) => {
    const record = await runLab(lab([{ effect: { pairs } }]), options);
    expect(record.result.verdict).toBe('holds');
    expect(record.result.further).toEqual([
      expect.objectContaining({ claim: 'the factor is large', published: 'large', n: 3, verdict }),
    ]);
    expect(record.plan.further).toEqual([expect.objectContaining({ holdsIf: '× 1.50 < factor' })]);
    expect(record.furtherValues).toEqual([pairs]);
  });

  test('must measure all of them', async () => {
    for (const measured of [undefined, [], [1, 2].map((exact) => ({ effect: { exact, n: 1 } }))])
      expect(await failure(runLab(lab(measured), options))).toMatchObject({
        code: 'ERR_BALEEN_LAB_CLAIMS',
      });
  });
});

describe('verdicts', () => {
  const percent = { name: 'gap', unit: 'percent' } as const;
  const ratio = { name: 'factor', unit: 'ratio' } as const;
  const around = { above: -1, below: 1 };
  const verdictOf = (
    effect: LabMeasurements['effect'],
    inequality: Lab['inequality'] = around,
    of: Lab['effect'] = percent,
  ): string => judge({ effect: of, inequality }, effect).verdict;

  test.each([
    ['holds', [0, 0.1, -0.1]],
    ['fails', [5, 5.1, 4.9]],
    ['fails', [-5, -5.1, -4.9]],
    ['notResolvable', [0.9, 1, 1.1]],
    ['notResolvable', [-20, 20, 0.5]],
    ['notResolvable', [0]],
    ['notResolvable', []],
    // One run of a pair diverged, or both did.
    ['fails', [0, 0.1, Infinity]],
    ['notResolvable', [0, 0.1, NaN]],
  ])('%s: differences %j inside ±1', (verdict, pairs) => {
    expect(verdictOf({ pairs })).toBe(verdict);
  });

  test.each([
    ['holds', [2, 2.1, 1.9]],
    ['fails', [1, 1.01, 0.99]],
    ['notResolvable', [1.4, 1.6, 1.5]],
    ['holds', [2, 2.1, Infinity]],
  ])('%s: factors %j above 1.5', (verdict, pairs) => {
    expect(verdictOf({ pairs }, { above: 1.5 }, ratio)).toBe(verdict);
  });

  test('an exact effect is judged by itself, and the limit does not fulfil the inequality', () => {
    expect(verdictOf({ exact: 0.5, n: 4 })).toBe('holds');
    expect(verdictOf({ exact: 1, n: 4 })).toBe('fails');
    expect(verdictOf({ exact: 3, n: 4 }, { above: 2 }, ratio)).toBe('holds');
    expect(judge({ effect: ratio, inequality: { above: 2 } }, { exact: 3, n: 4 })).toEqual({
      mean: 3,
      ci95: null,
      n: 4,
      smallestResolvable: null,
      values: [3],
      verdict: 'holds',
    });
  });

  test('inequalities and figures in words', () => {
    const inequality = { above: -0.0025, below: 0.0025 };
    expect(inequalityText({ effect: percent, inequality })).toBe('−0.250 % < gap < 0.250 %');
    expect(inequalityText({ effect: ratio, inequality: { above: 1.5 } })).toBe('× 1.50 < factor');
    expect(inequalityText({ effect: ratio, inequality: { below: 2 } })).toBe('factor < × 2.00');
    expect(inequalityText({ effect: ratio, inequality: { above: 56.85, below: 56.95 } })).toBe(
      '× 56.85 < factor < × 56.95',
    );
    expect(inequalityText({ effect: percent, inequality: { above: 0.9325 } })).toBe(
      '93.25 % < gap',
    );
    expect(inequalityText({ effect: percent, inequality: { above: 1 / 3 } })).toBe(
      '33.3333 % < gap',
    );
    expect(labFigure(1234.5, 'number')).toBe('1235');
    expect(labFigure(Infinity, 'percent')).toBe('diverged');
    expect(labFigure(NaN, 'ratio')).toBe('not a number');
  });
});

/** A lab that measures what it is told to. */
function synthetic(effect: LabMeasurements['effect'], more: Partial<Lab> = {}): Lab {
  return {
    name: 'synthetic',
    claim: 'the gap is small',
    source: 'nowhere, §1',
    published: 0.01,
    quantity: { name: 'gap', unit: 'percent' },
    effect: { name: 'mean gap', unit: 'percent' },
    inequality: { above: -0.01, below: 0.01 },
    settings: { quick: { size: 1 }, full: { size: 2 } },
    estimate: ({ size }, { seed }) => Promise.resolve(100 * (size as number) + seed),
    run: ({ size }, { row, progress, seed }) => {
      row({ seed, size: size as number });
      progress(0.5, 'half way');
      row({ seed: seed + 1, size: size as number });
      return Promise.resolve({ effect });
    },
    ...more,
  };
}

const kernels = referenceKernels();
const run = (lab: Lab, options: LabOptions = {}): ReturnType<typeof runLab> =>
  runLab(lab, { kernels, ...options });

describe('the runner', () => {
  test.each([
    ['holds', [0.001, 0.002, 0.0015]],
    ['fails', [0.1, 0.11, 0.12]],
    ['notResolvable', [0.1, -0.1, 0.01]],
  ])('gives the whole record: %s', async (verdict, pairs) => {
    const { result, ...record } = await run(synthetic({ pairs }), { seed: 7 });
    const { mean, ci95, smallestResolvable } = summarize(pairs);
    expect(result).toEqual({
      lab: 'synthetic',
      claim: 'the gap is small',
      source: 'nowhere, §1',
      published: 0.01,
      measured: mean,
      effect: mean,
      ci95,
      n: 3,
      smallestResolvableEffect: smallestResolvable,
      verdict,
      seconds: expect.any(Number) as number,
    });
    expect(record).toEqual({
      plan: {
        budget: 'quick',
        seed: 7,
        settings: { size: 1 },
        quantity: { name: 'gap', unit: 'percent' },
        effectOf: { name: 'mean gap', unit: 'percent' },
        inequality: { above: -0.01, below: 0.01 },
        holdsIf: '−1.00 % < mean gap < 1.00 %',
      },
      rows: [
        { seed: 7, size: 1 },
        { seed: 8, size: 1 },
      ],
      values: pairs,
      notes: [],
      kernels: { implementation: 'reference', isa: kernels.isa, threads: kernels.threads },
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as string,
    });
  });

  test('a lab of settings without pairs: an exact ratio, a figure of its own beside the published one', async () => {
    const { result, rows, notes } = await run(
      synthetic(
        { exact: 20, n: 2 },
        {
          effect: { name: 'error without promotion / with', unit: 'ratio' },
          inequality: { above: 10 },
          run: (_, { row }) => {
            row({ accumulator: '14 bits', promotion: 'never', error: 0.02 });
            row({ accumulator: '14 bits', promotion: 128, error: 0.001 });
            return Promise.resolve({
              measured: 0.02,
              effect: { exact: 20, n: 2 },
              notes: ['twenty times'],
            });
          },
        },
      ),
    );
    expect(result).toMatchObject({
      measured: 0.02,
      effect: 20,
      ci95: null,
      n: 2,
      smallestResolvableEffect: null,
      verdict: 'holds',
    });
    expect(rows).toHaveLength(2);
    expect(notes).toEqual(['twenty times']);
  });

  test('settles settings and inequality before anything runs; estimates the time of a full one alone', async () => {
    const heard: unknown[] = [];
    const lab = synthetic({ pairs: [0, 0] });
    const options: LabOptions = {
      onPlan: ({ budget, settings }, seconds) => heard.push([budget, settings, seconds]),
      onProgress: (share, parts) => heard.push([share, ...parts]),
      onRow: ({ size }) => heard.push(size),
    };
    await run(lab, options);
    await run(lab, { ...options, budget: 'full', seed: 3 });
    expect(heard).toEqual([
      ['quick', { size: 1 }, null],
      ...[1, [0.5, 'half way'], 1],
      ['full', { size: 2 }, 203],
      ...[2, [0.5, 'half way'], 2],
    ]);
  });

  test('a lab that was stopped has no verdict; other failures pass as they are', async () => {
    const stop = new AbortController();
    const stopping = synthetic(
      { pairs: [] },
      {
        run: (_, { signal }) => {
          stop.abort();
          signal.throwIfAborted();
          throw new Error('unreachable');
        },
      },
    );
    expect(await failure(run(stopping, { signal: stop.signal }))).toMatchObject({
      code: 'ERR_BALEEN_LAB_STOPPED',
      message: 'lab synthetic was stopped before its end: there is no verdict',
    });
    const broken = new Error('broken');
    const breaking = synthetic({ pairs: [] }, { run: () => Promise.reject(broken) });
    expect(await failure(run(breaking))).toBe(broken);
  });

  test('every lab there is says all it must, under a name of its own', () => {
    expect(new Set(labs.map(({ name }) => name)).size).toBe(labs.length);
    for (const lab of labs) {
      expect(lab.name).toMatch(/^[a-z][a-z0-9-]*$/);
      expect(lab.source).toMatch(/arXiv \d{4}\.\d{5}, .*(§|Appendix)/);
      const { above = -Infinity, below = Infinity } = lab.inequality;
      expect(above).toBeLessThan(below);
      expect([above, below].some(Number.isFinite)).toBe(true);
      // A record holds what ran: JSON must keep it.
      expect(JSON.parse(JSON.stringify(lab.settings))).toEqual(lab.settings);
    }
  });
});
