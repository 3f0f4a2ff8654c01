// A row's result does not depend on the rows beside it (to the bit): so evaluation and loss do not depend on batch size.
import { type Kernels, loadKernels, type ScaledView, type View, viewOf } from '@baleen/kernels';
import { test } from 'vitest';

import { Arena, expectSameBits, scaledArrays } from './compare';

const kernels: Kernels = loadKernels();
const arena = new Arena(11);
const rows = 37;
const [k, n] = [200, 45];

type Result = Float32Array | Int32Array | Uint8Array;

/** Rows `first` … of a [rows, width] array. */
function cut<A extends Result | Uint16Array>(x: A, width: number, first: number, count: number): A {
  return x.slice(first * width, (first + count) * width) as A;
}

const x = arena.floats(rows * k);
const halves = arena.halves(rows * k);
const tiles = arena.scaled(rows, k, [1, 128]);
const weight = {
  f32: arena.floats(n * k),
  bf16: arena.halves(n * k),
  fp8: arena.scaled(n, k, [128, 128]),
};
const norm = arena.floats(k);

function product(a: View | ScaledView, b: View | ScaledView, m: number): Float32Array {
  const c = new Float32Array(m * n);
  kernels.gemm(viewOf(c), a, b, { m, n, k, transB: true });
  return c;
}

function tilesOf(first: number, count: number): ScaledView {
  const { codes, scales } = scaledArrays(tiles);
  return {
    ...tiles,
    codes: viewOf(cut(codes, k, first, count)),
    scales: viewOf(cut(scales, 2, first, count)),
  };
}

function crossEntropy(first: number, count: number, low: boolean): [Float32Array, Float32Array] {
  const [loss, dx] = [new Float32Array(count), new Float32Array(count * k)];
  const targets = Int32Array.from({ length: count }, (_, r) => ((first + r) * 7) % n);
  const input = low ? viewOf(cut(halves, k, first, count)) : viewOf(cut(x, k, first, count));
  const table = viewOf(low ? weight.bf16 : weight.f32);
  const sizes = { rows: count, hidden: k, vocab: n };
  kernels.linearCrossEntropy(viewOf(loss), input, table, viewOf(targets), sizes, {
    rowScale: viewOf(new Float32Array(count).fill(0.5)),
    dx: viewOf(dx),
    dweight: viewOf(new Float32Array(n * k)),
  });
  return [loss, dx];
}

/** Attention over sequences: a sequence is the row here. */
function attention(first: number, count: number, low: boolean): Float32Array {
  const shape = { queries: 4, keys: 4, heads: 2, queryWidth: 6, valueWidth: 5 };
  const width = { q: 4 * 2 * 6, v: 4 * 2 * 5 };
  const out = new Float32Array(count * width.v);
  const source = low ? halves : x;
  const given = [width.q, width.q, width.v].map((w) => viewOf(cut(source, w, first, count)));
  const lse = viewOf(new Float32Array(count * 8));
  const [q, key, v] = given;
  kernels.attention(viewOf(out), lse, q, key, v, { ...shape, batch: count, scale: 0.4 });
  return out;
}

const byRow: Record<string, { width: number; run: (first: number, count: number) => Result }> = {
  'gemm f32': {
    width: n,
    run: (first, count) => product(viewOf(cut(x, k, first, count)), viewOf(weight.f32), count),
  },
  'gemm bf16': {
    width: n,
    run: (first, count) =>
      product(viewOf(cut(halves, k, first, count)), viewOf(weight.bf16), count),
  },
  'gemm fp8': {
    width: n,
    run: (first, count) => product(tilesOf(first, count), weight.fp8, count),
  },
  'groupedGemm fp8': {
    width: n,
    run: (first, count) => {
      const c = new Float32Array(count * n);
      const offsets = viewOf(Int32Array.of(0, count));
      const sizes = { groups: 1, rows: count, n, k, transB: true };
      kernels.groupedGemm(viewOf(c), tilesOf(first, count), weight.fp8, offsets, sizes);
      return c;
    },
  },
  'quantize 1×128': {
    width: k,
    run: (first, count) => {
      const codes = new Uint8Array(count * k);
      const scales = viewOf(new Float32Array(count * 2));
      const out = { codes: viewOf(codes), scales, blockRows: 1, blockCols: 128 };
      kernels.quantize(out, viewOf(cut(x, k, first, count)), { rows: count, cols: k });
      return codes;
    },
  },
  rmsNorm: {
    width: k,
    run: (first, count) => {
      const [y, rstd] = [new Float32Array(count * k), viewOf(new Float32Array(count))];
      const sizes = { rows: count, cols: k, epsilon: 1e-6 };
      kernels.rmsNorm(viewOf(y), rstd, viewOf(cut(x, k, first, count)), viewOf(norm), sizes);
      return y;
    },
  },
  swiglu: {
    width: k,
    run: (first, count) => {
      const y = new Float32Array(count * k);
      const part = viewOf(cut(x, k, first, count));
      kernels.swiglu(viewOf(y), part, part);
      return y;
    },
  },
  topK: {
    width: 3,
    run: (first, count) => {
      const indices = new Int32Array(count * 3);
      const sizes = { tokens: count, experts: k, k: 3, groups: 4, groupsKept: 2 };
      kernels.topK(viewOf(indices), viewOf(cut(x, k, first, count)), null, sizes);
      return indices;
    },
  },
  'linearCrossEntropy loss f32': { width: 1, run: (f, count) => crossEntropy(f, count, false)[0] },
  'linearCrossEntropy dx f32': { width: k, run: (f, count) => crossEntropy(f, count, false)[1] },
  'linearCrossEntropy loss bf16': { width: 1, run: (f, count) => crossEntropy(f, count, true)[0] },
  'linearCrossEntropy dx bf16': { width: k, run: (f, count) => crossEntropy(f, count, true)[1] },
  'attention f32, by sequence': { width: 40, run: (f, count) => attention(f, count, false) },
  'attention bf16, by sequence': { width: 40, run: (f, count) => attention(f, count, true) },
};

for (const [name, { width, run }] of Object.entries(byRow))
  test(`${name}: one row alone, beside one, among all`, () => {
    const all = run(0, rows);
    for (let r = 0; r < rows; r += 1)
      expectSameBits(run(r, 1), cut(all, width, r, 1), `row ${r} alone`);
    for (const r of [0, 17, rows - 2])
      expectSameBits(run(r, 2), cut(all, width, r, 2), `rows ${r} and ${r + 1}`);
  });
