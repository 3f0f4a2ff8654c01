// Signatures of memory, matrix products and FP8 (see signature.ts).
import {
  alike,
  dtypeOf,
  elementBytes,
  fp8,
  integers,
  type MatrixNeed,
  type Need,
  n,
  operand,
  optional,
  orMore,
  plain,
  reach,
  type Signature,
  type Sizes,
  sizeOf,
  unitOf,
  view,
  wholeBytes,
} from './signature';
import { isFp8, isScaled, type View } from './storage';
import { type SummationSizes, summationFault, summationOf } from './summation';

type DenseName =
  | 'fill'
  | 'copy'
  | 'cast'
  | 'copyStrided'
  | 'add'
  | 'scale'
  | 'gemm'
  | 'groupedGemm'
  | 'groupedGemmWeight'
  | 'quantize'
  | 'quantizeBoth'
  | 'requantize'
  | 'dequantize'
  | 'rmsNormQuantize'
  | 'swigluQuantize';

/** How FP8 products are summed (`SummationSizes`). */
const summationKeys: readonly (keyof SummationSizes)[] = [
  'promotion',
  'fractionBits',
  'alignedSum',
];
/** Formats of FP8 may differ: gradients in E5M2 meet weights in E4M3. */
const productFault: Signature['fault'] = (sizes, [, a, b]) => {
  if (dtypeOf(a) !== dtypeOf(b) && !(isFp8(dtypeOf(a)) && isFp8(dtypeOf(b))))
    return `a is ${dtypeOf(a)} and b is ${dtypeOf(b)}: both must be alike, or FP8`;
  const given = summationKeys.find((key) => sizes[key] !== undefined);
  if (!given) return false;
  if (a && !isScaled(a))
    return `${given} is for products of scaled operands, a is ${dtypeOf(a)} without scales`;
  if (sizes.alignedSum && !sizes.fractionBits)
    return 'alignedSum is for a tensor core: say how many fractionBits it keeps';
  const fault = summationFault(summationOf(sizes));
  return fault !== null && `${fault.path} is ${String(fault.value)}: ${fault.hint}`;
};

/** Matrices that `quantize` and `requantize` take, on top of each other. */
const stackOf = (s: Sizes): number => (s.stack === undefined ? 1 : n(s.stack));
/** Their blocks: any shape; with row groups 128 rows high. */
const quantized = (s: Sizes): MatrixNeed => ({
  rows: n(s.rows),
  cols: n(s.cols),
  ...(s.offsets ? { groups: n(s.groups) } : { stack: stackOf(s) }),
});
/** The 1×128 output of a kernel that quantises what it computes. */
const fused = (s: Sizes, out: Parameters<typeof operand>[1]): ReturnType<typeof operand> =>
  operand('quantized', out, { rows: n(s.rows), cols: n(s.cols), along: 'cols', across: 1 }, fp8);
/** Codes that values are quantised to: FP8 in any blocks, E5M6 in tiles of 1×128. */
const codes = (name: string, x: Parameters<typeof operand>[1], matrix: MatrixNeed): Need =>
  operand(name, x, dtypeOf(x) === 'e5m6' ? { ...matrix, along: 'cols', across: 1 } : matrix, [
    ...fp8,
    'e5m6',
  ]);
const quantizeFault: Signature['fault'] = (s, [out]) => {
  if (s.offsets === undefined) return false;
  if (stackOf(s) !== 1) return 'stack and offsets exclude each other';
  return dtypeOf(out) === 'e5m6' && 'tiles of e5m6 are one row high: leave offsets out';
};
const quantizeKeys = ['rows', 'cols', 'powerOfTwo', '@offsets', 'groups', 'stack'];
const groupBorders = (s: Sizes): ReturnType<typeof view>[] =>
  s.offsets ? [integers('offsets', s.offsets as View, n(s.groups) + 1)] : [];

/** Signatures by kernel. */
export const denseSignatures: Readonly<Record<DenseName, Signature>> = {
  fill: {
    args: 'v',
    traffic: 'w',
    keys: [],
    needs: (_, [out]) => [view('out', out, null, ['f32', 'bf16', 'i32'])],
  },
  copy: {
    args: 'vv',
    traffic: 'wr',
    keys: ['past'],
    needs: (_, [out, x]) => [
      view('out', out, null, wholeBytes),
      view('x', x, sizeOf(out), [dtypeOf(out)]),
    ],
  },
  cast: {
    args: 'vv',
    traffic: 'wr',
    keys: [],
    needs: (_, [out, x]) => [
      view('out', out, null, plain),
      view('x', x, sizeOf(out), [dtypeOf(out) === 'bf16' ? 'f32' : 'bf16']),
    ],
  },
  copyStrided: {
    args: 'vv',
    traffic: 'wr',
    keys: ['rows', 'cols', 'outStride', 'outOffset', 'xStride', 'xOffset', 'accumulate'],
    needs: (s, [out, x]) => {
      const [rows, cols] = [n(s.rows), n(s.cols)];
      const outSize = reach(n(s.outOffset), n(s.outStride), rows, cols);
      const xSize = reach(n(s.xOffset), n(s.xStride), rows, cols);
      return [
        orMore(view('out', out, outSize, s.accumulate ? ['f32'] : plain)),
        orMore(view('x', x, xSize, s.accumulate ? ['f32'] : plain)),
      ];
    },
    bytes: (s, [out, x]) =>
      n(s.cols) *
      (n(s.rows) * elementBytes(out) * (s.accumulate ? 2 : 1) +
        (n(s.xStride) === 0 ? 1 : n(s.rows)) * elementBytes(x)),
  },
  add: {
    args: 'vvv',
    traffic: 'wrr',
    keys: [],
    needs: (_, [out, a, b]) => [
      view('out', out, null, ['f32', 'i32']),
      view('a', a, sizeOf(out), [dtypeOf(out)]),
      view('b', b, sizeOf(out), [dtypeOf(out)]),
    ],
  },
  scale: { args: 'vv', traffic: 'wr', keys: [], needs: alike('out', 'x') },
  gemm: {
    args: 'voo',
    traffic: 'wrr',
    keys: ['m', 'n', 'k', 'transA', 'transB', 'accumulate', ...summationKeys],
    needs: (s, [c, a, b]) => [
      view('c', c, n(s.m) * n(s.n)),
      operand(
        'a',
        a,
        s.transA
          ? { rows: n(s.k), cols: n(s.m), along: 'rows' }
          : { rows: n(s.m), cols: n(s.k), along: 'cols' },
      ),
      operand(
        'b',
        b,
        s.transB
          ? { rows: n(s.n), cols: n(s.k), along: 'cols' }
          : { rows: n(s.k), cols: n(s.n), along: 'rows' },
      ),
    ],
    fault: productFault,
    flops: (s, [, a]) => ({ flops: 2 * n(s.m) * n(s.n) * n(s.k), unit: unitOf(a) }),
  },
  groupedGemm: {
    args: 'voov',
    traffic: 'wrrr',
    keys: ['groups', 'rows', 'n', 'k', 'transB', 'accumulate', ...summationKeys],
    needs: (s, [c, a, b, offsets]) => [
      view('c', c, n(s.rows) * n(s.n)),
      operand('a', a, { rows: n(s.rows), cols: n(s.k), along: 'cols', groups: n(s.groups) }),
      operand('b', b, {
        stack: n(s.groups),
        ...(s.transB
          ? { rows: n(s.n), cols: n(s.k), along: 'cols' }
          : { rows: n(s.k), cols: n(s.n), along: 'rows' }),
      }),
      integers('offsets', offsets, n(s.groups) + 1),
    ],
    fault: productFault,
    flops: (s, [, a]) => ({ flops: 2 * n(s.rows) * n(s.n) * n(s.k), unit: unitOf(a) }),
  },
  groupedGemmWeight: {
    args: 'voov',
    traffic: 'wrrr',
    keys: ['groups', 'rows', 'm', 'n', 'accumulate', ...summationKeys],
    needs: (s, [c, a, b, offsets]) => [
      view('c', c, n(s.groups) * n(s.m) * n(s.n)),
      operand('a', a, { rows: n(s.rows), cols: n(s.m), along: 'rows', groups: n(s.groups) }),
      operand('b', b, { rows: n(s.rows), cols: n(s.n), along: 'rows', groups: n(s.groups) }),
      integers('offsets', offsets, n(s.groups) + 1),
    ],
    fault: productFault,
    flops: (s, [, a]) => ({ flops: 2 * n(s.rows) * n(s.m) * n(s.n), unit: unitOf(a) }),
  },
  quantize: {
    args: 'ov',
    traffic: 'wr',
    keys: quantizeKeys,
    needs: (s, [out, x]) => [
      codes('out', out, quantized(s)),
      view('x', x, stackOf(s) * n(s.rows) * n(s.cols)),
      ...groupBorders(s),
    ],
    fault: quantizeFault,
  },
  quantizeBoth: {
    args: 'oov',
    traffic: 'wwr',
    keys: quantizeKeys,
    needs: (s, [rowwise, columnwise, x]) => {
      const size = { rows: n(s.rows), cols: n(s.cols), across: 1 };
      const groups = s.offsets ? { groups: n(s.groups) } : {};
      return [
        operand('rowwise', rowwise, { ...size, along: 'cols' }, fp8),
        operand('columnwise', columnwise, { ...size, along: 'rows', ...groups }, [
          dtypeOf(rowwise),
        ]),
        view('x', x, n(s.rows) * n(s.cols)),
        ...groupBorders(s),
      ];
    },
    fault: (s) => stackOf(s) !== 1 && 'a stack is quantised one way',
  },
  requantize: {
    args: 'oo',
    traffic: 'wr',
    keys: quantizeKeys,
    needs: (s, [out, x]) => [
      operand('out', out, quantized(s), fp8),
      operand('x', x, { rows: n(s.rows), cols: n(s.cols) }, fp8),
      ...groupBorders(s),
    ],
    fault: (s) => stackOf(s) !== 1 && 'a stack is quantised, not requantised',
  },
  dequantize: {
    args: 'vo',
    traffic: 'wr',
    keys: ['rows', 'cols'],
    needs: (s, [out, x]) => [
      view('out', out, n(s.rows) * n(s.cols), plain),
      codes('x', x, { rows: n(s.rows), cols: n(s.cols) }),
    ],
  },
  rmsNormQuantize: {
    args: 'ovvvv',
    traffic: 'wwwrr',
    keys: ['rows', 'cols', 'epsilon', 'powerOfTwo'],
    needs: (s, [quantized, y, rstd, x, weight]) => [
      fused(s, quantized),
      optional(view('y', y, n(s.rows) * n(s.cols))),
      view('rstd', rstd, n(s.rows)),
      view('x', x, n(s.rows) * n(s.cols)),
      view('weight', weight, n(s.cols)),
    ],
  },
  swigluQuantize: {
    args: 'ovv',
    traffic: 'wrr',
    keys: ['rows', 'cols', 'powerOfTwo'],
    needs: (s, [quantized, gate, up]) => [
      fused(s, quantized),
      view('gate', gate, n(s.rows) * n(s.cols)),
      view('up', up, n(s.rows) * n(s.cols)),
    ],
  },
};
