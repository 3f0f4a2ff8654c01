// The lab of accumulation: errors worked out by hand, and a grid small enough to take apart.
import { multiply, type QuantizedMatrix, quantize } from '@baleen/fp8';
import { referenceKernels } from '@baleen/kernels';
import { gaussian } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { labs, runLab } from '../src/index';
import { largestError, largestRelativeError, relativeError } from '../src/labs/errors';
import {
  type AccumulationSettings,
  accumulationErrors,
  fp8Accumulation,
  operandsOf,
} from '../src/labs/fp8-accumulation';

/** Rows of so many ones, the first row's times `factor`; under a power of two as the scale all stand as they are. */
function ones(cols: number, counts: readonly number[], factor = 1): QuantizedMatrix {
  const rows = counts.length;
  const values = new Float32Array(rows * cols);
  counts.forEach((count, r) => values.fill(r === 0 ? factor : 1, r * cols, r * cols + count));
  return quantize(values, { rows, cols }, { block: 'tensor', powerOfTwo: true });
}

describe('errors', () => {
  const [exact, had] = [Float32Array.of(3, -4, 0), Float32Array.of(3, -3, 0)];
  test('by definition', () => {
    expect(relativeError(exact, had)).toBeCloseTo(1 / 5, 12);
    expect(largestError(exact, had)).toBe(1 / 4);
    expect(largestRelativeError(exact, had)).toBe(1 / 4);
    expect(largestRelativeError(Float32Array.of(8, -1), Float32Array.of(7, -0.5))).toBe(0.5);
    expect(largestError(Float32Array.of(8, -1), Float32Array.of(7, -0.5))).toBe(1 / 8);
    expect(largestRelativeError(Float32Array.of(0), Float32Array.of(1))).toBe(Infinity);
  });
});

test('a product worked out by hand', () => {
  // Three bits below the leading one. The row of 4096 ones: an instruction adds 32 to 32 = 2⁵, beside which ones are cut
  // at multiples of 4: the sum stands still at 32, or at 32 · 32 = 1024 where it is promoted 32 times. The row of 32 ones
  // fits.
  const all = '√(Σ error² / Σ output²)';
  const names = [all, 'max error / max output', 'max (error / output)'] as const;
  const operands = operandsOf(ones(4096, [4096, 32]), ones(4096, [4096]));
  expect([...operands.exact]).toEqual([4096, 32]);
  const core = { fractionBits: 3, accumulator: 'aligned' } as const;
  const size = Math.hypot(4096, 32);
  const never = accumulationErrors(operands, core, Infinity, names);
  expect(never[0]).toBeCloseTo((4096 - 32) / size, 12);
  expect(never.slice(1)).toEqual([(4096 - 32) / 4096, (4096 - 32) / 4096]);
  const promoted = accumulationErrors(operands, core, 128, names);
  expect(promoted[0]).toBeCloseTo((4096 - 1024) / size, 12);
  expect(promoted.slice(1)).toEqual([0.75, 0.75]);
  expect(accumulationErrors(operands, core, 32, names)).toEqual([0, 0, 0]);
  expect(accumulationErrors(operands, { ...core, accumulator: 'fp32' }, Infinity, names)).toEqual([
    0, 0, 0,
  ]);
  // A loud row that is exact, 32 · 256, beside a quiet one that loses half: only the last metric sees the half.
  const loud = operandsOf(ones(64, [32, 64], 256), ones(64, [64]));
  expect([...loud.exact]).toEqual([8192, 64]);
  const errors = accumulationErrors(loud, core, Infinity, names);
  expect(errors[0]).toBeCloseTo(32 / Math.hypot(8192, 64), 12);
  expect(errors.slice(1)).toEqual([32 / 8192, 0.5]);
});

/** The lab with other settings. */
function changed(changes: Partial<AccumulationSettings>) {
  const quick = { ...fp8Accumulation.settings.quick, rows: 3, cols: 5, seeds: 3, ...changes };
  return { ...fp8Accumulation, settings: { quick, full: quick } };
}

describe('the lab', () => {
  const options = { kernels: referenceKernels(), seed: 901 };

  test('measures every cell, and judges the one that was named', async () => {
    const lab = changed({ k: 300 });
    const shares: number[] = [];
    const record = await runLab(lab, { ...options, onProgress: (share) => shares.push(share) });
    const { result, rows, values, notes } = record;
    expect(rows).toHaveLength(3 * 2 * 2 * 3);
    expect(new Set(rows.map((row) => JSON.stringify(Object.values(row).slice(0, 4)))).size).toBe(
      rows.length,
    );
    for (const row of rows) {
      const [never, promoted] = [Number(row['never, %']), Number(row['every 128, %'])];
      expect(never / promoted).toBeCloseTo(Number(row.ratio), 10);
      expect(Number(row.from)).toBeLessThanOrEqual(Number(row.ratio));
      expect(Number(row.to)).toBeGreaterThanOrEqual(Number(row.ratio));
    }
    expect(shares).toHaveLength(3 * 3 * 4);
    expect(shares.at(-1)).toBe(1);

    // The same from the packages' doors: normal operands, 13 bits, all aligned.
    const tensorCore = { fractionBits: 13, accumulator: 'aligned' } as const;
    const expected = [901, 902, 903].map((seed) => {
      const next = gaussian(seed);
      const [x, w] = [3, 5].map((count) => {
        const values = Float32Array.from({ length: count * 300 }, () => next());
        return quantize(values, { rows: count, cols: 300 }, { block: 'tensor' });
      });
      const exact = multiply(x, w, {
        promotion: Infinity,
        tensorCore: { ...tensorCore, fractionBits: 45 },
      });
      const errors = [Infinity, 128].map((promotion) =>
        multiply(x, w, { promotion, tensorCore }).map((value, i) => value - exact[i]),
      );
      const norms = errors.map((error) => Math.hypot(...error));
      const largest = Math.max(...errors[0].map(Math.abs)) / Math.max(...exact.map(Math.abs));
      return { ratio: norms[0] / norms[1], largest };
    });
    values.forEach((ratio, i) => {
      expect(ratio).toBeCloseTo(expected[i].ratio, 6);
    });
    expect(values).toHaveLength(3);
    const geometric = expected.reduce((product, { largest }) => product * largest, 1) ** (1 / 3);
    expect(result.measured).toBeCloseTo(geometric, 10);
    expect(result).toMatchObject({ lab: 'fp8-accumulation', published: 0.02, n: 3 });
    const judged = rows.find(
      (row) =>
        row.inputs === 'normal (0, 1)' &&
        row['fraction bits'] === 13 &&
        row.accumulator === 'aligned' &&
        String(row.error).startsWith('√'),
    );
    expect(result.effect).toBeCloseTo(Number(judged?.ratio), 12);

    expect(notes[0]).toMatch(
      /^of both maxima, nearest to the published 2\.00 %, chosen after: .* %.* max .*×/,
    );
    const nearest = rows
      .filter(({ error }) => String(error).startsWith('max'))
      .sort((a, b) => away(a['never, %']) - away(b['never, %']))[0];
    for (const cell of [nearest.inputs, nearest.error, `${nearest['fraction bits']} fraction bits`])
      expect(notes[0]).toContain(cell);
    const enough = rows.filter(({ ratio }) => Number(ratio) > 10).length;
    expect(notes[1]).toContain(`more than tenfold in ${enough} of 36 cells`);
  });

  const away = (percent: string | number): number => Math.abs(Math.log(Number(percent) / 2));

  test('comes out either way', async () => {
    // Sums of 128 end where they would be promoted: both arms are one, to the bit.
    const short = await runLab(changed({ k: 128 }), options);
    expect(short.values).toEqual([1, 1, 1]);
    expect(short.result).toMatchObject({ effect: 1, verdict: 'fails' });
    // Sums of one sign grow and lose more with every product: one long sum far more than 32 short ones.
    const verdict = {
      ...fp8Accumulation.settings.quick.verdict,
      inputs: 'uniform (0, 1)',
    } as const;
    const long = await runLab(changed({ verdict }), options);
    expect(long.result.effect).toBeGreaterThan(10);
    expect(long.result.verdict).toBe('holds');
  });

  test('a verdict about a cell that the grid lacks is refused', async () => {
    await expect(runLab(changed({ k: 64, fractionBits: [14] }), options)).rejects.toMatchObject({
      code: 'ERR_BALEEN_LAB_SETTINGS',
      path: 'settings.verdict',
      message: expect.stringMatching(/"fractionBits":13.* is no cell of the grid/) as string,
    });
  });

  test('ends at once when it is stopped', async () => {
    const stop = new AbortController();
    let heard = 0;
    const work = runLab(changed({ k: 64 }), {
      ...options,
      signal: stop.signal,
      onProgress: () => {
        heard += 1;
        stop.abort();
      },
    });
    await expect(work).rejects.toMatchObject({ code: 'ERR_BALEEN_LAB_STOPPED' });
    expect(heard).toBe(1);
  });

  test('estimates its time from three of its products', async () => {
    const lab = changed({ rows: 16, cols: 16 });
    // The grid has 81 of them: 3 inputs, 3 seeds, 4 cores twice and once exactly.
    const begin = performance.now();
    const seconds = await lab.estimate(lab.settings.quick, options);
    const own = (performance.now() - begin) / 1000;
    expect(seconds / own).toBeGreaterThan(20);
    expect(seconds / own).toBeLessThan(27.1);
  });

  test('is listed, and its cells of note are in its grid', () => {
    expect(labs).toContain(fp8Accumulation);
    for (const settings of Object.values(fp8Accumulation.settings)) {
      expect(settings.inputs).toContain(settings.verdict.inputs);
      expect(settings.fractionBits).toContain(settings.verdict.fractionBits);
      expect(settings.accumulators).toContain(settings.verdict.accumulator);
      expect(settings.metrics).toContain(settings.verdict.metric);
      expect(settings.metrics).toContain(settings.measured);
    }
  });
});
