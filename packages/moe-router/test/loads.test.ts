// Loads over a run: columns against loops, and a picture that shows the numbers it was given.
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import {
  drawLoads,
  type LoadSeries,
  loadClass,
  maxViolation,
  summarizeDomains,
  summarizeLoads,
} from '../src/index';

const random = randomFrom(11);
const [samples, layers, experts] = [50, 3, 4];
const series: LoadSeries = {
  steps: Array.from({ length: samples }, (_, s) => 10 * (s + 1)),
  loads: Array.from({ length: samples }, (_s, s) =>
    Array.from({ length: layers }, () =>
      Array.from({ length: experts }, (_e, e) =>
        Math.floor(random() * (e === 0 ? 400 - 7 * s : 60)),
      ),
    ),
  ),
};

describe.each([1, 7, 50, 96])('in at most %d columns', (columns) => {
  const summary = summarizeLoads(series, { columns });

  test('every sample is in one column, in order', () => {
    expect(summary.columns).toHaveLength(Math.min(columns, samples));
    expect(summary.columns[0].from).toBe(10);
    expect(summary.columns.at(-1)?.to).toBe(500);
    summary.columns.slice(1).forEach(({ from }, c) => {
      expect(from).toBe(summary.columns[c].to + 10);
    });
  });

  test('loads over their mean, and MaxVio of batches and of the run', () => {
    summary.layers.forEach((layer, index) => {
      const total = new Array<number>(experts).fill(0);
      summary.columns.forEach(({ from, to }, c) => {
        const own = series.loads.filter((_, s) => series.steps[s] >= from && series.steps[s] <= to);
        const sums = Array.from({ length: experts }, (_, e) =>
          own.reduce((sum, sample) => sum + [...sample[index]][e], 0),
        );
        const mean = sums.reduce((a, b) => a + b, 0) / experts;
        sums.forEach((tokens, e) => {
          total[e] += tokens;
          expect(layer.load[e][c]).toBeCloseTo(tokens / mean, 12);
        });
        const violations = own.map((sample) => maxViolation(sample[index]));
        expect(layer.batchViolation[c]).toBeCloseTo(
          violations.reduce((a, b) => a + b, 0) / own.length,
          12,
        );
      });
      expect(layer.globalViolation).toBeCloseTo(maxViolation(total), 12);
    });
  });
});

test('loads that change sides are uneven in every batch and even over the run', () => {
  const summary = summarizeLoads({ steps: [1, 2], loads: [[[8, 0]], [[0, 8]]] });
  expect(summary.layers[0].batchViolation).toEqual([1, 1]);
  expect(summary.layers[0].globalViolation).toBe(0);
});

describe('domains', () => {
  // Of two layers, domains of two experts: all to the first, all to the second; and even in both.
  const loads = [Int32Array.of(6, 0, 0, 2), Int32Array.of(3, 3, 1, 1)];
  const summary = summarizeDomains(['prose', 'speeches'], loads);

  test('are columns with loads over their own mean', () => {
    expect(summary).toEqual({
      columns: [{ name: 'prose' }, { name: 'speeches' }],
      layers: [
        {
          load: [
            [2, 0],
            [0, 2],
          ],
          batchViolation: [1, 1],
          globalViolation: 0.5,
          // Six tokens and two.
          entropy: expect.closeTo(2 - 0.75 * Math.log2(3), 12) as number,
          histogram: [0, 0, 1, 0, 0, 0, 1, 0],
        },
        {
          load: [
            [1, 1],
            [1, 1],
          ],
          batchViolation: [0, 0],
          globalViolation: 0,
          entropy: 1,
          histogram: [0, 0, 0, 0, 2, 0, 0, 0],
        },
      ],
    });
  });

  test('stand under their names in the picture, cut short where there is no room', () => {
    const svg = drawLoads(summary);
    expect(svg).toMatch(/middle" x="257\.0" y="\d+">prose</);
    expect(svg).toMatch(/middle" x="643\.0" y="\d+">speeches</);
    expect(svg).toContain('MaxVio of a domain');
    expect(svg).not.toContain('step ');
    expect(svg.match(/data-load="2 0"/g)).toHaveLength(1);
    expect(svg.match(/class="cut"/g)).toHaveLength(2);
    const names = Array.from({ length: 40 }, (_, d) => `domain number ${d}`);
    const many = summarizeDomains(names, [new Int32Array(80).fill(1)]);
    expect(drawLoads(many)).toContain('>…39<');
  });

  test('that do not fit are refused', () => {
    const refusal = (path: string): unknown =>
      expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path });
    expect(() => summarizeDomains([], loads)).toThrow(refusal('domains'));
    expect(() => summarizeDomains(['a'], [])).toThrow(refusal('layers'));
    expect(() => summarizeDomains(['a', 'b'], [loads[0], Int32Array.of(1, 2, 3)])).toThrow(
      refusal('loads[1]'),
    );
  });
});

test('pictures of few samples have their lines and no label twice', () => {
  const of = (count: number): string =>
    drawLoads(
      summarizeLoads({
        steps: Array.from({ length: count }, (_, s) => s + 7),
        loads: Array.from({ length: count }, () => [[8, 0]]),
      }),
      { title: `a\u0007b ${'long '.repeat(40)}end` },
    );
  expect(/path class="mean"[^>]* d="([^"]*)"/.exec(of(1))?.[1]).toMatch(/^M[\d.]+,[\d.]+H[\d.]+$/);
  const labels = [...of(3).matchAll(/y="\d+">(?:step )?(\d+)<\/text>/g)].map(([, step]) => step);
  expect(labels.filter((label) => ['7', '8', '9'].includes(label))).toEqual(['7', '8', '9']);
  // Titles fit, and are XML.
  expect(/class="title"[^>]*>([^<]*)</.exec(of(1))?.[1]).toMatch(/^….{91,95}end$/);
  expect(of(1)).not.toContain('\u0007');
});

test('series that do not fit are refused', () => {
  const refusal = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path });
  expect(() => summarizeLoads({ steps: [], loads: [] })).toThrow(refusal('samples'));
  expect(() => summarizeLoads({ steps: [1, 2], loads: [[[1]]] })).toThrow(refusal('loads'));
  expect(() => summarizeLoads({ steps: [1, 2], loads: [[[1, 2]], [[1]]] })).toThrow(
    refusal('loads[1][0]'),
  );
});

test.each([
  [0, 0],
  [0.24, 0],
  [0.25, 1],
  [0.89, 3],
  [1, 4],
  [1.1, 5],
  [3.9, 7],
  [4, 8],
  [100, 8],
])('a load of %d has colour %d', (load, kind) => {
  expect(loadClass(load)).toBe(kind);
});

describe('the picture', () => {
  const summary = summarizeLoads(series, { columns: 20 });
  const svg = drawLoads(summary, { title: 'A <run> & "more"', layers: ['one', 'two', 'three'] });
  const strips = svg.split(/(?=<g data-layer=)/).slice(1);

  test('carries the numbers of the summary', () => {
    expect(strips).toHaveLength(layers);
    strips.forEach((strip, index) => {
      const { load, globalViolation } = summary.layers[index];
      const rows = [...strip.matchAll(/data-expert="(\d+)" data-load="([^"]*)"/g)];
      expect(rows.map(([, expert]) => Number(expert))).toEqual([0, 1, 2, 3]);
      rows.forEach(([, , numbers], e) => {
        const shown = numbers.split(' ').map(Number);
        expect(shown).toHaveLength(20);
        shown.forEach((value, c) => {
          expect(value).toBeCloseTo(load[e][c], 3);
        });
      });
      expect(strip).toContain(`MaxVio ${globalViolation.toFixed(3)}`);
    });
    const lines = [...svg.matchAll(/path class="line"[^>]*data-violation="([^"]*)"/g)];
    expect(lines).toHaveLength(layers);
    lines.forEach(([, numbers], index) => {
      numbers.split(' ').forEach((value, c) => {
        expect(Number(value)).toBeCloseTo(summary.layers[index].batchViolation[c], 3);
      });
    });
  });

  test('and shows them: each column of each row has its load’s colour', () => {
    const plot = 960 - 64 - 124;
    strips.forEach((strip, index) => {
      const rows = strip.split('<rect class="frame"')[0].split('<g data-expert').slice(1);
      rows.forEach((row, e) => {
        const pieces = [...row.matchAll(/class="c(\d)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g)];
        const [, , first] = pieces[0];
        expect(Number(first)).toBe(64);
        for (let c = 0; c < 20; c += 1) {
          const middle = 64 + (plot * (c + 0.5)) / 20;
          const here = pieces.filter(
            ([, , x, width]) => Number(x) < middle && middle < Number(x) + Number(width),
          );
          expect(here.map(([, kind]) => Number(kind))).toEqual([
            loadClass(summary.layers[index].load[e][c]),
          ]);
        }
      });
    });
  });

  test('higher violations stand higher', () => {
    const [points] = [...svg.matchAll(/path class="mean"[^>]* d="M([^"]*)"/g)].map(([, path]) =>
      path.split('L').map((point) => Number(point.split(',')[1])),
    );
    const mean = summary.columns.map((_, c) =>
      summary.layers.reduce((sum, { batchViolation }) => sum + batchViolation[c] / layers, 0),
    );
    const order = (list: number[]): number[] =>
      [...list.keys()].sort((a, b) => list[a] - list[b] || a - b);
    expect(order(points.map((y) => -y))).toEqual(order(mean.map((v) => Number(v.toFixed(4)))));
  });

  test('is one well-formed document for light and dark, whatever names say', () => {
    const open: string[] = [];
    for (const [, close, name, rest] of svg.matchAll(/<(\/?)(\w+)([^>]*)>/g))
      if (close) expect(open.pop()).toBe(name);
      else if (!rest.endsWith('/')) open.push(name);
    expect(open).toEqual([]);
    expect(svg).toContain('A &lt;run&gt; &amp; &quot;more&quot;');
    expect(svg).toContain('prefers-color-scheme:dark');
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('the same loads give the same bytes', () => {
    expect(drawLoads(summarizeLoads(series, { columns: 20 }))).toBe(
      drawLoads(summarizeLoads(series, { columns: 20 })),
    );
  });

  test('hundreds of experts stay within a page, and a run without tokens is even', () => {
    const wide = { steps: [1, 2], loads: [[new Int32Array(256)], [new Int32Array(256)]] };
    const drawn = drawLoads(summarizeLoads(wide));
    const [, height] = /viewBox="0 0 960 ([\d.]+)"/.exec(drawn) ?? [];
    expect(Number(height)).toBeLessThan(500);
    expect(drawn).not.toMatch(/NaN/);
  });
});
