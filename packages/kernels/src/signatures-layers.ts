// Signatures of layers, attention, embedding and loss (see signature.ts).
import {
  alike,
  dtypeOf,
  elementBytes,
  integers,
  type Need,
  n,
  orMore,
  plain,
  reach,
  type Signature,
  type Sizes,
  sizeOf,
  unitOf,
  view,
} from './signature';
import type { View } from './storage';

type LayerName =
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

const attentionKeys = [
  'batch',
  'queries',
  'keys',
  'heads',
  'queryWidth',
  'valueWidth',
  'scale',
  '@documents',
];
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
const attentionFault = (s: Sizes): string | false => {
  if (n(s.keys) < n(s.queries))
    return `keys (${n(s.keys)}) are fewer than queries (${n(s.queries)})`;
  if (s.documents && (n(s.batch) !== 1 || n(s.keys) !== n(s.queries)))
    return `documents are packed into one sequence of as many keys as queries, not ${n(s.batch)} of ${n(s.queries)} and ${n(s.keys)}`;
  return !(n(s.scale) > 0) && `scale (${n(s.scale)}) is not above 0`;
};
/** Borders of documents, at least the first. */
const documentNeeds = (s: Sizes): Need[] =>
  s.documents ? [orMore(integers('documents', s.documents as View, 1))] : [];
/** Pairs of query and key that see each other: Σᵢ (keys − queries + i + 1), as if there were one document. */
const attentionPairs = (s: Sizes): number =>
  n(s.batch) * n(s.heads) * n(s.queries) * (n(s.keys) - (n(s.queries) - 1) / 2);

/** Signatures by kernel. */
export const layerSignatures: Readonly<Record<LayerName, Signature>> = {
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
        orMore(view('out', out, outSize, plain)),
        orMore(view('x', x, xSize)),
        orMore(view('cos', cos, (positions * width) / 2)),
        orMore(view('sin', sin, (positions * width) / 2)),
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
    keys: attentionKeys,
    needs: (s, [out, lse, q, k, v]) => {
      const size = attentionSizes(s);
      return [
        view('out', out, size.out),
        view('lse', lse, size.lse),
        view('q', q, size.q, plain),
        view('k', k, size.k, [dtypeOf(q)]),
        view('v', v, size.v, [dtypeOf(q)]),
        ...documentNeeds(s),
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
    keys: attentionKeys,
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
        ...documentNeeds(s),
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
    keys: ['rows', 'hidden', 'vocab', '@likeliest', '@rowScale', '@dx', '@dweight'],
    needs: (s, [loss, x, weight, targets]) => {
      const needs = [
        view('loss', loss, n(s.rows)),
        view('x', x, n(s.rows) * n(s.hidden), plain),
        view('weight', weight, n(s.vocab) * n(s.hidden), [dtypeOf(x)]),
        integers('targets', targets, n(s.rows)),
      ];
      if (s.likeliest) needs.push(integers('likeliest', s.likeliest as View, n(s.rows)));
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
      const forward = (rows + weights) * elementBytes(x) + (s.likeliest ? 12 : 8) * n(s.rows);
      return s.dx ? forward + 4 * rows + 8 * weights + 4 * n(s.rows) : forward;
    },
  },
};
