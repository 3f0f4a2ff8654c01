// The layout pass held against a brute-force count of every token, rank, node and expert.
import { expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import { type DispatchLayout, dispatchLayout, type LayoutSizes } from '../src/index';

/** Choices with holes, and experts chosen twice. */
function choices({ tokens, expertsPerToken, experts }: LayoutSizes, seed: number): Int32Array {
  const random = randomFrom(seed);
  return Int32Array.from({ length: tokens * expertsPerToken }, () =>
    random() < 0.15 ? -1 : Math.floor(experts * random() ** 2),
  );
}

/** What the layout is, said once more with sets. */
function bruteForce(
  indices: Int32Array,
  { tokens, expertsPerToken, experts, ranks, ranksPerNode = ranks }: LayoutSizes,
  rankOf: (expert: number) => number,
): DispatchLayout {
  const rows = Array.from({ length: tokens }, (_, t) =>
    [...indices.subarray(t * expertsPerToken, (t + 1) * expertsPerToken)].filter((e) => e >= 0),
  );
  const goes = rows.map((row) => new Set(row.map(rankOf)));
  const nodes = goes.map((set) => new Set([...set].map((rank) => Math.floor(rank / ranksPerNode))));
  const among = (sets: Set<number>[], count: number): Int32Array =>
    Int32Array.from({ length: count }, (_, i) => sets.filter((set) => set.has(i)).length);
  return {
    tokensPerRank: among(goes, ranks),
    tokensPerNode: among(nodes, ranks / ranksPerNode),
    tokensPerExpert: Int32Array.from(
      { length: experts },
      (_, e) => rows.flat().filter((chosen) => chosen === e).length,
    ),
    isTokenInRank: Uint8Array.from({ length: tokens * ranks }, (_, i) =>
      Number(goes[Math.floor(i / ranks)].has(i % ranks)),
    ),
  };
}

const shapes: LayoutSizes[] = [
  { tokens: 64, expertsPerToken: 8, experts: 256, ranks: 64, ranksPerNode: 8 },
  { tokens: 33, expertsPerToken: 6, experts: 24, ranks: 8 },
  { tokens: 50, expertsPerToken: 3, experts: 12, ranks: 6, ranksPerNode: 1 },
  { tokens: 7, expertsPerToken: 1, experts: 5, ranks: 1 },
  { tokens: 0, expertsPerToken: 2, experts: 4, ranks: 2, ranksPerNode: 2 },
];

test.each(shapes)('$tokens tokens, $experts experts, $ranks ranks: exact', (sizes) => {
  const perRank = sizes.experts / sizes.ranks;
  for (const seed of [1, 2, 3]) {
    const indices = choices(sizes, seed);
    const expected = bruteForce(indices, sizes, (e) => Math.floor(e / perRank));
    expect(dispatchLayout(indices, sizes)).toEqual(expected);
  }
});

test('experts anywhere, as many on a rank as there happen to be', () => {
  const sizes = { tokens: 40, expertsPerToken: 4, experts: 10, ranks: 4, ranksPerNode: 2 };
  const rankOfExpert = Int32Array.of(3, 0, 0, 2, 3, 3, 1, 0, 2, 0);
  const indices = choices(sizes, 4);
  const expected = bruteForce(indices, sizes, (e) => rankOfExpert[e]);
  expect(dispatchLayout(indices, sizes, { rankOfExpert })).toEqual(expected);
});

test('arrays that are given are filled anew, and returned', () => {
  const sizes = { tokens: 20, expertsPerToken: 2, experts: 8, ranks: 4, ranksPerNode: 2 };
  const out = dispatchLayout(choices(sizes, 5), sizes);
  const again = dispatchLayout(choices(sizes, 6), sizes, { out });
  expect(again).toBe(out);
  expect(again).toEqual(dispatchLayout(choices(sizes, 6), sizes));
});

test('a token whose choices are all left out goes nowhere', () => {
  const sizes = { tokens: 2, expertsPerToken: 2, experts: 4, ranks: 2 };
  const { tokensPerRank, tokensPerNode, isTokenInRank } = dispatchLayout(
    Int32Array.of(-1, -1, 3, -1),
    sizes,
  );
  expect([...tokensPerRank, ...tokensPerNode]).toEqual([0, 1, 1]);
  expect([...isTokenInRank]).toEqual([0, 0, 0, 1]);
});

const sizes = { tokens: 1, expertsPerToken: 2, experts: 8, ranks: 4, ranksPerNode: 2 };
const indices = Int32Array.of(0, 7);

test.each<[string, () => unknown, RegExp]>([
  [
    'indices[1]',
    () => dispatchLayout(Int32Array.of(0, 8), sizes),
    /indices\[1\] \(8\) is not in −?-?1 … 7/,
  ],
  ['indices[0]', () => dispatchLayout(Int32Array.of(-2, 1), sizes), /\(-2\)/],
  ['indices', () => dispatchLayout(Int32Array.of(0), sizes), /holds 1 values, expected 2/],
  [
    'experts',
    () => dispatchLayout(indices, { ...sizes, experts: 9 }),
    /ranks \(4\) do not divide experts \(9\)/,
  ],
  [
    'ranksPerNode',
    () => dispatchLayout(indices, { ...sizes, ranksPerNode: 3 }),
    /\(3\) does not divide ranks \(4\)/,
  ],
  ['tokens', () => dispatchLayout(indices, { ...sizes, tokens: 0.5 }), /tokens \(0.5\)/],
  [
    'rankOfExpert[2]',
    () => dispatchLayout(indices, sizes, { rankOfExpert: Int32Array.of(0, 0, 4, 0, 0, 0, 0, 0) }),
    /\(4\) is not in 0 … 3/,
  ],
  [
    'out.tokensPerNode',
    () =>
      dispatchLayout(indices, sizes, {
        out: { ...dispatchLayout(indices, sizes), tokensPerNode: new Int32Array(1) },
      }),
    /holds 1 values, expected 2/,
  ],
])('refuses %s', (path, call, message) => {
  expect(call).toThrow(message);
  expect(call).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_COMM_SIZES', path }));
});

test('a wrong index leaves what was there', () => {
  const out = dispatchLayout(indices, sizes);
  const before = structuredClone(out);
  expect(() => dispatchLayout(Int32Array.of(3, 8), sizes, { out })).toThrow();
  expect(out).toEqual(before);
});
