// One tree, whoever adds: the same sum for every way of spreading terms over ranks.
import { describe, expect, test } from 'vitest';

import { carry, nodesOf, type TreeNode, treeSum } from '../src/index';

const paired = (left: string, right: string): string => `(${left}+${right})`;

/** What a rank holds of terms in a row. */
function held(first: number, end: number): TreeNode<string>[] {
  const nodes: TreeNode<string>[] = [];
  for (let term = first; term < end; term += 1)
    carry(nodes, { level: 0, index: term, sum: `${term}` }, paired);
  return nodes;
}

describe('the tree', () => {
  test('of seven terms', () => {
    expect(treeSum(held(0, 7), paired)).toBe('(((0+1)+(2+3))+((4+5)+6))');
  });

  test('is the same for every border between two and three ranks, up to 20 terms', () => {
    for (let terms = 1; terms <= 20; terms += 1) {
      const whole = treeSum(held(0, terms), paired);
      for (let a = 0; a <= terms; a += 1)
        for (let b = a; b <= terms; b += 1)
          expect(treeSum([...held(0, a), ...held(a, b), ...held(b, terms)], paired)).toBe(whole);
    }
  });

  test('in FP32 gives the same bits for 1, 2 and 4 ranks, where adding in a row does not', () => {
    const terms = Array.from({ length: 12 }, (_, i) =>
      Math.fround(Math.sin(i + 1) * 10 ** (i % 5)),
    );
    const add = (left: number, right: number): number => Math.fround(left + right);
    const sumOn = (ranks: number): number | undefined =>
      treeSum(
        Array.from({ length: ranks }, (_, rank) => {
          const nodes: TreeNode<number>[] = [];
          const [first, end] = [rank, rank + 1].map((r) => (r * terms.length) / ranks);
          for (let term = first; term < end; term += 1)
            carry(nodes, { level: 0, index: term, sum: terms[term] }, add);
          return nodes;
        }).flat(),
        add,
      );
    expect(sumOn(2)).toBe(sumOn(1));
    expect(sumOn(4)).toBe(sumOn(1));
    const inRow = (ranks: number): number => {
      const each = terms.length / ranks;
      return Array.from({ length: ranks }, (_, r) =>
        terms.slice(r * each, (r + 1) * each).reduce(add),
      ).reduce(add);
    };
    expect(inRow(4)).not.toBe(inRow(1));
  });
});

test('a rank knows what nodes another holds, and how few', () => {
  expect(nodesOf(3, 8)).toEqual([
    { level: 0, index: 3 },
    { level: 2, index: 1 },
  ]);
  for (let first = 0; first < 40; first += 1) {
    const nodes = nodesOf(first, first + 64);
    expect(nodes.map(({ level, index }) => ({ level, index }))).toEqual(
      held(first, first + 64).map(({ level, index }) => ({ level, index })),
    );
    expect(nodes.length).toBeLessThanOrEqual(12);
  }
});

test('no terms have no sum', () => {
  expect(treeSum<number>([], (a, b) => a + b)).toBeUndefined();
  expect(nodesOf(4, 4)).toEqual([]);
});
