// Topologies: the named machines, changes, machines of one's own, and what is refused by name.
import { expect, test } from 'vitest';

import { type Machine, machines, ranksOf, topologyOf } from '../src/index';

test('V3’s cluster: 8 of 2048 / 8 nodes of H800, links at 4 to 1, 20 of 132 SMs', () => {
  const topology = topologyOf('h800', { nodes: 8 });
  expect(ranksOf(topology)).toBe(64);
  expect(topology.within.gbps / topology.between.gbps).toBe(4);
  expect(topology.processors).toMatchObject({ total: 132, communication: 20 });
});

test('machines differ in NVLink and SMs', () => {
  const figures = Object.entries(machines).map(([name, { within, between, processors }]) => [
    name,
    within.gbps,
    between.gbps,
    processors.total,
  ]);
  expect(figures).toEqual([
    ['h800', 200, 50, 132],
    ['h100', 450, 50, 132],
    ['h200', 450, 50, 132],
    ['b200', 900, 50, 148],
  ]);
});

const own: Machine = {
  devicesPerNode: 2,
  within: { gbps: 10, latencyUs: 1 },
  between: { gbps: Infinity, latencyUs: 0 },
  processors: { total: 4, communication: 4, readGbps: 1, writeGbps: 1 },
};

test('changes, and a machine of one’s own, leave the originals as they are', () => {
  const changed = topologyOf(own, { nodes: 3, devicesPerNode: 4, within: { latencyUs: 2 } });
  expect(changed).toEqual({
    ...own,
    nodes: 3,
    devicesPerNode: 4,
    within: { gbps: 10, latencyUs: 2 },
  });
  changed.between.gbps = 1;
  expect(own.between.gbps).toBe(Infinity);
  topologyOf('h100', { nodes: 1 }).within.gbps = 1;
  expect(machines.h100.within.gbps).toBe(450);
});

test.each<[string, () => unknown, RegExp]>([
  ['machine', () => topologyOf('h900' as 'h800', { nodes: 1 }), /no machine h900/],
  ['nodes', () => topologyOf('h800', { nodes: 0 }), /nodes \(0\) is not a whole number from 1/],
  ['nodes', () => topologyOf('h800', {} as { nodes: number }), /nodes \(undefined\)/],
  [
    'within.gbps',
    () => topologyOf('h800', { nodes: 1, within: { gbps: -1 } }),
    /within\.gbps \(-1\) is not a number above 0/,
  ],
  [
    'between.latencyUs',
    () => topologyOf({ ...own, between: { gbps: 1 } as never }, { nodes: 1 }),
    /between\.latencyUs \(undefined\) is not a finite number from 0/,
  ],
  [
    'processors.communication',
    () => topologyOf('h800', { nodes: 1, processors: { communication: 133 } }),
    /communication \(133\) is not a whole number from 1 to processors\.total/,
  ],
  [
    'between.gpbs',
    () => topologyOf('h800', { nodes: 1, between: { gpbs: 25 } as never }),
    /between\.gpbs is no figure/,
  ],
])('refuses %s', (path, call, message) => {
  expect(call).toThrow(message);
  expect(call).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_COMM_TOPOLOGY', path }));
});
