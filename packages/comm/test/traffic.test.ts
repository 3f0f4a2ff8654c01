// Bytes on links held against every token followed on its own, and against what must be true of them.
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import {
  type Copies,
  combineTraffic,
  dispatchLayout,
  dispatchTraffic,
  type LinkTraffic,
  ranksOf,
  type Topology,
  tokenBytes,
  topologyOf,
} from '../src/index';

const [experts, expertsPerToken, tokens] = [48, 4, 30];

/** Choices of every rank, some left out, some experts favoured. */
function choicesOf(ranks: number, seed: number): Int32Array[] {
  const random = randomFrom(seed);
  return Array.from({ length: ranks }, () =>
    Int32Array.from({ length: tokens * expertsPerToken }, () =>
      random() < 0.1 ? -1 : Math.floor(experts * random() ** 2),
    ),
  );
}

type Sums = Pick<LinkTraffic, 'within' | 'between'>;

/** The same by following each token. */
function followed(choices: Int32Array[], topology: Topology, copies: Copies): Sums {
  const { devicesPerNode: devices, nodes } = topology;
  const ranks = ranksOf(topology);
  const bytes = (): Float64Array => new Float64Array(ranks);
  const sums: Sums = {
    within: { sent: bytes(), received: bytes() },
    between: { sent: bytes(), received: bytes() },
  };
  const nodeOf = (rank: number): number => Math.floor(rank / devices);
  const hop = (from: number, to: number): void => {
    if (from === to) return;
    const link = nodeOf(from) === nodeOf(to) ? sums.within : sums.between;
    link.sent[from] += 1;
    link.received[to] += 1;
  };
  choices.forEach((chosen, source) => {
    for (let t = 0; t < tokens; t += 1) {
      const own = [...chosen.subarray(t * expertsPerToken, (t + 1) * expertsPerToken)];
      const to = own.filter((e) => e >= 0).map((e) => Math.floor(e / (experts / ranks)));
      const once = [...new Set(to)];
      if (copies === 'expert') for (const rank of to) hop(source, rank);
      else if (copies === 'rank') for (const rank of once) hop(source, rank);
      else
        for (let node = 0; node < nodes; node += 1) {
          const there = once.filter((rank) => nodeOf(rank) === node);
          const door = node * devices + (source % devices);
          if (there.length > 0) hop(source, door);
          for (const rank of there) hop(door, rank);
        }
    }
  });
  return sums;
}

const total = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);

describe.each<[nodes: number, devicesPerNode: number]>([
  [4, 4],
  [3, 2],
  [1, 8],
  [6, 1],
])('%i nodes of %i', (nodes, devicesPerNode) => {
  const topology = topologyOf('h800', { nodes, devicesPerNode });
  const ranks = ranksOf(topology);
  const choices = choicesOf(ranks, nodes);
  const layouts = choices.map((indices) =>
    dispatchLayout(indices, {
      tokens,
      expertsPerToken,
      experts,
      ranks,
      ranksPerNode: devicesPerNode,
    }),
  );

  test.each<Copies>(['expert', 'rank', 'node'])('copies of a %s: exact', (copies) => {
    const { within, between } = dispatchTraffic(layouts, topology, { copies, bytes: 1 });
    expect({ within, between }).toEqual(followed(choices, topology, copies));
  });

  test('what is sent is received; combine goes the other way', () => {
    for (const copies of ['expert', 'rank', 'node'] as const) {
      const there = dispatchTraffic(layouts, topology, { copies, bytes: 3 });
      const back = combineTraffic(layouts, topology, { copies, bytes: 3 });
      for (const link of ['within', 'between'] as const) {
        expect(total(there[link].sent)).toBe(total(there[link].received));
        expect(back[link]).toEqual({ sent: there[link].received, received: there[link].sent });
      }
    }
  });

  test('fewer copies cross nodes for a rank than for an expert, and fewest for a node', () => {
    const [node, rank, expert] = (['node', 'rank', 'expert'] as const).map((copies) =>
      total(dispatchTraffic(layouts, topology, { copies, bytes: 1 }).between.sent),
    );
    expect(node).toBeLessThanOrEqual(rank);
    expect(rank).toBeLessThanOrEqual(expert);
    if (nodes > 1 && devicesPerNode > 1) expect(node).toBeLessThan(rank);
  });
});

test('what processors move, for a token followed by hand', () => {
  // Two nodes of two; one token of rank 0 goes to ranks 1, 2 and 3, the other ranks have one each that goes nowhere.
  const topology = topologyOf('h800', { nodes: 2, devicesPerNode: 2 });
  const sizes = { tokens: 1, expertsPerToken: 3, experts: 4, ranks: 4, ranksPerNode: 2 };
  const nowhere = [-1, -1, -1];
  const layouts = [[1, 2, 3], nowhere, nowhere, nowhere].map((chosen) =>
    dispatchLayout(Int32Array.from(chosen), sizes),
  );
  const options = { copies: 'node', bytes: 1 } as const;
  const there = dispatchTraffic(layouts, topology, options).processors;
  // Rank 0 reads its token and passes it on to rank 1; rank 2, its door to the other node, passes it on to itself and rank 3.
  expect([...there.read]).toEqual([1 + 1, 1, 1 + 1, 1]);
  // Written: to the network card's buffer, past it to the own node, and on to ranks.
  expect([...there.written]).toEqual([1 + 1 + 1, 1, 1 + 2, 1]);
  const back = combineTraffic(layouts, topology, options).processors;
  // Results are read where they are made (1, 2, 3), where a node's are summed (0 sums one, 2 sums two), and both sums at rank 0.
  expect([...back.read]).toEqual([1 + 2, 1, 1 + 2, 1]);
  expect([...back.written]).toEqual([1 + 1, 1 + 1, 1 + 1 + 1, 1 + 1]);
});

test('a placement of experts decides where choices go', () => {
  const topology = topologyOf('h800', { nodes: 2, devicesPerNode: 1 });
  const rankOfExpert = Int32Array.of(1, 0, 1);
  const sizes = { tokens: 1, expertsPerToken: 2, experts: 3, ranks: 2, ranksPerNode: 1 };
  const layouts = [
    [0, 2],
    [1, 2],
  ].map((chosen) => dispatchLayout(Int32Array.from(chosen), sizes, { rankOfExpert }));
  const sent = (copies: Copies): number[] => [
    ...dispatchTraffic(layouts, topology, { copies, bytes: 1, rankOfExpert }).between.sent,
  ];
  expect(sent('expert')).toEqual([2, 1]);
  expect(sent('rank')).toEqual([1, 1]);
});

test('a token of 7168 values: FP8 codes with a scale for each 128, BF16', () => {
  expect(tokenBytes(7168, 'fp8')).toBe(7168 + 4 * 56);
  expect(tokenBytes(100, 'fp8')).toBe(104);
  expect(tokenBytes(7168, 'bf16')).toBe(14336);
});

test.each<[string, () => unknown, RegExp]>([
  [
    'layouts',
    () => dispatchTraffic([], topologyOf('h800', { nodes: 1 }), { copies: 'rank', bytes: 1 }),
    /holds 0 values, expected 8/,
  ],
  [
    'layouts[0].tokensPerNode',
    () => {
      const sizes = { tokens: 1, expertsPerToken: 1, experts: 2, ranks: 2 };
      const layout = dispatchLayout(Int32Array.of(1), sizes);
      const topology = topologyOf('h800', { nodes: 2, devicesPerNode: 1 });
      return dispatchTraffic([layout, layout], topology, { copies: 'node', bytes: 1 });
    },
    /holds 1 values, expected 2/,
  ],
  [
    'bytes',
    () => dispatchTraffic([], topologyOf('h800', { nodes: 1 }), { copies: 'rank', bytes: 0 }),
    /bytes \(0\)/,
  ],
])('refuses %s', (path, call, message) => {
  expect(call).toThrow(message);
  expect(call).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_COMM_SIZES', path }));
});
