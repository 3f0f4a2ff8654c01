// Wrong sizes, types and blocks are refused before anything is computed, by every implementation alike.
import {
  type KernelName,
  type Kernels,
  kernelNames,
  nullKernels,
  referenceKernels,
  type ScaledView,
  type View,
  viewOf,
} from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { cases } from './cases';
import { Arena } from './compare';

const f = (size: number): View => viewOf(new Float32Array(size));
const h = (size: number): View => viewOf(new Uint16Array(size));
const i = (size: number): View => viewOf(new Int32Array(size));
const s = (rows: number, cols: number, blockRows: number, blockCols: number): ScaledView => ({
  codes: viewOf(new Uint8Array(rows * cols)),
  scales: f(Math.ceil(rows / blockRows) * Math.ceil(cols / blockCols)),
  blockRows,
  blockCols,
});

/** Packed E5M6 codes. */
const p = (rows: number, cols: number, blockRows: number, blockCols: number): ScaledView => ({
  ...s(rows, cols, blockRows, blockCols),
  codes: {
    ...viewOf(new Uint8Array(Math.ceil(1.5 * rows * cols))),
    dtype: 'e5m6',
    size: rows * cols,
  },
});

const wrong: [what: string, call: (kernels: Kernels) => void, message: RegExp][] = [
  [
    'a size',
    (x) => {
      x.gemm(f(6), f(8), f(11), { m: 2, n: 3, k: 4 });
    },
    /gemm: b holds 11 elements, expected 12/,
  ],
  [
    'a type',
    (x) => {
      x.rmsNorm(f(6), f(2), h(6), f(3), { rows: 2, cols: 3, epsilon: 0 });
    },
    /rmsNorm: x is bf16, expected f32/,
  ],
  [
    'operands of two types',
    (x) => {
      x.gemm(f(6), f(8), h(12), { m: 2, n: 3, k: 4 });
    },
    /gemm: a is f32 and b is bf16/,
  ],
  [
    'FP8 by BF16',
    (x) => {
      x.gemm(f(4), s(2, 3, 1, 128), h(6), { m: 2, n: 2, k: 3, transB: true });
    },
    /gemm: a is e4m3 and b is bf16: both must be alike, or FP8/,
  ],
  [
    'a gradient in two formats',
    (x) => {
      const rowwise = s(3, 2, 1, 128);
      const codes = { ...rowwise.codes, dtype: 'e5m2' } as const;
      x.quantizeBoth({ ...rowwise, codes }, s(3, 2, 128, 1), f(6), { rows: 3, cols: 2 });
    },
    /quantizeBoth: columnwise is e4m3, expected e5m2/,
  ],
  [
    'codes without scales',
    (x) => {
      x.gemm(f(1), viewOf(new Uint8Array(1)), viewOf(new Uint8Array(1)), { m: 1, n: 1, k: 1 });
    },
    /gemm: a is e4m3 without scales/,
  ],
  [
    'blocks across the sum',
    (x) => {
      x.gemm(f(4), s(2, 256, 128, 1), s(2, 256, 1, 128), { m: 2, n: 2, k: 256, transB: true });
    },
    /gemm: a in blocks of 128×1 must span 128 along its cols/,
  ],
  [
    'blocks over rows of groups without scales for each',
    (x) => {
      x.groupedGemm(f(4), s(2, 9, 128, 128), s(4, 9, 1, 128), i(3), {
        groups: 2,
        rows: 2,
        n: 2,
        k: 9,
        transB: true,
      });
    },
    /groupedGemm: a.scales holds 1 elements, expected at least 2 for 2 × 9/,
  ],
  [
    'too few scales',
    (x) => {
      x.dequantize(f(512), { ...s(2, 256, 1, 128), scales: f(3) }, { rows: 2, cols: 256 });
    },
    /dequantize: x.scales holds 3 elements, expected 4/,
  ],
  [
    'too few scales for groups',
    (x) => {
      x.quantize({ ...s(300, 2, 128, 1), scales: f(6) }, f(600), {
        rows: 300,
        cols: 2,
        offsets: i(4),
        groups: 3,
      });
    },
    /quantize: out.scales holds 6 elements, expected at least 10/,
  ],
  [
    'E5M6 across rows',
    (x) => {
      x.quantize(p(3, 2, 128, 1), f(6), { rows: 3, cols: 2 });
    },
    /quantize: out in blocks of 128×1 must span 128 along its cols/,
  ],
  [
    'E5M6 in row groups',
    (x) => {
      x.quantize(p(3, 2, 1, 128), f(6), { rows: 3, cols: 2, offsets: i(2), groups: 1 });
    },
    /quantize: tiles of e5m6 are one row high: leave offsets out/,
  ],
  [
    'E5M6 in a product',
    (x) => {
      x.gemm(f(4), p(2, 3, 1, 128), p(2, 3, 1, 128), { m: 2, n: 2, k: 3, transB: true });
    },
    /gemm: a is e5m6, expected f32 or bf16 or e4m3 or e5m2/,
  ],
  [
    'a balance loss of a choice and of counts',
    (x) => {
      const sizes = { sequences: 1, sequenceLength: 2, experts: 3, k: 1, factor: 1 };
      x.balanceLoss(f(1), null, f(6), i(2), i(3), sizes);
    },
    /balanceLoss: give either indices or counts/,
  ],
  [
    'a balance loss of neither',
    (x) => {
      const sizes = { sequences: 1, sequenceLength: 2, experts: 3, k: 1, factor: 1 };
      x.balanceLoss(f(1), null, f(6), null, null, sizes);
    },
    /balanceLoss: give either indices or counts/,
  ],
  [
    'packed codes moved row by row',
    (x) => {
      const { codes } = p(2, 2, 1, 128);
      x.permute(codes, codes, i(2), { rows: 2, k: 1, cols: 2 });
    },
    /permute: out is e5m6/,
  ],
  [
    'too few bytes of packed codes',
    (x) => {
      const { codes, ...rest } = p(2, 3, 1, 128);
      const short = { ...rest, codes: { ...codes, byteOffset: 1 } };
      x.dequantize(f(6), short, { rows: 2, cols: 3 });
    },
    /dequantize: x spans bytes 1 to 10 of a storage of 9/,
  ],
  [
    'groups in other blocks',
    (x) => {
      x.quantize(s(3, 2, 1, 128), f(6), { rows: 3, cols: 2, offsets: i(2), groups: 1 });
    },
    /must have blocks of 128×1 or 128×128/,
  ],
  [
    'promotion of plain values',
    (x) => {
      x.gemm(f(1), f(2), f(2), { m: 1, n: 1, k: 2, promotion: 64 });
    },
    /gemm: promotion is for products of scaled operands, a is f32 without scales/,
  ],
  [
    'promotion never begun',
    (x) => {
      x.gemm(f(1), s(1, 2, 1, 128), s(2, 1, 128, 1), { m: 1, n: 1, k: 2, promotion: 0 });
    },
    /gemm: promotion is 0: name a number of products, or Infinity for none/,
  ],
  [
    'the accumulator of no tensor core',
    (x) => {
      const sizes = { m: 1, n: 1, k: 2, alignedSum: true };
      x.gemm(f(1), s(1, 2, 1, 128), s(2, 1, 128, 1), sizes);
    },
    /gemm: alignedSum is for a tensor core: say how many fractionBits it keeps/,
  ],
  [
    'more bits than a sum can hold',
    (x) => {
      const sizes = { groups: 1, rows: 1, n: 1, k: 2, fractionBits: 46 };
      x.groupedGemm(f(1), s(1, 2, 1, 128), s(2, 1, 128, 1), i(2), sizes);
    },
    /groupedGemm: tensorCore.fractionBits is 46: keep 1 to 45 bits; Hopper keeps 13/,
  ],
  [
    'one way twice',
    (x) => {
      x.quantizeBoth(s(3, 2, 1, 128), s(3, 2, 1, 128), f(6), { rows: 3, cols: 2 });
    },
    /quantizeBoth: columnwise in blocks of 1×128 must span 128 along its rows/,
  ],
  [
    'a stack both ways',
    (x) => {
      x.quantizeBoth(s(4, 2, 1, 128), s(4, 2, 128, 1), f(8), { rows: 2, cols: 2, stack: 2 });
    },
    /quantizeBoth: a stack is quantised one way/,
  ],
  [
    'a norm quantised across rows',
    (x) => {
      const sizes = { rows: 3, cols: 2, epsilon: 0 };
      x.rmsNormQuantize(s(3, 2, 128, 128), null, f(3), f(6), f(2), sizes);
    },
    /rmsNormQuantize: quantized in blocks of 128×128 must span 128 along its cols.* 1 across/,
  ],
  [
    'an activation quantised by column',
    (x) => {
      x.swigluQuantize(s(3, 2, 128, 1), f(6), f(6), { rows: 3, cols: 2 });
    },
    /swigluQuantize: quantized in blocks of 128×1 must span 128 along its cols/,
  ],
  [
    'a stride beyond the end',
    (x) => {
      x.copyStrided(f(10), f(10), { rows: 3, cols: 2, outStride: 4, outOffset: 1, xStride: 2 });
    },
    /copyStrided: out holds 10 elements, expected at least 11/,
  ],
  [
    'adding into BF16',
    (x) => {
      x.copyStrided(h(4), f(4), { rows: 1, cols: 4, outStride: 4, xStride: 4, accumulate: true });
    },
    /copyStrided: out is bf16, expected f32/,
  ],
  [
    'an odd rotary width',
    (x) => {
      x.rope(f(3), f(3), f(3), f(3), {
        rows: 1,
        heads: 1,
        width: 3,
        sequence: 1,
        outStride: 3,
        outHeadStride: 3,
        xStride: 3,
        xHeadStride: 3,
      });
    },
    /rope: width \(3\) is odd/,
  ],
  [
    'positions beyond the tables',
    (x) => {
      x.rope(f(8), f(8), f(4), f(4), {
        rows: 2,
        heads: 1,
        width: 4,
        sequence: 2,
        start: 1,
        outStride: 4,
        outHeadStride: 4,
        xStride: 4,
        xHeadStride: 4,
      });
    },
    /rope: cos holds 4 elements, expected at least 6/,
  ],
  [
    'more queries than keys',
    (x) => {
      x.attention(f(2), f(2), f(2), f(1), f(1), {
        batch: 1,
        queries: 2,
        keys: 1,
        heads: 1,
        queryWidth: 1,
        valueWidth: 1,
        scale: 1,
      });
    },
    /attention: keys \(1\) are fewer than queries \(2\)/,
  ],
  [
    'documents of several sequences',
    (x) => {
      x.attention(f(2), f(2), f(2), f(2), f(2), {
        batch: 2,
        queries: 1,
        keys: 1,
        heads: 1,
        queryWidth: 1,
        valueWidth: 1,
        scale: 1,
        documents: viewOf(Int32Array.of(0, 1)),
      });
    },
    /attention: documents are packed into one sequence of as many keys as queries, not 2 of 1 and 1/,
  ],
  [
    'documents that are no integers',
    (x) => {
      x.attention(f(1), f(1), f(1), f(1), f(1), {
        batch: 1,
        queries: 1,
        keys: 1,
        heads: 1,
        queryWidth: 1,
        valueWidth: 1,
        scale: 1,
        documents: f(2),
      });
    },
    /attention: documents is f32, expected i32/,
  ],
  [
    'scores multiplied by nothing',
    (x) => {
      x.attention(f(1), f(1), f(1), f(1), f(1), {
        batch: 1,
        queries: 1,
        keys: 1,
        heads: 1,
        queryWidth: 1,
        valueWidth: 1,
        scale: 0,
      });
    },
    /attention: scale \(0\) is not above 0/,
  ],
  [
    'k above the experts kept',
    (x) => {
      x.topK(i(3), f(8), null, { tokens: 1, experts: 8, k: 3, groups: 4, groupsKept: 1 });
    },
    /topK: k \(3\) exceeds the experts of the groups kept \(2\)/,
  ],
  [
    'groups that do not divide',
    (x) => {
      x.topK(i(1), f(8), null, { tokens: 1, experts: 8, k: 1, groups: 3, groupsKept: 1 });
    },
    /topK: experts \(8\) do not divide into groups \(3\)/,
  ],
  [
    'more groups kept than there are',
    (x) => {
      x.topK(i(1), f(8), null, { tokens: 1, experts: 8, k: 1, groups: 2, groupsKept: 3 });
    },
    /topK: groupsKept \(3\) is not between 1 and groups \(2\)/,
  ],
  [
    'rows that are not tokens',
    (x) => {
      x.permute(f(10), f(4), i(5), { rows: 5, k: 2, cols: 2 });
    },
    /permute: rows \(5\) are not k \(2\) times/,
  ],
  [
    'a table of other columns',
    (x) => {
      x.embedding(f(3), f(7), i(1), { rows: 1, cols: 3 });
    },
    /embedding: weight is no matrix of 3 columns/,
  ],
  [
    'a gradient of the wrong size',
    (x) => {
      x.linearCrossEntropy(
        f(1),
        f(2),
        f(6),
        i(1),
        { rows: 1, hidden: 2, vocab: 3 },
        { rowScale: f(1), dx: f(2), dweight: f(5) },
      );
    },
    /linearCrossEntropy: gradient.dweight holds 5 elements, expected 6/,
  ],
  [
    'moments of two types',
    (x) => {
      x.adamw(f(1), f(1), h(1), f(1), f(1), i(1), f(3), {
        beta1: 0,
        beta2: 0,
        epsilon: 0,
        weightDecay: 0,
      });
    },
    /adamw: v is f32, expected bf16/,
  ],
  [
    'an update without a bias correction',
    (x) => {
      x.adamw(f(1), f(1), h(1), h(1), f(1), i(1), f(2), {
        beta1: 0,
        beta2: 0,
        epsilon: 0,
        weightDecay: 0,
      });
    },
    /adamw: rates holds 2 elements, expected 3/,
  ],
  [
    'a missing view',
    (x) => {
      x.sigmoid(f(1), null as unknown as View);
    },
    /sigmoid: x is missing/,
  ],
  [
    'a view beyond its storage',
    (x) => {
      x.fill({ ...f(4), byteOffset: 4 }, 0);
    },
    /fill: out spans bytes 4 to 20 of a storage of 16/,
  ],
  [
    'a view between elements',
    (x) => {
      x.fill({ ...f(4), byteOffset: 2, size: 1 }, 0);
    },
    /fill: out starts at byte 2, no multiple of 4/,
  ],
];

describe.each([
  ['reference', referenceKernels()],
  ['null', nullKernels()],
] as const)('%s', (_, kernels) => {
  test.each(wrong)('%s', (_, call, message) => {
    expect(() => {
      call(kernels);
    }).toThrow(message);
    expect(() => {
      call(kernels);
    }).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_KERNELS_SHAPE',
        path: expect.any(String) as string,
        hint: expect.any(String) as string,
      }),
    );
  });
});

/** Views whose length is theirs to choose. */
const free: Partial<Record<KernelName, number>> = {
  fill: 0,
  sum: 1,
  sumOfSquares: 1,
  clipFactor: 3,
};

test.each(kernelNames)('%s: no view may be one element short', (name) => {
  // The arguments of every case, each view in turn cut.
  let refused = 0;
  const cutting = new Proxy(nullKernels(), {
    get: (kernels, key) =>
      key !== name
        ? (Reflect.get(kernels, key) as unknown)
        : (...args: unknown[]) => {
            const method = kernels[name].bind(kernels) as (...args: unknown[]) => void;
            method(...args);
            for (let at = 0; at < args.length; at += 1) {
              const arg = args[at] as View | ScaledView | null;
              if (typeof arg !== 'object' || arg === null || at === free[name]) continue;
              // Strided views may be longer than what is reached, and a table has as many rows as it has.
              if (name === 'copyStrided' || name === 'rope' || (name === 'embedding' && at === 1))
                continue;
              const view = 'codes' in arg ? arg.codes : arg;
              if (typeof view.dtype !== 'string' || view.size === 0) continue;
              const short = { ...view, size: view.size - 1 };
              const cut = args.with(at, 'codes' in arg ? { ...arg, codes: short } : short);
              expect(() => {
                method(...cut);
              }, `argument ${at}`).toThrow(/elements|matrix/);
              refused += 1;
            }
          },
  });
  for (const { kernel, run } of cases) if (kernel === name) run(cutting, new Arena(1));
  if (!['fill', 'copyStrided', 'rope'].includes(name)) expect(refused).toBeGreaterThan(0);
});
