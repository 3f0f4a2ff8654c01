// Tensors, modules and parameters.
import { nullKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  emptyTensor,
  initialize,
  isTensor,
  Module,
  Parameter,
  Pools,
  Region,
  ScaledTensor,
  sliceSequences,
  splitColumns,
  Tape,
  tensorFrom,
  weightView,
  writeTensor,
} from '../src/index';

const kernels = referenceKernels();
const shapeCode = { code: 'ERR_BALEEN_TENSOR_SHAPE' };

describe('a tensor', () => {
  const region = new Region(kernels, 'test');
  const x = tensorFrom(
    region,
    [3, 4],
    Float32Array.from({ length: 12 }, (_, i) => i),
  );

  test('reads under another shape as the same value', () => {
    const y = x.reshape([2, 6]);
    expect(y.id).toBe(x.id);
    expect(y.shape).toEqual([2, 6]);
    expect(y.readSync()).toEqual(x.readSync());
    expect(() => x.reshape([5, 2])).toThrow(expect.objectContaining(shapeCode));
  });

  test('gives rows as values of their own', () => {
    const rows = x.rows(1, 2);
    expect(rows.id).not.toBe(x.id);
    expect(rows.shape).toEqual([2, 4]);
    expect([...rows.readSync()]).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
    expect([...rows.rows(1, 1).readSync()]).toEqual([8, 9, 10, 11]);
    expect(x.rows(3, 0).size).toBe(0);
    expect(() => x.rows(2, 2)).toThrow(expect.objectContaining(shapeCode));
    expect(() => x.rows(-1, 1)).toThrow(expect.objectContaining(shapeCode));
    const bytes = emptyTensor(region, [4, 3], 'e4m3');
    expect(bytes.rows(2, 1).byteOffset - bytes.byteOffset).toBe(6);
  });

  test('reads as a copy, or in place', async () => {
    const copy = await x.read();
    expect(copy).toEqual(x.readSync());
    copy[0] = 100;
    expect(x.readSync()[0]).toBe(0);
    const types = (['f32', 'bf16', 'e4m3', 'e5m2', 'i32'] as const).map((dtype) =>
      emptyTensor(region, [2], dtype).readSync(),
    );
    expect(types.map((list) => list.constructor.name)).toEqual([
      'Float32Array',
      'Uint16Array',
      'Uint8Array',
      'Uint8Array',
      'Int32Array',
    ]);
  });

  test('takes host values of its own size', () => {
    const ids = tensorFrom(region, [2], Int32Array.of(7, 8));
    expect(ids.dtype).toBe('i32');
    writeTensor(ids, Int32Array.of(1, 2));
    expect([...ids.readSync()]).toEqual([1, 2]);
    expect(() => {
      writeTensor(ids, new Int32Array(3));
    }).toThrow(expect.objectContaining(shapeCode));
  });

  test('is known by its brand, also to another version of this package', () => {
    const scaled = new ScaledTensor(emptyTensor(region, [2, 3], 'e4m3'), x, 1, 128);
    expect(isTensor(x)).toBe(true);
    expect(isTensor(scaled)).toBe(true);
    expect(scaled.shape).toEqual([2, 3]);
    expect(isTensor({ [Symbol.for('baleen.tensor')]: true })).toBe(true);
    for (const other of [null, undefined, 3, 'x', [], new Float32Array(2), { shape: [1] }])
      expect(isTensor(other)).toBe(false);
  });

  test('of the null backend has a size and no values', () => {
    const nothing = new Region(nullKernels(), 'nothing');
    const y = tensorFrom(nothing, [2], Float32Array.of(1, 2));
    expect(nothing.liveBytes).toBe(64);
    expect(() => y.readSync()).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_KERNELS_NOT_CPU' }),
    );
    expect(() => {
      writeTensor(y, new Float32Array(3));
    }).toThrow(expect.objectContaining(shapeCode));
  });

  test('that does not fit an operation is refused', () => {
    const tape = new Tape(region);
    expect(() => splitColumns(tape, x, [3, 2])).toThrow(expect.objectContaining(shapeCode));
    expect(() => sliceSequences(tape, x, 2, 0, 1)).toThrow(expect.objectContaining(shapeCode));
    expect(() => sliceSequences(tape, x, 3, 1, 1)).toThrow(expect.objectContaining(shapeCode));
  });
});

class Leaf extends Module {
  readonly weight: Parameter;
  readonly norm: Parameter;
  constructor(pools: Pools) {
    super();
    this.weight = this.parameter('weight', new Parameter(pools, [40, 50]));
    this.norm = this.parameter('norm', new Parameter(pools, [50], { init: 'ones' }));
    this.state('bias', emptyTensor(pools.state, [2]));
  }
}

class Tree extends Module {
  readonly leaves: Leaf[];
  constructor(pools: Pools, names: readonly string[]) {
    super();
    this.leaves = names.map((name) => this.child(name, new Leaf(pools)));
    this.parameter('own', new Parameter(pools, [3], { init: 'zeros', decay: true }));
  }
}

describe('modules', () => {
  test('name parameters and state by their place, in a fixed order', () => {
    const tree = new Tree(new Pools(kernels), ['a', '']);
    expect([...tree.parameters()].map(([name]) => name)).toEqual([
      'own',
      'a.weight',
      'a.norm',
      'weight',
      'norm',
    ]);
    expect([...tree.states('model.')].map(([name]) => name)).toEqual([
      'model.a.bias',
      'model.bias',
    ]);
  });

  test('begin the same whatever else the model holds, with the spread asked for', () => {
    const [small, large] = [['b'], ['a', 'b', 'c']].map(
      (names) => new Tree(new Pools(kernels), names),
    );
    initialize(small, 0.02, 5);
    initialize(large, 0.02, 5);
    const weight = small.leaves[0].weight.data.readSync() as Float32Array;
    expect(large.leaves[1].weight.data.readSync()).toEqual(weight);
    expect(large.leaves[0].weight.data.readSync()).not.toEqual(weight);
    const std = Math.sqrt(weight.reduce((sum, value) => sum + value * value, 0) / weight.length);
    expect(std / 0.02).toBeGreaterThan(0.95);
    expect(std / 0.02).toBeLessThan(1.05);
    expect(small.leaves[0].norm.data.readSync()).toEqual(new Float32Array(50).fill(1));
    initialize(small, 0.02, 6);
    expect(small.leaves[0].weight.data.readSync()).not.toEqual(
      large.leaves[1].weight.data.readSync(),
    );
  });

  test('begin with the values their seed and name have always given', () => {
    const leaf = new Leaf(new Pools(kernels));
    initialize(leaf, 0.5, 5);
    // mulberry32 from the FNV-1a hash of "5:weight", taken in pairs (Box–Muller).
    const stream = [3865470181, 2936012430, 3359552839, 3628098961];
    const [a, b, c, d] = stream.map((bits) => (bits + 0.5) / 4294967296);
    const [first, second] = [a, c].map((u) => Math.sqrt(-2 * Math.log(u)));
    const [turn, next] = [b, d].map((u) => 2 * Math.PI * u);
    expect(leaf.weight.data.readSync().slice(0, 4)).toEqual(
      Float32Array.of(
        0.5 * first * Math.cos(turn),
        0.5 * first * Math.sin(turn),
        0.5 * second * Math.cos(next),
        0.5 * second * Math.sin(next),
      ),
    );
  });

  test('decay matrices and leave vectors alone, unless told', () => {
    const pools = new Pools(kernels);
    const tree = new Tree(pools, ['a']);
    expect(
      Object.fromEntries([...tree.parameters()].map(([name, { decay }]) => [name, decay])),
    ).toEqual({ own: true, 'a.weight': true, 'a.norm': false });
  });

  test('make derived forms once a version', () => {
    const parameter = new Parameter(new Pools(kernels), [2, 3]);
    const form = parameter.bf16();
    writeTensor(parameter.data, new Float32Array(6).fill(1));
    expect([...parameter.bf16().readSync()]).toEqual([0, 0, 0, 0, 0, 0]);
    parameter.version += 1;
    expect(parameter.bf16()).toBe(form);
    expect([...form.readSync()]).toEqual(new Array(6).fill(0x3f80));
    expect(weightView(parameter, 'bf16')).toBe(form);
    expect(weightView(parameter, 'fp32')).toBe(parameter.data);
  });
});
