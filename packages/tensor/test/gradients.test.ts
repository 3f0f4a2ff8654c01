// Every basic operation's gradient against central differences, and that nothing stays behind on the tape.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { decibels, implementationsOf, values } from '../../../test/support';
import {
  add,
  castTo,
  checkGradients,
  concatColumns,
  concatRows,
  dequantize,
  embedding,
  initialize,
  Module,
  Parameter,
  Pools,
  plainLinears,
  Region,
  recompute,
  rmsNorm,
  sliceSequences,
  splitColumns,
  swiglu,
  Tape,
  type Tensor,
  tensorFrom,
} from '../src/index';

/** Parameters without a layer around them. */
class Weights extends Module {
  readonly own: Record<string, Parameter> = {};
  constructor(pools: Pools, shapes: Record<string, number[]>) {
    super();
    for (const [name, shape] of Object.entries(shapes))
      this.own[name] = this.parameter(name, new Parameter(pools, shape));
    initialize(this, 0.7, 3);
  }
}

function inputsOf(kernels: Kernels, shapes: Record<string, number[]>): Record<string, Tensor> {
  const pool = new Region(kernels, 'inputs');
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape], index) => [
      name,
      tensorFrom(
        pool,
        shape,
        values(
          shape.reduce((a, b) => a * b),
          index + 1,
        ),
      ),
    ]),
  );
}

function expectGradients(
  kernels: Kernels,
  inputs: Record<string, Tensor>,
  body: (tape: Tape) => Tensor,
  module?: Module,
): void {
  const region = new Region(kernels, 'test');
  const results = checkGradients({ region, inputs, body, ...(module ? { module } : {}) });
  const named = new Set(results.map(({ name }) => name));
  const expected = [...Object.keys(inputs), ...(module ? module.parameters() : [])];
  expect(named.size).toBe(expected.length);
  for (const { name, error } of results) expect(error, name).toBeLessThan(2e-3);
  // A check of nothing but zeros would prove nothing.
  for (const name of named)
    expect(
      Math.max(...results.filter((r) => r.name === name).map((r) => Math.abs(r.numeric))),
      name,
    ).toBeGreaterThan(1e-3);
  expect(region.liveBytes).toBe(0);
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test('add, also of a value to itself', () => {
    const { a, b } = inputsOf(kernels, { a: [3, 4], b: [3, 4] });
    expectGradients(kernels, { a, b }, (tape) => add(tape, add(tape, a, b), a));
    expectGradients(kernels, { a }, (tape) => add(tape, a, a));
  });

  test('RMSNorm, over an odd width', () => {
    const weights = new Weights(new Pools(kernels), { weight: [7] });
    const { x } = inputsOf(kernels, { x: [5, 7] });
    expectGradients(kernels, { x }, (tape) => rmsNorm(tape, x, weights.own.weight, 1e-6), weights);
  });

  test('SwiGLU', () => {
    const { gate, up } = inputsOf(kernels, { gate: [5, 7], up: [5, 7] });
    expectGradients(kernels, { gate, up }, (tape) => swiglu(tape, gate, up));
  });

  test('embedding, with a repeated id and one that is absent', () => {
    const weights = new Weights(new Pools(kernels), { table: [6, 5] });
    const ids = tensorFrom(new Region(kernels, 'ids'), [4], Int32Array.of(3, 0, 3, 5));
    expectGradients(kernels, {}, (tape) => embedding(tape, weights.own.table, ids), weights);
    const grad = weights.own.table.grad.readSync();
    expect([...grad.slice(5, 10)]).toEqual([0, 0, 0, 0, 0]);
  });

  test('columns split and joined, rows joined, sequences sliced', () => {
    const { x, y } = inputsOf(kernels, { x: [6, 7], y: [2, 7] });
    expectGradients(kernels, { x }, (tape) => {
      const [a, b, c] = splitColumns(tape, x, [2, 1, 4]);
      return concatColumns(tape, [c, a, b, a]);
    });
    // Columns that no part takes get no gradient.
    expectGradients(kernels, { x }, (tape) => splitColumns(tape, x, [3])[0]);
    expectGradients(kernels, { x, y }, (tape) => concatRows(tape, [y, x, y]));
    expectGradients(kernels, { x }, (tape) => concatRows(tape, [x]));
    expectGradients(kernels, { x }, (tape) =>
      add(tape, sliceSequences(tape, x, 2, 1, 2), sliceSequences(tape, x, 2, 0, 2)),
    );
  });

  test('linear layers: two outputs of one input, in FP32', () => {
    const layer = plainLinears('fp32').linear(new Pools(kernels), {
      in: 7,
      outs: { wide: 9, narrow: 1 },
    });
    initialize(layer, 0.5, 5);
    const { x } = inputsOf(kernels, { x: [5, 7] });
    expectGradients(
      kernels,
      { x },
      (tape) => {
        const { wide, narrow } = layer.forward(tape, x);
        return concatColumns(tape, [wide, narrow]);
      },
      layer,
    );
  });

  test('expert-wise linear layers, with uneven and empty groups at either end and between', () => {
    const layer = plainLinears('fp32').groupedLinear(new Pools(kernels), {
      experts: 6,
      in: 5,
      outs: { gate: 4, up: 3 },
    });
    initialize(layer, 0.5, 5);
    const { x } = inputsOf(kernels, { x: [8, 5] });
    const offsets = tensorFrom(
      new Region(kernels, 'offsets'),
      [7],
      Int32Array.of(0, 0, 5, 5, 6, 8, 8),
    );
    expectGradients(
      kernels,
      { x },
      (tape) => {
        const { gate, up } = layer.forward(tape, x, offsets);
        return concatColumns(tape, [gate, up]);
      },
      layer,
    );
    for (const { grad } of Object.values(layer.weights)) {
      const each = grad.size / 6;
      for (const e of [0, 2, 5])
        expect(grad.readSync().slice(e * each, (e + 1) * each)).toEqual(new Float32Array(each));
    }
  });

  test('recomputed regions, one inside another, with two outputs of which one is not used', () => {
    const weights = new Weights(new Pools(kernels), { outer: [6], inner: [6] });
    const { x } = inputsOf(kernels, { x: [4, 6] });
    expectGradients(
      kernels,
      { x },
      (tape) => {
        const [y] = recompute(tape, [x], () => {
          const [n, unused] = recompute(tape, [x], () => {
            const normed = rmsNorm(tape, x, weights.own.inner, 1e-6);
            return [normed, swiglu(tape, normed, normed)] as const;
          });
          expect(unused.size).toBe(24);
          return [rmsNorm(tape, swiglu(tape, n, x), weights.own.outer, 1e-6), unused] as const;
        });
        return swiglu(tape, y, y);
      },
      weights,
    );
  });

  test('a recomputed region that reads what another made, where nothing else asks for it', () => {
    const weights = new Weights(new Pools(kernels), { first: [6], second: [6] });
    const { x } = inputsOf(kernels, { x: [4, 6] });
    expectGradients(
      kernels,
      { x },
      (tape) => {
        const [a] = recompute(tape, [x], () => [rmsNorm(tape, x, weights.own.first, 1e-6)]);
        const [b] = recompute(tape, [a], () => [rmsNorm(tape, a, weights.own.second, 1e-6)]);
        return swiglu(tape, b, b);
      },
      weights,
    );
  });

  test('recomputation changes no bit of any gradient', () => {
    const weights = new Weights(new Pools(kernels), { weight: [6] });
    const { x } = inputsOf(kernels, { x: [4, 6] });
    const region = new Region(kernels, 'test');
    const run = (again: boolean): Float32Array[] => {
      kernels.fill(weights.own.weight.grad, 0);
      const tape = new Tape(region);
      const body = () => [rmsNorm(tape, x, weights.own.weight, 1e-6)] as const;
      const [y] = tape.frame('test', () => {
        const [n] = again ? recompute(tape, [x], body) : body();
        return [swiglu(tape, n, add(tape, n, x))];
      });
      const [dx] = tape.backFrame([y], [x], [x]);
      const results = [dx, weights.own.weight.grad].map(
        (tensor) => tensor?.readSync().slice() as Float32Array,
      );
      dx?.block.release();
      y.block.release();
      expect(region.liveBytes).toBe(0);
      return results;
    };
    expect(run(true)).toEqual(run(false));
  });

  test('casts and decoding pass their gradient unchanged', () => {
    const { x, g } = inputsOf(kernels, { x: [2, 5], g: [2, 5] });
    const region = new Region(kernels, 'test');
    const tape = new Tape(region);
    const [y] = tape.frame('cast', () => [castTo(tape, x, 'bf16')]);
    expect(y.dtype).toBe('bf16');
    const [dx] = tape.backFrame([y], [g], [x]);
    expect(dx?.readSync()).toEqual(g.readSync());
    dx?.block.release();
    y.block.release();
    const inputs = new Region(kernels, 'scaled');
    const scaledTape = new Tape(inputs);
    const scaled = scaledTape.emptyScaled([2, 5], 1, 128);
    kernels.quantize(scaled, x, { rows: 2, cols: 5 });
    const [z] = tape.frame('dequantize', () => [dequantize(tape, scaled)]);
    expect(decibels(x.readSync(), z.readSync())).toBeGreaterThan(25);
    const [dz] = tape.backFrame([z], [g], [scaled]);
    expect(dz?.readSync()).toEqual(g.readSync());
    dz?.block.release();
    z.block.release();
    expect(region.liveBytes).toBe(0);
  });

  test('BF16 layers are their FP32 selves to 40 dB and more, in results and in every gradient', () => {
    const run = (precision: 'fp32' | 'bf16'): Float32Array[] => {
      const pools = new Pools(kernels);
      const layer = plainLinears(precision).linear(pools, { in: 40, outs: { out: 30 } });
      const experts = plainLinears(precision).groupedLinear(pools, {
        experts: 3,
        in: 30,
        outs: { out: 20 },
      });
      initialize(layer, 0.2, 1);
      initialize(experts, 0.2, 2);
      const { x, g } = inputsOf(kernels, { x: [16, 40], g: [16, 20] });
      const offsets = tensorFrom(new Region(kernels, 'o'), [4], Int32Array.of(0, 9, 9, 16));
      const tape = new Tape(new Region(kernels, 'test'));
      const [y] = tape.frame('test', () => [
        experts.forward(tape, layer.forward(tape, x).out, offsets).out,
      ]);
      const [dx] = tape.backFrame([y], [g], [x]);
      return [y, dx, layer.weights.out.grad, experts.weights.out.grad].map(
        (tensor) => tensor?.readSync().slice() as Float32Array,
      );
    };
    const exact = run('fp32');
    run('bf16').forEach((list, index) => {
      const ratio = decibels(exact[index], list);
      expect(ratio).toBeGreaterThan(40);
      expect(ratio).toBeLessThan(70);
    });
  });
});
