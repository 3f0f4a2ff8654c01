// Routing on typed arrays against a literal reading of §2.1.2.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf, values } from '../../../test/support';
import { chooseExperts, type RoutingSizes, routeTokens, updateBias } from '../src/index';

/** One token's choice and weights, word by word. */
function literal(scores: number[], bias: ArrayLike<number>, sizes: RoutingSizes) {
  const { experts, expertsPerToken: k, groups = 1, scaling = 1, normalize = true } = sizes;
  const { groupsPerToken = groups, groupBest = 2 } = sizes;
  const biased = scores.map((score, e) => Math.fround(score + bias[e]));
  const descending = (list: number[]): number[] =>
    list.map((_, i) => i).sort((a, b) => list[b] - list[a] || a - b);
  const size = experts / groups;
  const groupScores = Array.from({ length: groups }, (_, g) => {
    const own = biased.slice(g * size, (g + 1) * size).sort((a, b) => b - a);
    return own.slice(0, groupBest).reduce((sum, score) => Math.fround(sum + score), 0);
  });
  const kept = new Set(descending(groupScores).slice(0, groupsPerToken));
  const chosen = descending(
    biased.map((score, e) => (kept.has(Math.floor(e / size)) ? score : -Infinity)),
  ).slice(0, k);
  const total = chosen.reduce((sum, e) => sum + scores[e], 0);
  return { chosen, weights: chosen.map((e) => (scaling * scores[e]) / (normalize ? total : 1)) };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  const cases: RoutingSizes[] = [
    { tokens: 1, experts: 1, expertsPerToken: 1 },
    { tokens: 50, experts: 8, expertsPerToken: 2 },
    { tokens: 50, experts: 12, expertsPerToken: 3, groups: 4, groupsPerToken: 2, scaling: 2.5 },
    { tokens: 33, experts: 6, expertsPerToken: 2, groups: 6, groupsPerToken: 3, normalize: false },
    { tokens: 20, experts: 64, expertsPerToken: 8, groups: 8, groupsPerToken: 4, scaling: 2.5 },
    { tokens: 0, experts: 4, expertsPerToken: 2 },
    // V2: softmax, groups by their best expert, weights as they are.
    {
      ...{ tokens: 40, experts: 20, expertsPerToken: 6, groups: 4, groupsPerToken: 3 },
      ...{ gate: 'softmax', groupBest: 1, normalize: false, scaling: 16 },
    },
    {
      ...{ tokens: 40, experts: 20, expertsPerToken: 6, groups: 4, groupsPerToken: 2 },
      ...{ gate: 'softmax', groupBest: 3 },
    },
  ];
  describe.each(cases)('%o', (sizes) => {
    const { tokens, experts, expertsPerToken: k } = sizes;
    const logits = values(tokens * experts, tokens + experts, 4);
    test.each([false, true])('choice, weights and order of rows; bias %s', (biased) => {
      const bias = biased ? values(experts, 9, 0.7) : new Float32Array(experts);
      const routing = routeTokens(logits, sizes, biased ? { bias, kernels } : { kernels });
      const { indices, weights, scores, counts, offsets, slotOfRow, rowOfSlot } = routing;
      for (let t = 0; t < tokens; t += 1) {
        const own = [...scores.slice(t * experts, (t + 1) * experts)];
        const powers = [...logits.slice(t * experts, (t + 1) * experts)].map(Math.exp);
        const sum = powers.reduce((a, b) => a + b, 0);
        own.forEach((score, e) => {
          const power = powers[e];
          const expected = sizes.gate === 'softmax' ? power / sum : power / (1 + power);
          expect(score).toBeCloseTo(expected, 6);
        });
        const expected = literal(own, bias, sizes);
        expect([...indices.slice(t * k, (t + 1) * k)]).toEqual(expected.chosen);
        expected.weights.forEach((weight, j) => {
          expect(weights[t * k + j]).toBeCloseTo(weight, 5);
        });
      }
      // Rows are the slots sorted by expert, and within an expert by slot.
      const sorted = [...indices.keys()].sort((a, b) => indices[a] - indices[b] || a - b);
      expect([...slotOfRow]).toEqual(sorted);
      sorted.forEach((slot, row) => {
        expect(rowOfSlot[slot]).toBe(row);
      });
      expect([...counts]).toEqual(
        Array.from({ length: experts }, (_c, e) => indices.filter((i) => i === e).length),
      );
      expect(offsets[0]).toBe(0);
      counts.forEach((count, e) => {
        expect(offsets[e + 1] - offsets[e]).toBe(count);
      });
    });
  });

  test('ties go to the lower expert, a NaN is never preferred', () => {
    const sizes = { tokens: 1, experts: 4, expertsPerToken: 2 };
    const tied = routeTokens(new Float32Array(4), sizes, { kernels });
    expect([...tied.indices]).toEqual([0, 1]);
    const broken = routeTokens(Float32Array.of(NaN, -9, -8, NaN), sizes, { kernels });
    expect([...broken.indices]).toEqual([2, 1]);
  });

  test('a token stays in its groups, even where their experts are taken out or broken', () => {
    const sizes = { tokens: 1, experts: 6, expertsPerToken: 3, groups: 2, groupsPerToken: 1 };
    const bias = Float32Array.of(0, 0, 0, -Infinity, 0, 0);
    for (const [scores, own] of [
      [[0.1, 0.1, 0.1, NaN, 0.9, 0.8], undefined],
      [[0.1, 0.1, 0.1, 0.7, 0.9, 0.8], bias],
    ] as const) {
      const options = { kernels, ...(own && { bias: own }) };
      expect([...chooseExperts(Float32Array.from(scores), sizes, options)]).toEqual([4, 5, 3]);
    }
  });

  test('writes into what it is given', () => {
    const sizes = { tokens: 5, experts: 8, expertsPerToken: 2 };
    const out = routeTokens(values(40, 1), sizes, { kernels });
    const fresh = routeTokens(values(40, 2), sizes, { kernels });
    expect(out).not.toEqual(fresh);
    expect(routeTokens(values(40, 2), sizes, { kernels, out })).toBe(out);
    expect(out).toEqual(fresh);
  });

  test('the bias moves by its speed towards balance, and stays where the load is the mean', () => {
    const bias = Float32Array.of(0.5, 0, -0.25, 1);
    expect(updateBias(bias, Int32Array.of(9, 4, 1, 2), 0.125, { kernels })).toBe(bias);
    expect([...bias]).toEqual([0.375, 0, -0.125, 1.125]);
    updateBias(bias, Int32Array.of(0, 0, 0, 0), 0.125, { kernels });
    expect([...bias]).toEqual([0.375, 0, -0.125, 1.125]);
  });
});

test.each<[Partial<RoutingSizes>, string]>([
  [{ groups: 3 }, 'groups'],
  [{ groups: 0 }, 'groups'],
  [{ groups: 4, groupsPerToken: 5 }, 'groupsPerToken'],
  [{ groups: 4, groupsPerToken: 0 }, 'groupsPerToken'],
  [{ expertsPerToken: 9 }, 'expertsPerToken'],
  [{ expertsPerToken: 0 }, 'expertsPerToken'],
  [{ groups: 4, groupsPerToken: 1, expertsPerToken: 3 }, 'expertsPerToken'],
  [{ groupBest: 0 }, 'groupBest'],
  [{ tokens: 2 }, 'logits'],
])('routing that cannot be is refused: %o', (sizes, path) => {
  expect(() =>
    routeTokens(new Float32Array(8), { tokens: 1, experts: 8, expertsPerToken: 2, ...sizes }),
  ).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path }));
});
