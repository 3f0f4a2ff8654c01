// The sequence-wise balance loss on typed arrays against loops over its equations (§2.1.2, eq. 17–20).
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { Pools, Region, Tape, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import {
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import {
  type BalanceLoss,
  type BalanceSizes,
  Router,
  routeTokens,
  type SequenceBalance,
  sequenceBalanceLoss,
} from '../src/index';

const cases: BalanceSizes[] = [
  { sequences: 3, sequenceLength: 7, experts: 5, expertsPerToken: 2, factor: 0.3 },
  { sequences: 1, sequenceLength: 33, experts: 9, expertsPerToken: 4 },
  { sequences: 2, sequenceLength: 1, experts: 1, expertsPerToken: 1 },
];

/** Σ over sequences of Σᵢ fᵢPᵢ times the factor; f from `counted`, P from `scores`. */
function literal(scores: ArrayLike<number>, counted: ArrayLike<number>, sizes: BalanceSizes) {
  const { sequences, sequenceLength, experts, expertsPerToken: k } = sizes;
  const { factor = 1 / sequences } = sizes;
  let loss = 0;
  for (let s = 0; s < sequences; s += 1) {
    const f = new Array<number>(experts).fill(0);
    const shares = new Array<number>(experts).fill(0);
    for (let t = s * sequenceLength; t < (s + 1) * sequenceLength; t += 1) {
      const row = (list: ArrayLike<number>): number[] =>
        Array.from({ length: experts }, (_, e) => list[t * experts + e]);
      const own = row(counted);
      const best = [...own.keys()].sort((a, b) => own[b] - own[a] || a - b).slice(0, k);
      for (const e of best) f[e] += experts / (k * sequenceLength);
      const read = row(scores);
      const total = read.reduce((sum, score) => sum + score, 0);
      read.forEach((score, e) => {
        shares[e] += score / total / sequenceLength;
      });
    }
    f.forEach((value, e) => {
      loss += factor * value * shares[e];
    });
  }
  return loss;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(cases)('%o', (sizes) => {
    const { sequences, sequenceLength, experts, expertsPerToken: k } = sizes;
    const tokens = sequences * sequenceLength;
    const logits = values(tokens * experts, 1, 3);
    const { scores } = routeTokens(logits, { tokens, experts, expertsPerToken: k }, { kernels });

    test('loss, and its gradient with f held', () => {
      const { loss, dscores } = sequenceBalanceLoss(scores, sizes, { kernels });
      expect(loss).toHaveLength(1);
      expect(loss[0]).toBeCloseTo(literal(scores, scores, sizes), 5);
      const numeric = Array.from(scores, (_score, i) => {
        const at = (step: number): number => {
          const moved = [...scores];
          moved[i] += step;
          return literal(moved, scores, sizes);
        };
        return (at(1e-5) - at(-1e-5)) / 2e-5;
      });
      expect(largestDifference(dscores, numeric)).toBeLessThan(1e-5);
    });

    test('replaces what it is given', () => {
      const fresh = sequenceBalanceLoss(scores, sizes, { kernels });
      const out: SequenceBalance = {
        loss: Float32Array.of(9),
        dscores: fresh.dscores.slice().fill(NaN),
        indices: fresh.indices.slice().fill(99),
      };
      const { loss, dscores, indices } = out;
      expect(sequenceBalanceLoss(scores, sizes, { kernels, out })).toBe(out);
      expect(out).toEqual(fresh);
      expect(out.loss).toBe(loss);
      expect(out.dscores).toBe(dscores);
      expect(out.indices).toBe(indices);
    });
  });

  test('is 1 in balance, and as many times that as experts where all tokens go to one', () => {
    const sizes = { sequences: 2, sequenceLength: 4, experts: 4, expertsPerToken: 1 };
    const even = Float32Array.from({ length: 32 }, (_v, i) =>
      Math.floor(i / 4) % 4 === i % 4 ? 1 : 0,
    );
    expect(sequenceBalanceLoss(even, sizes, { kernels }).loss[0]).toBeCloseTo(1, 6);
    const one = Float32Array.from({ length: 32 }, (_v, i) => (i % 4 === 2 ? 1 : 0));
    expect(sequenceBalanceLoss(one, sizes, { kernels }).loss[0]).toBeCloseTo(4, 6);
  });

  test('with a batch’s counts, losses of its parts add up to that of the whole, and so do the gradients', () => {
    const [experts, expertsPerToken] = [6, 2];
    const own = { experts, expertsPerToken };
    const { scores } = routeTokens(values(12 * 6, 5, 2), { ...own, tokens: 12 }, { kernels });
    const whole = sequenceBalanceLoss(
      scores,
      { ...own, sequences: 1, sequenceLength: 12, factor: 1 },
      { kernels },
    );
    const counts = new Int32Array(experts);
    for (const e of whole.indices) counts[e] += 1;
    // Ranks and micro-batches of other sizes: each weighs by its tokens.
    const parts = [
      [0, 3],
      [3, 12],
    ].map(([from, to]) =>
      sequenceBalanceLoss(
        scores.subarray(from * experts, to * experts),
        { ...own, sequences: 1, sequenceLength: to - from, factor: (to - from) / 12 },
        { kernels, counts },
      ),
    );
    expect(parts[0].loss[0] + parts[1].loss[0]).toBeCloseTo(whole.loss[0], 6);
    const joined = parts.flatMap(({ dscores }) => [...dscores]);
    expect(largestDifference(joined, whole.dscores)).toBeLessThan(1e-7);
    expect(parts.flatMap(({ indices }) => [...indices])).toEqual([...whole.indices]);
  });

  test('the same bits as in the router, whatever its bias and groups', () => {
    const sizes = { sequences: 2, sequenceLength: 3, experts: 6, expertsPerToken: 2, factor: 0.3 };
    const router = new Router(new Pools(kernels), {
      hidden: 6,
      experts: 6,
      expertsPerToken: 2,
      groups: 3,
      groupsPerToken: 1,
      scaling: 1,
      normalize: true,
    });
    // The weight is the identity: the router's logits are its input.
    for (let e = 0; e < 6; e += 1) router.weight.data.readSync()[7 * e] = 1;
    router.bias.readSync().set(values(6, 2));
    const region = new Region(kernels, 'test');
    const logits = values(36, 3, 2);
    const loss = tensorFrom(region, [1], new Float32Array(1));
    // A loss is that of training: nothing is counted that no gradient follows.
    const route = (balance: BalanceLoss): void => {
      const x = tensorFrom(region, [6, 6], logits);
      const tape = new Tape(region);
      tape.frame('test', () => [router.forward(tape, x, balance).weights]);
    };
    route({ ...sizes, loss });
    const still = new Tape(region, { grad: false });
    still.scoped(() => {
      router.forward(still, tensorFrom(region, [6, 6], logits), { ...sizes, loss });
      return [];
    });
    const { scores } = routeTokens(logits, { ...sizes, tokens: 6 }, { kernels });
    const own = sequenceBalanceLoss(scores, sizes, { kernels });
    expect(firstDifference(own.loss, loss.readSync())).toBe(-1);

    const counts = Int32Array.of(5, 1, 0, 2, 9, 3);
    loss.readSync().fill(0);
    route({ ...sizes, loss, counts: tensorFrom(region, [6], counts) });
    const batch = sequenceBalanceLoss(scores, sizes, { kernels, counts });
    expect(firstDifference(batch.loss, loss.readSync())).toBe(-1);
    expect(batch.loss[0]).not.toBe(own.loss[0]);
  });
});

describe('refused:', () => {
  const sizes = { sequences: 2, sequenceLength: 3, experts: 4, expertsPerToken: 2 };
  const scores = values(24, 1).map(Math.abs);
  const refusal = (path: string): unknown =>
    expect.objectContaining({
      code: 'ERR_BALEEN_ROUTER_SIZES',
      path,
      hint: expect.any(String) as string,
    });

  test.each<[string, Partial<BalanceSizes>]>([
    ['sequences', { sequences: 0 }],
    ['sequenceLength', { sequenceLength: 1.5 }],
    ['experts', { experts: NaN }],
    ['expertsPerToken', { expertsPerToken: 5 }],
    ['scores', { sequences: 3 }],
  ])('%s', (path, change) => {
    expect(() => sequenceBalanceLoss(scores, { ...sizes, ...change })).toThrow(refusal(path));
  });

  test('counts', () => {
    const counts = new Int32Array(3);
    expect(() => sequenceBalanceLoss(scores, sizes, { counts })).toThrow(refusal('counts'));
  });

  test('arrays to write into', () => {
    const out = sequenceBalanceLoss(scores, sizes);
    const wrong = {
      loss: new Float32Array(2),
      dscores: new Float32Array(2),
      indices: new Int32Array(2),
    };
    for (const name of ['loss', 'dscores', 'indices'] as const)
      expect(() =>
        sequenceBalanceLoss(scores, sizes, { out: { ...out, [name]: wrong[name] } }),
      ).toThrow(refusal(`out.${name}`));
  });
});
