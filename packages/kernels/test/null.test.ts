// The null backend: it takes every call that computes, holds no memory, and says what a call costs.
import {
  byteSize,
  costOf,
  f32,
  type KernelCost,
  type Kernels,
  kernelNames,
  nullKernels,
  type View,
} from '@baleen/kernels';
import { expect, test } from 'vitest';

import { cases } from './cases';
import { Arena, expectSameBits } from './compare';

const kernels = nullKernels();

/** A view of storage that holds nothing. */
function view(size: number, dtype: View['dtype'] = 'f32'): View {
  return { storage: kernels.createStorage(byteSize(dtype, size)), byteOffset: 0, dtype, size };
}

function cost(call: (kernels: Kernels) => void): KernelCost {
  const costs: KernelCost[] = [];
  call(nullKernels({ onCall: (cost) => costs.push(cost) }));
  expect(costs).toHaveLength(1);
  return costs[0];
}

test('every case of every kernel passes, costs something, and changes nothing', () => {
  const seen = new Set<string>();
  const counting = nullKernels({
    onCall: ({ kernel, flops, bytes, unit }) => {
      seen.add(kernel);
      expect(flops).toBeGreaterThanOrEqual(0);
      expect(Number.isInteger(bytes)).toBe(true);
      expect(flops > 0 && unit === 'none').toBe(false);
    },
  });
  for (const { kernel, run } of cases) {
    const first = !seen.has(kernel);
    const arena = new Arena(1);
    const outputs = run(counting, arena);
    arena.verify();
    if (!first) continue;
    const untouched = run({ ...counting, ...quiet }, new Arena(1));
    for (const [name, values] of Object.entries(outputs))
      expectSameBits(values, untouched[name], name);
  }
  expect([...seen].sort()).toEqual([...kernelNames].sort());
});

/** Kernels that do not even look at their arguments. */
const quiet = Object.fromEntries(kernelNames.map((name) => [name, () => undefined]));

test('storage has a size and no memory', () => {
  const storage = kernels.createStorage(2 ** 50);
  expect(storage).toEqual({ backend: 'null', byteLength: 2 ** 50 });
  expect(() => f32({ storage, byteOffset: 0, dtype: 'f32', size: 4 })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_KERNELS_NOT_CPU' }),
  );
});

test('costs of products', () => {
  const [m, n, k] = [3, 5, 256];
  const tiles = { codes: view(m * k, 'e4m3'), scales: view(m * 2), blockRows: 1, blockCols: 128 };
  const blocks = { codes: view(n * k, 'e4m3'), scales: view(2), blockRows: 128, blockCols: 128 };
  const sizes = { m, n, k, transB: true };
  const operands = m * k + m * 2 * 4 + n * k + 2 * 4;
  expect(
    cost((x) => {
      x.gemm(view(m * n), tiles, blocks, sizes);
    }),
  ).toEqual({
    kernel: 'gemm',
    flops: 2 * m * n * k,
    bytes: operands + 4 * m * n,
    unit: 'bf16',
  });
  const added = cost((x) => {
    x.gemm(view(m * n), tiles, blocks, { ...sizes, accumulate: true });
  });
  expect(added.bytes).toBe(operands + 8 * m * n);
  const plain = costOf('gemm', [view(m * n), view(m * k), view(n * k), sizes]);
  expect(plain).toMatchObject({ unit: 'fp32', bytes: 4 * (m * n + m * k + n * k) });
});

test('costs of attention count the pairs that see each other', () => {
  const [queries, keys, heads, queryWidth, valueWidth] = [3, 5, 2, 4, 6];
  const sizes = { batch: 1, queries, keys, heads, queryWidth, valueWidth, scale: 1 };
  const pairs = heads * (3 + 4 + 5);
  const size = {
    q: queries * heads * 4,
    k: keys * heads * 4,
    v: keys * heads * 6,
    out: queries * heads * 6,
  };
  const args = [
    view(size.out),
    view(queries * heads),
    ...[size.q, size.k, size.v].map((n) => view(n, 'bf16')),
    sizes,
  ];
  expect(costOf('attention', args)).toEqual({
    kernel: 'attention',
    flops: 2 * pairs * (queryWidth + valueWidth),
    bytes: 4 * (size.out + queries * heads) + 2 * (size.q + size.k + size.v),
    unit: 'bf16',
  });
});

test('costs of lookups and updates count what is touched', () => {
  const lookup = cost((x) => {
    x.embedding(view(2 * 8), view(1000 * 8), view(2, 'i32'), { rows: 2, cols: 8 });
  });
  expect(lookup).toEqual({ kernel: 'embedding', flops: 0, bytes: 2 * (8 * 8 + 4), unit: 'none' });
  // p, m and v are read and written, the gradient is read.
  const update = costOf('adamw', [
    view(100),
    view(100),
    view(100, 'bf16'),
    view(100, 'bf16'),
    view(1),
    view(1, 'i32'),
    view(3),
    { beta1: 0, beta2: 0, epsilon: 0, weightDecay: 0 },
  ]);
  expect(update.bytes).toBe(100 * (8 + 4 + 4 + 4) + 8 + 12);
  const gradient = { rowScale: view(2), dx: view(2 * 8), dweight: view(10 * 8) };
  const args = [
    view(2),
    view(16, 'bf16'),
    view(80, 'bf16'),
    view(2, 'i32'),
    { rows: 2, hidden: 8, vocab: 10 },
  ];
  expect(costOf('linearCrossEntropy', args)).toMatchObject({ flops: 320, bytes: 2 * 96 + 16 });
  expect(costOf('linearCrossEntropy', [...args, { likeliest: view(2, 'i32') }]).bytes).toBe(
    2 * 96 + 16 + 8,
  );
  expect(costOf('linearCrossEntropy', [...args, gradient])).toMatchObject({
    flops: 960,
    bytes: 2 * 96 + 16 + 8 + 4 * 16 + 8 * 80,
  });
});
