// The cost model: exchanges worked out by hand, and DeepEP's published figures beside what is predicted for them.
import { readFileSync } from 'node:fs';

import { expect, test } from 'vitest';

import {
  type Copies,
  combineTraffic,
  dispatchLayout,
  dispatchTraffic,
  fittedRates,
  type KernelRates,
  type LinkTraffic,
  type Machine,
  predictTime,
  processorsToFill,
  publishedRates,
  type Topology,
  topologyOf,
} from '../src/index';
import { busiestBytes, exchangeOf, type Figure, figures, predicted, type Way } from './deepep';

/** A machine on which a byte takes 1 µs within a node and 10 µs between nodes. */
const slow: Machine = {
  devicesPerNode: 2,
  within: { gbps: 1e-3, latencyUs: 2 },
  between: { gbps: 1e-4, latencyUs: 5 },
  processors: { total: 8, communication: 2, readGbps: 1, writeGbps: 1 },
};
const plain: KernelRates = { within: 1, between: 1, overheadUs: 0 };

/** Tokens of one rank of `slow` to the ranks named; the others have none that go anywhere. */
function oneToken(topology: Topology, to: number[], copies: Copies): LinkTraffic {
  const sizes = { tokens: 1, expertsPerToken: 4, experts: 4, ranks: 4, ranksPerNode: 2 };
  const chosen = (rank: number): Int32Array =>
    Int32Array.from({ length: 4 }, (_, i) => (rank === 0 ? (to[i] ?? -1) : -1));
  const layouts = [0, 1, 2, 3].map((rank) => dispatchLayout(chosen(rank), sizes));
  return dispatchTraffic(layouts, topology, { copies, bytes: 1 });
}

test('by hand: a token to both ranks of the other node', () => {
  const topology = topologyOf(slow, { nodes: 2 });
  // Straight: two copies between nodes, 20 µs and one latency.
  const flat = predictTime(oneToken(topology, [2, 3], 'rank'), topology, { rates: plain });
  expect(flat).toMatchObject({ us: 25, latencyUs: 5, betweenUs: 20, withinUs: 0 });
  expect(flat.bottleneck).toBe('between');
  // One copy between nodes, passed on within: 10 µs beside 1, and both latencies.
  const twoLevel = oneToken(topology, [2, 3], 'node');
  expect(predictTime(twoLevel, topology, { rates: plain }).us).toBe(10 + 5 + 2);
  expect(predictTime(twoLevel, topology, { rates: plain, forwarding: 'inTurn' }).us).toBe(
    10 + 1 + 5 + 2,
  );
  // Half of the slow link, a quarter of the fast one, and 3 µs for the call.
  const rates = { within: 0.25, between: 0.5, overheadUs: 3 };
  expect(predictTime(twoLevel, topology, { rates }).us).toBe(20 + 5 + 2 + 3);
});

test('a fast link decides within a node, and an exchange with nobody takes the overhead', () => {
  const topology = topologyOf(slow, { nodes: 2 });
  const own = predictTime(oneToken(topology, [0, 1], 'node'), topology, { rates: plain });
  expect(own).toMatchObject({ us: 3, withinUs: 1, betweenUs: 0, bottleneck: 'within' });
  const nobody = oneToken(topology, [], 'node');
  expect(predictTime(nobody, topology, { rates: plain }).withinUs).toBe(0);
  expect(processorsToFill(nobody, topology, plain)).toBe(0);
});

test('too few processors hold an exchange up, and the number that does not is said', () => {
  const topology = topologyOf(slow, {
    nodes: 2,
    processors: { communication: 1, readGbps: 1, writeGbps: 1e-4 },
  });
  // Rank 2 writes its copy to itself and to rank 3, and a token of its own that goes nowhere: 3 bytes at 10 µs.
  const traffic = oneToken(topology, [2, 3], 'node');
  const one = predictTime(traffic, topology, { rates: plain });
  expect(one).toMatchObject({ processorsUs: 30, us: 30 + 7, bottleneck: 'processors' });
  expect(processorsToFill(traffic, topology, plain)).toBeCloseTo(3, 12);
  const three = topologyOf(topology, { nodes: 2, processors: { communication: 3 } });
  expect(predictTime(traffic, three, { rates: plain }).us).toBeCloseTo(17, 12);
});

test('combine takes as long as dispatch with as many bytes where links decide', () => {
  const topology = topologyOf('h800', { nodes: 2 });
  const sizes = { tokens: 4, expertsPerToken: 2, experts: 16, ranks: 16, ranksPerNode: 8 };
  const layouts = Array.from({ length: 16 }, (_, rank) =>
    dispatchLayout(
      Int32Array.from({ length: 8 }, (_unused, i) => (rank + 3 * i) % 16),
      sizes,
    ),
  );
  const options = { copies: 'node', bytes: 1e6 } as const;
  const [there, back] = [dispatchTraffic, combineTraffic].map(
    (way) => predictTime(way(layouts, topology, options), topology).us,
  );
  expect(back).toBe(there);
});

test.each<[string, Partial<KernelRates>]>([
  ['rates.within', { within: 0 }],
  ['rates.between', { between: 1.1 }],
  ['rates.overheadUs', { overheadUs: -1 }],
])('refuses %s', (path, change) => {
  const topology = topologyOf(slow, { nodes: 2 });
  const traffic = oneToken(topology, [1], 'rank');
  const call = () => predictTime(traffic, topology, { rates: { ...plain, ...change } });
  expect(call).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_COMM_SIZES', path }));
});

const ways: readonly Way[] = ['dispatch', 'combine'];
const rowOf = (table: Figure['table'], nodes: number): Figure => {
  const row = figures.find((each) => each.table === table && each.nodes === nodes);
  if (!row) throw new Error(`no row ${table} ${nodes}`);
  return row;
};
/** Rows that the rates were fitted to: one, two and one of the three rates. */
const fittedTo = [rowOf('normal', 1), rowOf('low latency', 1), rowOf('normal', 8)];

test('the fitted rates are what three of DeepEP’s rows say', () => {
  const [intranode, small, internode] = fittedTo;
  const fits = ways.map((way): KernelRates => {
    const [a, b, c] = [intranode, small, internode].map((row) => exchangeOf(row, way));
    const { within, between } = a.topology;
    const us = (row: Figure, counted: number): number =>
      row.unit === 'us' ? row[way] : counted / row[way] / 1000;
    // Two rows on one node give a share and an overhead, the third the other share.
    const [ta, tb, tc] = [us(intranode, a.counted), us(small, b.counted), us(internode, c.counted)];
    const [kbA, kbB] = [a, b].map((each) => busiestBytes(each, 'within') / 1000);
    const share = (kbA - kbB) / within.gbps / (ta - tb);
    const overheadUs = tb - within.latencyUs - kbB / within.gbps / share;
    const left = tc - overheadUs - within.latencyUs - between.latencyUs;
    return {
      within: share,
      between: busiestBytes(c, 'between') / 1000 / between.gbps / left,
      overheadUs,
    };
  });
  // Shares to a hundredth and overhead to a microsecond: which rank is busiest by how much is chance.
  const mean = (of: (rates: KernelRates) => number): number => (of(fits[0]) + of(fits[1])) / 2;
  expect(Math.abs(mean(({ within }) => within) - fittedRates.within)).toBeLessThan(0.01);
  expect(Math.abs(mean(({ between }) => between) - fittedRates.between)).toBeLessThan(0.01);
  expect(Math.abs(mean(({ overheadUs }) => overheadUs) - fittedRates.overheadUs)).toBeLessThan(1);
});

test('DeepEP’s figures: the error of every prediction, as docs/topology.md has it', () => {
  const percent = (value: number): string =>
    `${value < 0 ? '−' : '+'}${Math.abs(100 * value).toFixed(1)} %`;
  const errors = { published: [] as number[], fitted: [] as number[] };
  const lines = figures.flatMap((row) =>
    ways.map((way) => {
      const exchange = exchangeOf(row, way);
      const digits = row.unit === 'us' || row[way] > 100 ? 0 : 1;
      const cells = (['published', 'fitted'] as const).flatMap((set) => {
        const rates = set === 'published' ? publishedRates : fittedRates;
        const { value } = predicted(row, exchange, rates);
        errors[set].push(value / row[way] - 1);
        return [value.toFixed(digits), percent(value / row[way] - 1)];
      });
      const { bottleneck } = predicted(row, exchange, fittedRates);
      const decides = { within: 'NVLink', between: 'InfiniBand', processors: 'SMs' }[bottleneck];
      const sms = row.table === 'second version' ? `, ${row.processors} SMs` : '';
      const name = `${row.table}, ${row.nodes} × 8 ${row.machine.toUpperCase()}${sms}`;
      const fit = fittedTo.includes(row) ? ' (fitted)' : '';
      const unit = row.unit === 'us' ? 'µs' : 'GB/s';
      return `| ${name}${fit} | ${way} | ${row[way]} ${unit} | ${cells.join(' | ')} | ${decides} |`;
    }),
  );
  console.log(lines.join('\n'));
  for (const error of errors.fitted) expect(Math.abs(error)).toBeLessThan(0.12);
  for (const error of errors.published) expect(Math.abs(error)).toBeLessThan(0.4);
  const page = readFileSync(new URL('../../../docs/topology.md', import.meta.url), 'utf8');
  expect(page).toContain(lines.join('\n'));
});

test('the SMs that DeepEP’s second version takes', () => {
  // As it reckons: NVLink to nine tenths, InfiniBand in full, a quarter more than fills them, an even number.
  const rates = { within: 0.9, between: 1, overheadUs: 0 };
  const taken = figures
    .filter(({ table, processors }) => table === 'second version' && processors < 64)
    .map((row) => {
      const { traffics, topology } = exchangeOf(row, 'dispatch');
      const least = Math.ceil(1.25 * processorsToFill(traffics[0], topology, rates));
      return [row.processors, 2 * Math.ceil(Math.max(4, least) / 2)];
    });
  expect(taken).toHaveLength(4);
  for (const [published, here] of taken) expect(here).toBe(published);
});
