// The router as a module, and permutation on the tape: gradients, loads, FP8 rows.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import {
  checkGradients,
  initialize,
  Pools,
  Region,
  swiglu,
  Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf, largestDifference, values } from '../../../test/support';
import { permute, Router, type RouterSpec, routeTokens, unpermuteAdd } from '../src/index';

const spec: RouterSpec = {
  hidden: 5,
  experts: 6,
  expertsPerToken: 2,
  groups: 3,
  groupsPerToken: 2,
  scaling: 2.5,
  normalize: true,
};

function setup(kernels: Kernels, changes: Partial<RouterSpec> = {}) {
  const router = new Router(new Pools(kernels), { ...spec, ...changes });
  initialize(router, 0.7, 2);
  router.bias.readSync().set(values(6, 8, 0.3));
  const inputs = new Region(kernels, 'inputs');
  const x = tensorFrom(inputs, [8, 5], values(40, 3));
  const base = tensorFrom(inputs, [8, 5], values(40, 4));
  return { router, inputs, x, base, region: new Region(kernels, 'test') };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each([
    { normalize: true },
    { normalize: false },
    { gate: 'softmax', normalize: true },
    { gate: 'softmax', normalize: false, groupBest: 1 },
  ] as const)('gradients through gate weights, permutation and weighted sum; %o', (changes) => {
    const { router, inputs, x, base, region } = setup(kernels, changes);
    const z = tensorFrom(inputs, [16, 5], values(80, 7));
    const results = checkGradients({
      region,
      inputs: { x, z, base },
      module: router,
      step: 2e-3, // small, so that no choice changes
      body: (tape) => {
        const routing = router.forward(tape, x);
        const sorted = permute(tape, x, routing);
        const y = swiglu(tape, sorted, z); // an expert's rows differ from another's
        return unpermuteAdd(tape, base, y, routing.weights, routing.rowOfSlot);
      },
    });
    expect(new Set(results.map(({ name }) => name))).toEqual(new Set(['x', 'z', 'base', 'weight']));
    for (const { name, error } of results) expect(error, name).toBeLessThan(5e-3);
    expect(region.liveBytes).toBe(0);
  });

  test('the balance loss and its gradient, along random directions of tokens and weights', () => {
    const { router, inputs, x, region } = setup(kernels);
    const factor = 0.3;
    const loss = tensorFrom(inputs, [1], new Float32Array(1));
    const g = tensorFrom(inputs, [8, 2], values(16, 5));
    const gradients = (strength: number): Float32Array[] => {
      kernels.fill(router.weight.grad, 0);
      const tape = new Tape(region);
      const balance = { factor: strength, sequences: 2, loss };
      const [weights] = tape.frame('test', () => [router.forward(tape, x, balance).weights]);
      const [dx] = tape.backFrame([weights], [g], [x]);
      const list = [dx, router.weight.grad].map(
        (tensor) => tensor?.readSync().slice() as Float32Array,
      );
      weights.block.release();
      dx?.block.release();
      expect(region.liveBytes).toBe(0);
      return list;
    };
    const [withLoss, without] = [gradients(factor), gradients(0)];
    const lossAt = (): number => {
      loss.readSync()[0] = 0;
      gradients(factor);
      return loss.readSync()[0];
    };
    expect(lossAt()).toBeGreaterThan(0);
    [x, router.weight.data].forEach((tensor: Tensor, index) => {
      const data = tensor.readSync() as Float32Array;
      const original = data.slice();
      for (let direction = 0; direction < 4; direction += 1) {
        const along = values(data.length, 20 + direction);
        const at = (step: number): number => {
          data.set(original.map((value, i) => value + step * along[i]));
          return lossAt();
        };
        const numeric = (at(2e-3) - at(-2e-3)) / 4e-3;
        data.set(original);
        let analytic = 0;
        along.forEach((value, i) => {
          analytic += value * (withLoss[index][i] - without[index][i]);
        });
        expect(Math.abs(numeric)).toBeGreaterThan(1e-3);
        expect(Math.abs(analytic - numeric)).toBeLessThan(2e-3);
      }
    });
  });

  test.each([{}, { gate: 'softmax', groupBest: 1 }] as const)(
    'routes as the function on typed arrays does; %o',
    (changes) => {
      const { router, x, region } = setup(kernels, changes);
      const logits = new Float32Array(48);
      const [tokens, weight] = [x.readSync(), router.weight.data.readSync()];
      for (let t = 0; t < 8; t += 1)
        for (let e = 0; e < 6; e += 1)
          for (let c = 0; c < 5; c += 1) logits[t * 6 + e] += tokens[t * 5 + c] * weight[e * 5 + c];
      const bias = router.bias.readSync() as Float32Array;
      const expected = routeTokens(logits, { ...router.spec, tokens: 8 }, { bias, kernels });
      const tape = new Tape(region, { grad: false });
      tape.scoped(() => {
        const routing = router.forward(tape, x);
        for (const name of ['indices', 'offsets', 'slotOfRow', 'rowOfSlot'] as const)
          expect([...routing[name].readSync()], name).toEqual([...expected[name]]);
        expect(largestDifference(routing.weights.readSync(), expected.weights)).toBeLessThan(1e-6);
        return [];
      });
    },
  );

  test.each(['e4m3', 'e5m2'] as const)('%s rows move as codes and scales, undecoded', (dtype) => {
    const { router, x, inputs, region } = setup(kernels);
    const holder = new Tape(inputs);
    const scaled = holder.emptyScaled([8, 5], 1, 128, { dtype, scaleFormat: 'powerOfTwo' });
    kernels.quantize(scaled, x, { rows: 8, cols: 5, powerOfTwo: true });
    const tape = new Tape(region);
    const g = tensorFrom(inputs, [16, 5], values(80, 6));
    const [sorted] = tape.frame('test', () => {
      const routing = router.forward(tape, x);
      const out = permute(tape, scaled, routing);
      expect([out.codes.dtype, out.scaleFormat]).toEqual([dtype, 'powerOfTwo']);
      const slots = routing.slotOfRow.readSync();
      slots.forEach((slot, row) => {
        const token = Math.floor(slot / 2);
        expect(out.codes.rows(row, 1).readSync()).toEqual(scaled.codes.rows(token, 1).readSync());
        expect(out.scales.readSync()[row]).toBe(scaled.scales.readSync()[token]);
      });
      return [out];
    });
    // Gradients come back in FP32, summed over a token's experts.
    const [dx] = tape.backFrame([sorted], [g], [scaled]);
    const total = (list: ArrayLike<number>): number => Array.from(list).reduce((a, b) => a + b, 0);
    expect(dx?.shape).toEqual([8, 5]);
    expect(total(dx?.readSync() ?? [])).toBeCloseTo(total(g.readSync()), 4);
    dx?.block.release();
    sorted.codes.block.release();
    sorted.scales.block.release();
    expect(region.liveBytes).toBe(0);
  });
});
