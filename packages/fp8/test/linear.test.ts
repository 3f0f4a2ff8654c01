// FP8 linear layers, judged by signal-to-noise against the same layers in FP32, and bit by bit where bits are promised.
import { cpuBuffer, type Kernels, loadKernels, referenceKernels, viewOf } from '@baleen/kernels';
import {
  initialize,
  type LinearFactory,
  Pools,
  plainLinears,
  Region,
  recompute,
  type ScaledTensor,
  swiglu,
  Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf, values } from '../../../test/support';
import { fp8Linears, quantizeActivations } from '../src/index';

const copyOf = (tensor: Tensor | undefined): Float32Array =>
  tensor?.readSync().slice() as Float32Array;

/** Widths that cross blocks with ragged edges; experts of 130, 0, 7, 128 and 0 rows. */
const [width, inner, outer] = [136, 264, 72];
const borders = Int32Array.of(0, 130, 130, 137, 265, 265);

interface Results {
  y: Float32Array;
  dx: Float32Array;
  weights: Float32Array[];
}

const differences = (a: Results, b: Results): number[] =>
  [a.y, a.dx, ...a.weights].map((list, i) => firstDifference(list, [b.y, b.dx, ...b.weights][i]));

function run(
  kernels: Kernels,
  factory: LinearFactory,
  grouped: boolean,
  options: { again?: boolean; deferred?: boolean } = {},
): Results {
  const pools = new Pools(kernels);
  const rows = grouped ? 265 : 150;
  const inputs = new Region(kernels, 'inputs');
  const x = tensorFrom(inputs, [rows, width], values(rows * width, 1));
  const g = tensorFrom(inputs, [rows, outer], values(rows * outer, 2));
  const offsets = tensorFrom(inputs, [6], borders);
  const first = { in: width, outs: { gate: inner, up: inner }, powerOfTwo: true };
  const second = { in: inner, outs: { down: outer } };
  const wide = grouped
    ? factory.groupedLinear(pools, { ...first, experts: 5 })
    : factory.linear(pools, first);
  const down = grouped
    ? factory.groupedLinear(pools, { ...second, experts: 5 })
    : factory.linear(pools, second);
  initialize(wide, 0.05, 1);
  initialize(down, 0.05, 2);
  const region = new Region(kernels, 'test');
  const tape = new Tape(region, { deferWeightGrads: options.deferred ?? false });
  const [y] = tape.frame('test', () => {
    const { gate, up } = wide.forward(tape, x, offsets);
    const body = () => [down.prepare(tape, swiglu(tape, gate, up))] as const;
    const [act] = options.again ? recompute(tape, [gate, up], body) : body();
    return [down.forward(tape, act, offsets).down];
  });
  const [dx] = tape.backFrame([y], [g], [x]);
  tape.drainWeightGrads();
  const results = {
    y: copyOf(y),
    dx: copyOf(dx),
    weights: [...Object.values(wide.weights), ...Object.values(down.weights)].map(({ grad }) =>
      copyOf(grad),
    ),
  };
  dx?.block.release();
  y.block.release();
  expect(region.liveBytes).toBe(0);
  return results;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each([
    ['one linear layer after another', false],
    ['experts of 130, 0, 7, 128 and 0 rows', true],
  ])('%s', (_name, grouped) => {
    const exact = run(kernels, plainLinears('fp32'), grouped);
    const fp8 = run(kernels, fp8Linears(), grouped);
    const inBlocks = run(kernels, fp8Linears({ gradients: { block: '128x128' } }), grouped);

    test.each([
      ['tiles', fp8],
      ['blocks', inBlocks],
    ])(
      'with gradients in %s, output and every gradient are FP32’s to 22 dB and more, and are not FP32’s',
      (_gradients, actual) => {
        for (const [name, a, b] of [
          ['output', exact.y, actual.y],
          ['input gradient', exact.dx, actual.dx],
          ...exact.weights.map((weight, i): [string, Float32Array, Float32Array] => [
            `weight gradient ${i}`,
            weight,
            actual.weights[i],
          ]),
        ] as const) {
          expect(decibels(a, b), name).toBeGreaterThan(22);
          expect(decibels(a, b), name).toBeLessThan(50);
        }
      },
    );

    test('the shape of gradient blocks changes every gradient, and the output not at all', () => {
      const [output, ...gradients] = differences(inBlocks, fp8);
      expect(output).toBe(-1);
      expect(Math.min(...gradients)).toBeGreaterThan(-1);
    });

    test('the error has no direction: its mean is that of noise', () => {
      const error = fp8.y.map((value, i) => value - exact.y[i]);
      const mean = error.reduce((sum, value) => sum + value, 0) / error.length;
      const spread = Math.sqrt(error.reduce((sum, value) => sum + value * value, 0) / error.length);
      expect(Math.abs(mean)).toBeLessThan((4 * spread) / Math.sqrt(error.length));
    });

    test('recomputing the activation changes no bit, nor does draining weight gradients later', () => {
      for (const options of [{ again: true }, { deferred: true }]) {
        const other = run(kernels, fp8Linears(), grouped, options);
        expect(differences(other, fp8)).toEqual([-1, -1, -1, -1, -1]);
      }
    });
  });

  test('beside a loud token the gradients of quiet ones are lost in blocks of 128×128, and not in tiles', () => {
    const [rows, loud, side] = [128, 5, 128];
    const inputGradient = (factory: LinearFactory): Float32Array => {
      const layer = factory.linear(new Pools(kernels), { in: side, outs: { out: side } });
      initialize(layer, 0.05, 1);
      const region = new Region(kernels, 'inputs');
      const size = (row: number): number => (row === loud ? 1 : 1e-6);
      const grad = values(rows * side, 2).map((v, i) => v * size(Math.floor(i / side)));
      const [x, g] = [values(rows * side, 1), grad].map((v) => tensorFrom(region, [rows, side], v));
      const tape = new Tape(new Region(kernels, 'test'));
      const [y] = tape.frame('test', () => [layer.forward(tape, x).out]);
      const [dx] = tape.backFrame([y], [g], [x]);
      return copyOf(dx).slice((loud + 1) * side);
    };
    const exact = inputGradient(plainLinears('fp32'));
    const blocks = fp8Linears({ gradients: { block: '128x128' } });
    expect(decibels(exact, inputGradient(fp8Linears()))).toBeGreaterThan(22);
    expect(decibels(exact, inputGradient(blocks))).toBeLessThan(1);
  });

  test.each(['1x128', '128x128'] as const)('experts without rows get no gradient (%s)', (block) => {
    const { weights } = run(kernels, fp8Linears({ gradients: { block } }), true);
    for (const grad of weights) {
      const each = grad.length / 5;
      for (const e of [1, 4])
        expect(grad.slice(e * each, (e + 1) * each).every((value) => value === 0)).toBe(true);
      expect(grad.slice(2 * each, 3 * each).some((value) => value !== 0)).toBe(true);
    }
  });

  test.each(['1x128', '128x128'] as const)(
    'an expert’s rows give the same bits whoever stands beside them (%s)',
    (block) => {
      // Blocks of 128 rows start anew at every expert: expert 2's seven rows alone are expert 2's rows among others.
      const layer = fp8Linears({ gradients: { block } }).groupedLinear(new Pools(kernels), {
        experts: 2,
        in: 136,
        outs: { out: 24 },
      });
      initialize(layer, 0.05, 1);
      const inputs = new Region(kernels, 'inputs');
      const [own, other] = [values(7 * 136, 1), values(130 * 136, 2, 100)];
      const [ownGrad, otherGrad] = [values(7 * 24, 3), values(130 * 24, 4, 100)];
      const both = (first: number, xs: Float32Array[], gs: Float32Array[]) => {
        const rows = first + 7;
        kernels.fill(layer.weights.out.grad, 0);
        const x = tensorFrom(inputs, [rows, 136], Float32Array.from(xs.flatMap((l) => [...l])));
        const g = tensorFrom(inputs, [rows, 24], Float32Array.from(gs.flatMap((l) => [...l])));
        const offsets = tensorFrom(inputs, [3], Int32Array.of(0, first, rows));
        const tape = new Tape(new Region(kernels, 'test'));
        const [y] = tape.frame('test', () => [layer.forward(tape, x, offsets).out]);
        const [dx] = tape.backFrame([y], [g], [x]);
        return [
          copyOf(y).slice(first * 24),
          copyOf(dx).slice(first * 136),
          copyOf(layer.weights.out.grad).slice(24 * 136),
        ];
      };
      expect(both(130, [other, own], [otherGrad, ownGrad])).toEqual(both(0, [own], [ownGrad]));
    },
  );

  test('weights are quantised once a version', () => {
    let calls = 0;
    const counting: Kernels = Object.assign(Object.create(kernels) as Kernels, {
      quantize: (...args: Parameters<Kernels['quantize']>) => {
        if (args[0].blockRows === 128 && args[0].blockCols === 128) calls += 1;
        kernels.quantize(...args);
      },
    });
    const layer = fp8Linears().linear(new Pools(counting), { in: 8, outs: { out: 4 } });
    initialize(layer, 1, 1);
    const x = tensorFrom(new Region(counting, 'inputs'), [2, 8], values(16, 1));
    const tape = new Tape(new Region(counting, 'test'), { grad: false });
    const forward = (): Float32Array => {
      let y: Float32Array = new Float32Array(0);
      tape.scoped(() => {
        y = copyOf(layer.forward(tape, x).out);
        return [];
      });
      return y;
    };
    const before = forward();
    expect(forward()).toEqual(before);
    expect(calls).toBe(1);
    kernels.scale(layer.weights.out.data, layer.weights.out.data, 2);
    layer.weights.out.version += 1;
    expect(forward()).toEqual(before.map((value) => 2 * value));
    expect(calls).toBe(2);
  });

  test.each([false, true])(
    '128×1 forms lose nothing where scales are powers of two (grouped: %s)',
    (grouped) => {
      const [rows, wide] = [150, 136];
      const decoded = (x: Parameters<Kernels['dequantize']>[1], cols: number): Float32Array => {
        const out = new Float32Array(rows * cols);
        kernels.dequantize(viewOf(out), x, { rows, cols });
        return out;
      };
      for (const powerOfTwo of [false, true]) {
        const inputs: boolean[] = [];
        const gradients: boolean[] = [];
        const listening: Kernels = Object.assign(Object.create(kernels) as Kernels, {
          requantize: (...[out, x, sizes]: Parameters<Kernels['requantize']>) => {
            kernels.requantize(out, x, sizes);
            // One group spans all rows, so that scales lie as without groups.
            inputs.push(firstDifference(decoded(out, sizes.cols), decoded(x, sizes.cols)) === -1);
          },
          quantizeBoth: (
            ...[rowwise, columnwise, x, sizes]: Parameters<Kernels['quantizeBoth']>
          ) => {
            kernels.quantizeBoth(rowwise, columnwise, x, sizes);
            const scales = new Float32Array(
              cpuBuffer(rowwise.scales),
              rowwise.scales.byteOffset,
              rowwise.scales.size,
            );
            gradients.push(scales.every((scale) => Number.isInteger(Math.log2(scale))));
          },
        });
        const pools = new Pools(listening);
        const spec = { in: wide, outs: { out: 24 }, powerOfTwo, gradientPowerOfTwo: powerOfTwo };
        const layer = grouped
          ? fp8Linears().groupedLinear(pools, { ...spec, experts: 1 })
          : fp8Linears().linear(pools, spec);
        initialize(layer, 0.05, 1);
        const region = new Region(listening, 'inputs');
        const x = tensorFrom(region, [rows, wide], values(rows * wide, 1));
        const g = tensorFrom(region, [rows, 24], values(rows * 24, 2));
        const offsets = tensorFrom(region, [2], Int32Array.of(0, rows));
        const tape = new Tape(new Region(listening, 'test'));
        const [y] = tape.frame('test', () => [layer.forward(tape, x, offsets).out]);
        tape.backFrame([y], [g], [x]);
        expect(inputs).toEqual([powerOfTwo]);
        expect(gradients).toEqual([powerOfTwo]);
      }
    },
  );

  test('quantised inputs pass as they are, with powers of two as scales where asked for', () => {
    const region = new Region(kernels, 'test');
    const tape = new Tape(region, { grad: false });
    const x = tensorFrom(region, [3, 130], values(390, 5));
    const isPower = (scaled: ScaledTensor): boolean =>
      [...scaled.scales.readSync()].every((scale) => Number.isInteger(Math.log2(scale)));
    const plain = quantizeActivations(tape, x);
    const power = quantizeActivations(tape, x, { powerOfTwo: true });
    expect(isPower(plain)).toBe(false);
    expect(isPower(power)).toBe(true);
    expect([plain.scaleFormat, power.scaleFormat]).toEqual(['fp32', 'powerOfTwo']);
    expect(quantizeActivations(tape, power)).toBe(power);
    const layer = fp8Linears().linear(new Pools(kernels), {
      in: 130,
      outs: { out: 4 },
      powerOfTwo: true,
    });
    expect(layer.prepare(tape, x)).toMatchObject({ scaleFormat: 'powerOfTwo' });
    expect(layer.prepare(tape, plain)).toBe(plain);
  });

  test('an input of another width is refused, and an FP8 input by a plain layer', () => {
    const region = new Region(kernels, 'test');
    const tape = new Tape(region);
    const x = tensorFrom(region, [2, 8], values(16, 1));
    const spec = { in: 7, outs: { out: 4 } };
    const shape: unknown = expect.objectContaining({ code: 'ERR_BALEEN_TENSOR_SHAPE' });
    for (const factory of [fp8Linears(), plainLinears('fp32')]) {
      expect(() => factory.linear(new Pools(kernels), spec).forward(tape, x)).toThrow(shape);
      const experts = factory.groupedLinear(new Pools(kernels), { ...spec, experts: 1 });
      expect(() => experts.forward(tape, x, tensorFrom(region, [2], Int32Array.of(0, 2)))).toThrow(
        shape,
      );
    }
    const plain = plainLinears('bf16').linear(new Pools(kernels), { in: 8, outs: { out: 4 } });
    expect(() => plain.forward(tape, quantizeActivations(tape, x))).toThrow('dequantise it first');
  });
});
