// AdamW against the formula in float64, moments stored in BF16 or FP32.
import {
  decodeBf16,
  decodeBf16Array,
  encodeBf16,
  loadKernels,
  referenceKernels,
} from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf, values } from '../../../test/support';
import { AdamW, Module, Parameter, Pools, Region, type Tensor, tensorFrom } from '../src/index';
import { settings } from './updates';

class Two extends Module {
  readonly matrix: Parameter;
  readonly norm: Parameter;
  constructor(pools: Pools) {
    super();
    this.matrix = this.parameter('matrix', new Parameter(pools, [5, 7]));
    this.norm = this.parameter('norm', new Parameter(pools, [7], { init: 'ones' }));
  }
}

/** Steps between neighbouring BF16 numbers of the same sign. */
const ulps = (a: number, b: number): number => Math.abs(encodeBf16(a) - encodeBf16(b));

const forms = implementationsOf(referenceKernels(), loadKernels()).flatMap(([name, kernels]) =>
  (['bf16', 'fp32'] as const).map((form) => [name, form, kernels] as const),
);

describe.each(forms)('%s kernels, moments in %s', (_, form, kernels) => {
  const decoded = (moment: Tensor): Float64Array => {
    const stored = moment.readSync();
    return Float64Array.from(form === 'bf16' ? decodeBf16Array(stored as Uint16Array) : stored);
  };
  /** Whether a moment is β · old + new: in BF16 the nearest number or its neighbour, in FP32 within a few roundings. */
  const isSum = (had: number, old: number, added: number): boolean =>
    form === 'bf16'
      ? ulps(had, decodeBf16(encodeBf16(old + added))) <= 1
      : Math.abs(had - old - added) <= 2 ** -22 * (Math.abs(old) + Math.abs(added));
  function setup() {
    const module = new Two(new Pools(kernels));
    const optimizer = new AdamW(kernels, module, { moments: form });
    const loss = tensorFrom(new Region(kernels, 'loss'), [1], Float32Array.of(2));
    const grads = (step: number, size: number): void => {
      module.matrix.grad.readSync().set(values(35, step, size));
      module.norm.grad.readSync().set(values(7, step + 100, size));
    };
    const state = () =>
      [...optimizer.moments()].map(([name, { m, v }], index) => {
        const parameter = index === 0 ? module.matrix : module.norm;
        return {
          name,
          decay: index === 0 ? settings.weightDecay : 0,
          data: Float64Array.from(parameter.data.readSync()),
          grad: Float64Array.from(parameter.grad.readSync()),
          m: decoded(m),
          v: decoded(v),
        };
      });
    return { module, optimizer, loss, grads, state };
  }

  // Norms of about 4, 0.4 and 0.04: clipped at 1 in the first case only.
  test.each([
    ['clipped', 1],
    ['not clipped', 0.1],
    ['tiny', 1e-2],
  ])('six updates, gradients %s', (_name, size) => {
    const { optimizer, loss, grads, state } = setup();
    for (let step = 1; step <= 6; step += 1) {
      grads(step, size);
      const before = state();
      const norm = Math.sqrt(
        before.reduce((sum, { grad }) => sum + grad.reduce((total, g) => total + g * g, 0), 0),
      );
      optimizer.update(loss, settings);
      expect(optimizer.step).toBe(step);
      expect(optimizer.norm.readSync()[0] / norm).toBeCloseTo(1, 6);
      expect(optimizer.finite.readSync()[0]).toBe(1);
      const clip = Math.min(1, settings.maxNorm / (norm + 1e-6));
      expect(clip < 1).toBe(size === 1);
      const { learningRate, beta1, beta2, epsilon } = settings;
      state().forEach((after, index) => {
        const { data, grad, m, v, decay, name } = before[index];
        data.forEach((value, i) => {
          const g = grad[i] * clip;
          const m1 = beta1 * m[i] + (1 - beta1) * g;
          const v1 = beta2 * v[i] + (1 - beta2) * g * g;
          const update = m1 / (1 - beta1 ** step) / (Math.sqrt(v1 / (1 - beta2 ** step)) + epsilon);
          const expected = value - learningRate * (update + decay * value);
          expect(Math.abs(after.data[i] - expected), `${name} ${i}`).toBeLessThan(2e-6);
          expect(isSum(after.m[i], beta1 * m[i], (1 - beta1) * g)).toBe(true);
          expect(isSum(after.v[i], beta2 * v[i], (1 - beta2) * g * g)).toBe(true);
        });
        expect(after.grad.every((value) => value === 0)).toBe(true);
      });
    }
  });

  test('raises versions, so that derived forms follow', () => {
    const { module, optimizer, loss, grads } = setup();
    const before = module.norm.bf16().readSync().slice();
    grads(1, 1);
    optimizer.update(loss, settings);
    expect(module.norm.bf16().readSync()).not.toEqual(before);
  });

  test('without a limit nothing is clipped', () => {
    const { module, optimizer, loss, grads } = setup();
    grads(1, 100);
    optimizer.update(loss, { ...settings, maxNorm: Infinity, weightDecay: 0 });
    // The first update is a step of the learning rate against the sign, whatever the gradient's size.
    const g = values(7, 101);
    module.norm.data.readSync().forEach((value, i) => {
      expect(value).toBeCloseTo(1 - settings.learningRate * Math.sign(g[i]), 5);
    });
  });

  test.each([
    ['a gradient that is NaN', NaN, 2],
    ['an infinite gradient', Infinity, 2],
    ['a loss that is NaN', 0.5, NaN],
    ['an infinite loss', 0.5, -Infinity],
  ])('%s changes no parameter and no moment', (_name, gradient, lossValue) => {
    const { module, optimizer, loss, grads, state } = setup();
    grads(1, 0.1);
    optimizer.update(loss, settings);
    grads(2, 0.1);
    module.norm.grad.readSync()[3] = gradient;
    loss.readSync()[0] = lossValue;
    const before = state();
    optimizer.update(loss, settings);
    expect(optimizer.finite.readSync()[0]).toBe(0);
    state().forEach(({ data, m, v, grad }, index) => {
      expect(data).toEqual(before[index].data);
      expect(m).toEqual(before[index].m);
      expect(v).toEqual(before[index].v);
      expect(grad.every((value) => value === 0)).toBe(true);
    });
    // The next good step goes on from there.
    loss.readSync()[0] = 2;
    grads(3, 0.1);
    optimizer.update(loss, settings);
    expect(optimizer.finite.readSync()[0]).toBe(1);
    expect(state()[0].data).not.toEqual(before[0].data);
  });
});
