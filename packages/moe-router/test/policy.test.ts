// Balancing as a policy: each rule against its formula, schedules, state, and what reduces counts.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { Pools, writeTensor } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf, randomFrom, values } from '../../../test/support';
import {
  Balancer,
  type BiasRule,
  balancePolicy,
  maxViolation,
  Router,
  routeTokens,
  sequenceBalanceLoss,
  updateBias,
  valueAt,
} from '../src/index';

const rules: BiasRule[] = ['sign', 'proportional', 'ema'];

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(rules)('%s', (rule) => {
    const policy = balancePolicy({ rule, speed: 0.25, decay: 0.75 });
    const batches = [
      [9, 4, 1, 2],
      [0, 4, 4, 8],
      [3, 3, 3, 3],
    ];

    test('moves the bias by its formula', () => {
      const balancer = new Balancer(4, policy, { kernels });
      let average = [1, 1, 1, 1];
      let bias = [0, 0, 0, 0];
      for (const counts of batches) {
        const mean = counts.reduce((sum, count) => sum + count, 0) / 4;
        average = average.map((a, e) => 0.75 * a + 0.25 * (counts[e] / mean));
        const gap = (e: number): number => (rule === 'ema' ? 1 - average[e] : 1 - counts[e] / mean);
        bias = bias.map((b, e) => b + 0.25 * (rule === 'sign' ? Math.sign(gap(e)) : gap(e)));
        balancer.count(Int32Array.from(counts));
        balancer.update();
        balancer.bias.forEach((value, e) => {
          expect(value).toBeCloseTo(bias[e], 6);
        });
        if (rule === 'ema')
          balancer.average.forEach((value, e) => {
            expect(value).toBeCloseTo(average[e], 6);
          });
        expect([...balancer.counts]).toEqual([0, 0, 0, 0]);
      }
    });

    test('the same bits as in the router', () => {
      const balancer = new Balancer(4, policy, { kernels });
      const router = new Router(new Pools(kernels), {
        ...{ hidden: 4, experts: 4, expertsPerToken: 2, groups: 1, groupsPerToken: 1 },
        ...{ scaling: 1, normalize: true },
      });
      for (const counts of batches) {
        balancer.count(Int32Array.from(counts));
        balancer.update();
        writeTensor(router.load, Int32Array.from(counts));
        router.updateBias(0.25, policy);
        expect(router.bias.readSync()).toEqual(balancer.bias);
        expect(router.load.readSync()).toEqual(new Int32Array(4));
      }
    });

    test('counts of micro-batches and of ranks add up to those of the batch', () => {
      const whole = new Balancer(4, policy, { kernels });
      whole.count(Int32Array.of(9, 8, 5, 10));
      whole.update();
      const parts = new Balancer(4, policy, { kernels });
      parts.count(Int32Array.of(9, 4, 1, 2));
      parts.count(Int32Array.of(0, 4, 4, 8));
      parts.update();
      expect(parts.state()).toEqual(whole.state());
      const rank = new Balancer(4, policy, { kernels });
      rank.count(Int32Array.of(9, 4, 1, 2));
      rank.update(0, (counts) => {
        [0, 4, 4, 8].forEach((count, e) => (counts[e] += count));
      });
      expect(rank.state()).toEqual(whole.state());
    });

    test('balances a router whose tokens prefer the first experts', () => {
      const random = randomFrom(7);
      const experts = 8;
      const sizes = { tokens: 512, experts, expertsPerToken: 2 };
      const balancer = new Balancer(
        experts,
        { ...policy, speed: (done) => (done > 0.8 ? 0.002 : 0.02) },
        { kernels },
      );
      const violations: number[] = [];
      for (let step = 0; step < 200; step += 1) {
        const logits = Float32Array.from(
          { length: 512 * experts },
          (_v, i) => 2 * random() - 0.3 * (i % experts),
        );
        const { counts } = routeTokens(logits, sizes, { bias: balancer.bias, kernels });
        violations.push(maxViolation(counts));
        balancer.count(counts);
        balancer.update(step / 200);
      }
      expect(violations[0]).toBeGreaterThan(1);
      expect(Math.max(...violations.slice(-10))).toBeLessThan(0.3);
    });

    test('goes on from its saved state, to the bit', () => {
      const one = new Balancer(4, policy, { kernels });
      for (const counts of batches) {
        one.count(Int32Array.from(counts));
        one.update();
      }
      const other = new Balancer(4, policy, { kernels });
      other.restore(JSON.parse(JSON.stringify(one.state())) as ReturnType<typeof one.state>);
      for (const balancer of [one, other]) {
        balancer.count(Int32Array.of(7, 1, 1, 3));
        balancer.update();
      }
      expect(other.state()).toEqual(one.state());
    });
  });

  test('without speed the bias stays, and without tokens nothing changes', () => {
    const still = new Balancer(2, balancePolicy({ speed: 0 }), { kernels });
    still.count(Int32Array.of(4, 0));
    still.update(0);
    expect([...still.bias]).toEqual([0, 0]);
    const idle = new Balancer(2, balancePolicy({ rule: 'ema', speed: 1 }), { kernels });
    idle.update(0);
    expect(idle.state()).toEqual({ bias: [0, 0], average: [1, 1] });
  });
});

describe('refused:', () => {
  const refusal = (path: string): Error =>
    expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path }) as Error;

  test('rules and losses that are unknown', () => {
    expect(() => balancePolicy({ rule: 'Sign' as BiasRule })).toThrow(refusal('rule'));
    expect(() => balancePolicy({ lossOver: 'token' as 'batch' })).toThrow(refusal('lossOver'));
  });

  test('schedules that are not told how far the training is, or told wrong', () => {
    const balancer = new Balancer(2, balancePolicy());
    balancer.count(Int32Array.of(4, 0));
    for (const done of [undefined, NaN, -0.1, 1.1])
      expect(() => {
        balancer.update(done);
      }, String(done)).toThrow(refusal('done'));
    // And nothing was lost by it.
    expect([...balancer.counts]).toEqual([4, 0]);
    const whole = new Balancer(2, balancePolicy({ speed: 1 }));
    expect(() => {
      whole.update(((counts: Int32Array) => counts) as unknown as number);
    }).toThrow(refusal('done'));
  });

  test('biases and updates that would spoil every choice after them', () => {
    const balancer = new Balancer(2, balancePolicy({ speed: 1 }));
    const router = new Router(new Pools(referenceKernels()), {
      ...{ hidden: 2, experts: 2, expertsPerToken: 1, groups: 1, groupsPerToken: 1 },
      ...{ scaling: 1, normalize: true },
    });
    // What is finite in doubles may not be in FP32.
    for (const value of [NaN, Infinity, 1e39]) {
      expect(() => {
        balancer.restore({ bias: [0, value], average: [1, 1] });
      }).toThrow(refusal('bias[1]'));
      expect(() => {
        router.restoreBias([0, value]);
      }).toThrow(refusal('bias[1]'));
    }
    const update = (speed: number, options: object): (() => void)[] => [
      () => updateBias(new Float32Array(2), Int32Array.of(3, 1), speed, options),
      () => {
        router.updateBias(speed, options);
      },
    ];
    for (const body of update(NaN, {})) expect(body).toThrow(refusal('speed'));
    for (const body of update(1, { rule: 'Sign' })) expect(body).toThrow(refusal('rule'));
    for (const body of update(1, { decay: 1 })) expect(body).toThrow(refusal('decay'));
  });
});

describe('the auxiliary loss', () => {
  const sizes = { tokens: 12, experts: 4, expertsPerToken: 2 };
  const { scores } = routeTokens(values(48, 3, 2), sizes);
  const micro = { sequences: 3, sequenceLength: 4, expertsPerToken: 2 };

  test('is each sequence’s, α shared among those of the batch', () => {
    const balancer = new Balancer(4, balancePolicy({ factor: (done) => (done < 0.5 ? 0.3 : 0) }));
    const own = balancer.loss(scores, { ...micro, batchSequences: 6 }, { done: 0 });
    expect(own).toEqual(sequenceBalanceLoss(scores, { ...micro, experts: 4, factor: 0.3 / 6 }));
    const out = balancer.loss(scores, micro, { done: 0.7, out: own });
    expect(out).toBe(own);
    expect(out.loss[0]).toBe(0);
    expect(out.dscores.every((value) => value === 0)).toBe(true);
  });

  test('is the batch’s, whose micro-batches need the counts of all', () => {
    const balancer = new Balancer(4, balancePolicy({ lossOver: 'batch', factor: 0.3 }));
    const one = { ...micro, sequences: 1, sequenceLength: 12, experts: 4, factor: 0.3 };
    const whole = balancer.loss(scores, micro);
    expect(whole).toEqual(sequenceBalanceLoss(scores, one));
    const counts = new Int32Array(4);
    for (const e of whole.indices) counts[e] += 1;
    const parts = [0, 1, 2].map((part) =>
      balancer.loss(
        scores.subarray(part * 16, (part + 1) * 16),
        { ...micro, sequences: 1, batchSequences: 3 },
        { counts },
      ),
    );
    expect(parts.reduce((sum, { loss }) => sum + loss[0], 0)).toBeCloseTo(whole.loss[0], 6);
    expect(() => balancer.loss(scores, { ...micro, batchSequences: 6 })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path: 'counts' }) as Error,
    );
  });
});

test('V3’s policy: γ is 0 for the last 500 billion tokens of 14.8 trillion', () => {
  const { rule, speed, lossOver, factor } = balancePolicy();
  expect({ rule, lossOver, factor }).toEqual({ rule: 'sign', lossOver: 'sequence', factor: 1e-4 });
  expect(valueAt(speed, 14.2 / 14.8)).toBe(0.001);
  expect(valueAt(speed, 14.4 / 14.8)).toBe(0);
  expect(valueAt(0.5, 1)).toBe(0.5);
});

describe('refused:', () => {
  const balancer = new Balancer(2, balancePolicy());
  const refusal = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path });

  test('states of another size, or not finite', () => {
    const average = [1, 1];
    expect(() => {
      balancer.restore({ bias: [0, NaN], average });
    }).toThrow(refusal('bias[1]'));
    expect(() => {
      balancer.restore({ bias: [0], average });
    }).toThrow(refusal('bias'));
    expect(() => {
      balancer.restore({ bias: [0, 0], average: [1, Infinity] });
    }).toThrow(refusal('average[1]'));
    expect(balancer.state()).toEqual({ bias: [0, 0], average: [1, 1] });
  });

  test('counts of another size, and an ema without its average', () => {
    expect(() => {
      balancer.count(new Int32Array(3));
    }).toThrow(refusal('counts'));
    const [bias, counts] = [new Float32Array(2), new Int32Array(2)];
    expect(() => updateBias(bias, new Int32Array(1), 1)).toThrow(refusal('counts'));
    expect(() => updateBias(bias, counts, 1, { rule: 'ema' })).toThrow(refusal('average'));
  });
});
