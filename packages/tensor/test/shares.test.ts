// Ranks that share an update (ZeRO-1) come to the bits of one that is alone, and none has moments of another's elements.
import { loadKernels, nullKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf, values } from '../../../test/support';
import { AdamW, Module, Parameter, Pools, Region, tensorFrom } from '../src/index';
import { settings } from './updates';

/** Odd sizes; the first is cut into two pieces, the last is smaller than the ranks are many. */
const shapes = [[301, 305], [7], [3, 5, 11], [2]] as const;

class Odd extends Module {
  readonly all: Parameter[];
  constructor(pools: Pools) {
    super();
    this.all = shapes.map((shape, i) => this.parameter(`p${i}`, new Parameter(pools, shape)));
  }
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  /** Three updates on ranks that have the same gradients, with what ranks tell each other done by hand. */
  function train(ranks: number, spoil = false) {
    const models = Array.from({ length: ranks }, () => new Odd(new Pools(kernels)));
    const region = new Region(kernels, 'loss');
    const loss = tensorFrom(region, [1], Float32Array.of(spoil ? NaN : 2));
    const optimizers = models.map(
      (model, rank) => new AdamW(kernels, model, { share: { rank, ranks } }),
    );
    for (let step = 0; step < 3; step += 1) {
      for (const { all } of models)
        all.forEach(({ grad }, i) => {
          grad.readSync().set(values(grad.size, 10 * step + i));
        });
      for (const optimizer of optimizers) optimizer.measure();
      const sums = optimizers.map(({ squares }) => squares.readSync());
      const total = sums[0].map((_value, i) => sums.reduce((sum, own) => sum + own[i], 0));
      for (const own of sums) own.set(total);
      for (const optimizer of optimizers) optimizer.apply(loss, settings);
      // Whose elements these are hands them round.
      optimizers.forEach((optimizer, rank) => {
        for (const [name, { start, m }] of optimizer.moments()) {
          const at = Number(name.slice(1));
          const own = models[rank].all[at].data.readSync().subarray(start, start + m.size);
          for (const { all } of models) all[at].data.readSync().set(own, start);
        }
      });
    }
    const moments = new Map<string, number[]>();
    for (const optimizer of optimizers)
      for (const [name, { start, m, v }] of optimizer.moments()) {
        const held = moments.get(name) ?? [];
        expect(start, `${name} of ${ranks} ranks`).toBe(held.length / 2);
        m.readSync().forEach((value, i) => held.push(value, v.readSync()[i]));
        moments.set(name, held);
      }
    return {
      weights: models.map(({ all }) => all.map(({ data }) => [...data.readSync()])),
      grads: models.flatMap(({ all }) => all.flatMap(({ grad }) => [...grad.readSync()])),
      moments,
      norms: optimizers.map(({ norm }) => norm.readSync()[0]),
      finite: optimizers.map(({ finite }) => finite.readSync()[0]),
      held: optimizers.map(({ region: { liveBytes } }) => liveBytes),
    };
  }

  const alone = train(1);

  test.each([2, 3, 7])('%i ranks', (ranks) => {
    const shared = train(ranks);
    for (const weights of shared.weights) expect(weights).toEqual(alone.weights[0]);
    expect(shared.moments).toEqual(alone.moments);
    for (const norm of shared.norms) expect(norm).toBe(alone.norms[0]);
    expect(shared.grads.every((value) => value === 0)).toBe(true);
    // Two pieces of nearly all elements: with two ranks each has about half.
    if (ranks === 2) expect(Math.max(...shared.held)).toBeLessThan(0.8 * alone.held[0]);
  });

  test('a loss that is not finite changes nothing on any rank', () => {
    const spoiled = train(2, true);
    expect(spoiled.finite).toEqual([0, 0]);
    expect(spoiled.weights.flat(3).every((value) => value === 0)).toBe(true);
  });
});

test('a large parameter is cut into few pieces', () => {
  class Experts extends Module {
    constructor(pools: Pools) {
      super();
      this.parameter('gate', new Parameter(pools, [256, 2048, 7168]));
    }
  }
  const kernels = nullKernels();
  expect(new AdamW(kernels, new Experts(new Pools(kernels))).squares.size).toBe(256);
});

test('a number of ranks that cannot be is refused', () => {
  const kernels = referenceKernels();
  expect(
    () => new AdamW(kernels, new Odd(new Pools(kernels)), { share: { rank: 0, ranks: 0 } }),
  ).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_TENSOR_SHAPE' }) as Error);
});
