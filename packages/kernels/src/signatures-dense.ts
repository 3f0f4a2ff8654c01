// Signatures of memory, matrix products, FP8, layers, attention, embedding and loss (see signature.ts).
import {
  alike,
  dtypeOf,
  elementBytes,
  integers,
  type MatrixNeed,
  n,
  operand,
  plain,
  type Signature,
  type Sizes,
  sizeOf,
  unitOf,
  view,
} from './signature';
import type { View } from './storage';

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
  | 'rmsNorm'
  | 'rmsNormBackward'
  | 'swiglu'
  | 'swigluBackward'
  | 'rope'
  | 'attention'
  | 'attentionBackward'
  | 'embedding'
  | 'embeddingBackward'
  | 'linearCrossEntropy';

const anyType: Parameters<typeof view>[3] = [];

/** One past the last element of a strided matrix; 0 if it is empty. */
function reach(offset: number, stride: number, rows: number, inner: number): number {
  return rows === 0 || inner === 0 ? 0 : offset + (rows - 1) * stride + inner;
}

const attentionSizes = (s: Sizes): Record<'q' | 'k' | 'v' | 'out' | 'lse', number> => {
  const [queryRows, keyRows] = [n(s.batch) * n(s.queries), n(s.batch) * n(s.keys)];
  const heads = n(s.heads);
  return {
    q: queryRows * heads * n(s.queryWidth),
    k: keyRows * heads * n(s.queryWidth),
    v: keyRows * heads * n(s.valueWidth),
    out: queryRows * heads * n(s.valueWidth),
    lse: queryRows * heads,
  };
};
const attentionFault = (s: Sizes): string | false =>
  n(s.keys) < n(s.queries) && `keys (${n(s.keys)}) are fewer than queries (${n(s.queries)})`;
/** Pairs of query and key that see each other: Σᵢ (keys − queries + i + 1). */
const attentionPairs = (s: Sizes): number =>
  n(s.batch) * n(s.heads) * n(s.queries) * (n(s.keys) - (n(s.queries) - 1) / 2);

const productFault: Signature['fault'] = (_, [, a, b]) =>
  dtypeOf(a) !== dtypeOf(b) && `a is ${dtypeOf(a)} and b is ${dtypeOf(b)}: both must be alike`;

/** Matrices that `quantize` and `requantize` take, on top of each other. */
const stackOf = (s: Sizes): number => (s.stack === undefined ? 1 : n(s.stack));
/** Their blocks: any shape; with row groups 128×1. */
const quantized = (s: Sizes): MatrixNeed => ({
  rows: n(s.rows),
  cols: n(s.cols),
  ...(s.offsets ? { groups: n(s.groups) } : { stack: stackOf(s) }),
});
const quantizeFault = (s: Sizes): string | false =>
  s.offsets !== undefined && stackOf(s) !== 1 && 'stack and offsets exclude each other';
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
    keys: [],
    needs: (_, [out, x]) => [
      view('out', out, null, anyType),
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
        { ...view('out', out, outSize, s.accumulate ? ['f32'] : plain), orMore: true },
        { ...view('x', x, xSize, s.accumulate ? ['f32'] : plain), orMore: true },
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
    keys: ['m', 'n', 'k', 'transA', 'transB', 'accumulate'],
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
    keys: ['groups', 'rows', 'n', 'k', 'transB', 'accumulate'],
    needs: (s, [c, a, b, offsets]) => [
      view('c', c, n(s.rows) * n(s.n)),
      operand('a', a, { rows: n(s.rows), cols: n(s.k), along: 'cols', across: 1 }),
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
    keys: ['groups', 'rows', 'm', 'n', 'accumulate'],
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
      operand('out', out, quantized(s), ['e4m3']),
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
        operand('rowwise', rowwise, { ...size, along: 'cols' }, ['e4m3']),
        operand('columnwise', columnwise, { ...size, along: 'rows', ...groups }, ['e4m3']),
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
      operand('out', out, quantized(s), ['e4m3']),
      operand('x', x, { rows: n(s.rows), cols: n(s.cols) }, ['e4m3']),
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
      operand('x', x, { rows: n(s.rows), cols: n(s.cols) }, ['e4m3']),
    ],
  },
  rmsNorm: {
    args: 'vvvv',
    traffic: 'wwrr',
    keys: ['rows', 'cols', 'epsilon'],
    needs: (s, [y, rstd, x, weight]) => [
      view('y', y, n(s.rows) * n(s.cols)),
      view('rstd', rstd, n(s.rows)),
      view('x', x, n(s.rows) * n(s.cols)),
      view('weight', weight, n(s.cols)),
    ],
  },
  rmsNormBackward: {
    args: 'vvvvvv',
    traffic: 'wurrrr',
    keys: ['rows', 'cols'],
    needs: (s, [dx, dweight, dy, x, weight, rstd]) => [
      view('dx', dx, n(s.rows) * n(s.cols)),
      view('dweight', dweight, n(s.cols)),
      view('dy', dy, n(s.rows) * n(s.cols)),
      view('x', x, n(s.rows) * n(s.cols)),
      view('weight', weight, n(s.cols)),
      view('rstd', rstd, n(s.rows)),
    ],
  },
  swiglu: { args: 'vvv', traffic: 'wrr', keys: [], needs: alike('out', 'gate', 'up') },
  swigluBackward: {
    args: 'vvvvv',
    traffic: 'wwrrr',
    keys: [],
    needs: alike('dgate', 'dup', 'dout', 'gate', 'up'),
  },
  rope: {
    args: 'vvvv',
    traffic: 'wrrr',
    keys: [
      'rows',
      'heads',
      'width',
      'sequence',
      'start',
      'outStride',
      'outHeadStride',
      'outOffset',
      'xStride',
      'xHeadStride',
      'xOffset',
      'inverse',
      'sumHeads',
    ],
    needs: (s, [out, x, cos, sin]) => {
      const [rows, heads, width] = [n(s.rows), n(s.heads), n(s.width)];
      const outInner = s.sumHeads ? width : reach(0, n(s.outHeadStride), heads, width);
      const xInner = reach(0, n(s.xHeadStride), heads, width);
      const positions = rows === 0 ? 0 : n(s.start) + Math.min(rows, n(s.sequence));
      const outSize = reach(n(s.outOffset), n(s.outStride), rows, outInner);
      const xSize = reach(n(s.xOffset), n(s.xStride), rows, xInner);
      return [
        { ...view('out', out, outSize, plain), orMore: true },
        { ...view('x', x, xSize), orMore: true },
        { ...view('cos', cos, (positions * width) / 2), orMore: true },
        { ...view('sin', sin, (positions * width) / 2), orMore: true },
      ];
    },
    fault: (s) =>
      (n(s.width) % 2 !== 0 && `width (${n(s.width)}) is odd: rotary pairs need an even one`) ||
      (n(s.sequence) < 1 && 'sequence must be at least 1'),
    bytes: (s, [out]) =>
      n(s.rows) * n(s.heads) * n(s.width) * (4 + elementBytes(out) / (s.sumHeads ? n(s.heads) : 1)),
  },
  attention: {
    args: 'vvvvv',
    traffic: 'wwrrr',
    keys: ['batch', 'queries', 'keys', 'heads', 'queryWidth', 'valueWidth', 'scale'],
    needs: (s, [out, lse, q, k, v]) => {
      const size = attentionSizes(s);
      return [
        view('out', out, size.out),
        view('lse', lse, size.lse),
        view('q', q, size.q, plain),
        view('k', k, size.k, [dtypeOf(q)]),
        view('v', v, size.v, [dtypeOf(q)]),
      ];
    },
    fault: attentionFault,
    flops: (s, [, , q]) => ({
      flops: 2 * attentionPairs(s) * (n(s.queryWidth) + n(s.valueWidth)),
      unit: unitOf(q),
    }),
  },
  attentionBackward: {
    args: 'vvvvvvvvv',
    traffic: 'wwwrrrrrr',
    keys: ['batch', 'queries', 'keys', 'heads', 'queryWidth', 'valueWidth', 'scale'],
    needs: (s, [dq, dk, dv, dout, q, k, v, out, lse]) => {
      const size = attentionSizes(s);
      return [
        view('dq', dq, size.q),
        view('dk', dk, size.k),
        view('dv', dv, size.v),
        view('dout', dout, size.out),
        view('q', q, size.q, plain),
        view('k', k, size.k, [dtypeOf(q)]),
        view('v', v, size.v, [dtypeOf(q)]),
        view('out', out, size.out),
        view('lse', lse, size.lse),
      ];
    },
    fault: attentionFault,
    // Scores again, dP, dq, dk and dv.
    flops: (s, operands) => ({
      flops: 2 * attentionPairs(s) * (3 * n(s.queryWidth) + 2 * n(s.valueWidth)),
      unit: unitOf(operands[4]),
    }),
  },
  embedding: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['rows', 'cols'],
    needs: (s, [out, weight, ids]) => [
      view('out', out, n(s.rows) * n(s.cols)),
      view('weight', weight, null),
      integers('ids', ids, n(s.rows)),
    ],
    fault: (s, [, weight]) =>
      sizeOf(weight) % n(s.cols) !== 0 && `weight is no matrix of ${n(s.cols)} columns`,
    bytes: (s) => n(s.rows) * (4 + 8 * n(s.cols)),
  },
  embeddingBackward: {
    args: 'vvv',
    traffic: 'urr',
    keys: ['rows', 'cols', 'vocab'],
    needs: (s, [dweight, dout, ids]) => [
      view('dweight', dweight, n(s.vocab) * n(s.cols)),
      view('dout', dout, n(s.rows) * n(s.cols)),
      integers('ids', ids, n(s.rows)),
    ],
    // Only rows of ids that occur are touched.
    bytes: (s) =>
      4 * (n(s.rows) * (1 + n(s.cols)) + 2 * Math.min(n(s.rows), n(s.vocab)) * n(s.cols)),
  },
  linearCrossEntropy: {
    args: 'vvvv',
    traffic: 'wrrr',
    keys: ['rows', 'hidden', 'vocab', '@rowScale', '@dx', '@dweight'],
    needs: (s, [loss, x, weight, targets]) => {
      const needs = [
        view('loss', loss, n(s.rows)),
        view('x', x, n(s.rows) * n(s.hidden), plain),
        view('weight', weight, n(s.vocab) * n(s.hidden), [dtypeOf(x)]),
        integers('targets', targets, n(s.rows)),
      ];
      if (s.dx)
        needs.push(
          view('gradient.rowScale', s.rowScale as View, n(s.rows)),
          view('gradient.dx', s.dx as View, n(s.rows) * n(s.hidden)),
          view('gradient.dweight', s.dweight as View, n(s.vocab) * n(s.hidden)),
        );
      return needs;
    },
    flops: (s, [, x]) => ({
      flops: (s.dx ? 6 : 2) * n(s.rows) * n(s.hidden) * n(s.vocab),
      unit: unitOf(x),
    }),
    bytes: (s, [, x]) => {
      const [rows, weights] = [n(s.rows) * n(s.hidden), n(s.vocab) * n(s.hidden)];
      const forward = (rows + weights) * elementBytes(x) + 8 * n(s.rows);
      return s.dx ? forward + 4 * rows + 8 * weights + 4 * n(s.rows) : forward;
    },
  },
};
