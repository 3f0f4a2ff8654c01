// Signatures of routing, reductions and the optimizer (see signature.ts).
import {
  alike,
  dtypeOf,
  elementBytes,
  integers,
  n,
  optional,
  plain,
  type Signature,
  type Sizes,
  sizeOf,
  view,
  wholeBytes,
} from './signature';

type RoutingName =
  | 'sigmoid'
  | 'sigmoidBackward'
  | 'softmax'
  | 'softmaxBackward'
  | 'topK'
  | 'gateWeights'
  | 'gateWeightsBackward'
  | 'balanceLoss'
  | 'route'
  | 'permute'
  | 'unpermute'
  | 'unpermuteBackward'
  | 'updateRouterBias'
  | 'sum'
  | 'sumOfSquares'
  | 'clipFactor'
  | 'adamw';

const topKFault = (s: Sizes): string | false => {
  const [experts, k, groups, kept] = [n(s.experts), n(s.k), n(s.groups), n(s.groupsKept)];
  if (s.groupBest !== undefined && !(n(s.groupBest) >= 1))
    return `groupBest (${n(s.groupBest)}) is below 1`;
  if (groups < 1 || experts % groups !== 0)
    return `experts (${experts}) do not divide into groups (${groups})`;
  if (kept < 1 || kept > groups)
    return `groupsKept (${kept}) is not between 1 and groups (${groups})`;
  return (
    k > (experts / groups) * kept &&
    `k (${k}) exceeds the experts of the groups kept (${(experts / groups) * kept})`
  );
};

/** FP32 matrices of one shape. */
const matrices =
  (...names: string[]): Signature['needs'] =>
  (s, operands) =>
    names.map((name, i) => view(name, operands[i], n(s.rows) * n(s.cols)));

/**
 * Rows that slots sorted by expert need where every expert's begin at a multiple of an alignment, whatever the loads are.
 * @param slots - T·K
 * @param experts - E
 * @param alignment - A
 * @returns the largest Σ ⌈count / A⌉ · A that counts of this sum can have
 */
export function alignedRows(slots: number, experts: number, alignment: number): number {
  const most = slots + Math.min(experts, slots) * (alignment - 1);
  return Math.floor(most / alignment) * alignment;
}

/** Rows with their padding, where a call names them. */
const rowsOf = (s: Sizes): number => (s.rows === undefined ? n(s.tokens) * n(s.k) : n(s.rows));

/** Signatures by kernel. */
export const routingSignatures: Readonly<Record<RoutingName, Signature>> = {
  sigmoid: { args: 'vv', traffic: 'wr', keys: [], needs: alike('out', 'x') },
  sigmoidBackward: { args: 'vvv', traffic: 'wrr', keys: [], needs: alike('dx', 'dy', 'y') },
  softmax: { args: 'vv', traffic: 'wr', keys: ['rows', 'cols'], needs: matrices('out', 'x') },
  softmaxBackward: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['rows', 'cols'],
    needs: matrices('dx', 'dy', 'y'),
  },
  topK: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['tokens', 'experts', 'k', 'groups', 'groupsKept', 'groupBest'],
    needs: (s, [indices, scores, bias]) => [
      integers('indices', indices, n(s.tokens) * n(s.k)),
      view('scores', scores, n(s.tokens) * n(s.experts)),
      optional(view('bias', bias, n(s.experts))),
    ],
    fault: topKFault,
  },
  gateWeights: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['tokens', 'experts', 'k', 'scaling', 'normalize'],
    needs: (s, [weights, scores, indices]) => [
      view('weights', weights, n(s.tokens) * n(s.k)),
      view('scores', scores, n(s.tokens) * n(s.experts)),
      integers('indices', indices, n(s.tokens) * n(s.k)),
    ],
  },
  gateWeightsBackward: {
    args: 'vvvv',
    traffic: 'urrr',
    keys: ['tokens', 'experts', 'k', 'scaling', 'normalize'],
    needs: (s, [dscores, dweights, scores, indices]) => [
      view('dscores', dscores, n(s.tokens) * n(s.experts)),
      view('dweights', dweights, n(s.tokens) * n(s.k)),
      view('scores', scores, n(s.tokens) * n(s.experts)),
      integers('indices', indices, n(s.tokens) * n(s.k)),
    ],
  },
  balanceLoss: {
    args: 'vvvvv',
    traffic: 'uurrr',
    keys: ['sequences', 'sequenceLength', 'experts', 'k', 'factor'],
    needs: (s, [loss, dscores, scores, indices, counts]) => {
      const tokens = n(s.sequences) * n(s.sequenceLength);
      return [
        view('loss', loss, 1),
        optional(view('dscores', dscores, tokens * n(s.experts))),
        view('scores', scores, tokens * n(s.experts)),
        optional(integers('indices', indices, tokens * n(s.k))),
        optional(integers('counts', counts, n(s.experts))),
      ];
    },
    fault: (_, [, , , indices, counts]) => !indices === !counts && 'give either indices or counts',
  },
  route: {
    args: 'vvvvv',
    traffic: 'wwwwr',
    keys: ['tokens', 'k', 'experts', 'alignment'],
    needs: (s, [counts, offsets, slotOfRow, rowOfSlot, indices]) => [
      integers('counts', counts, n(s.experts)),
      integers('offsets', offsets, n(s.experts) + 1),
      integers(
        'slotOfRow',
        slotOfRow,
        alignedRows(n(s.tokens) * n(s.k), n(s.experts), n(s.alignment) || 1),
      ),
      integers('rowOfSlot', rowOfSlot, n(s.tokens) * n(s.k)),
      integers('indices', indices, n(s.tokens) * n(s.k)),
    ],
    fault: (s) =>
      s.alignment !== undefined &&
      !(Number.isInteger(s.alignment) && n(s.alignment) >= 1) &&
      `alignment (${n(s.alignment)}) is not a whole number from 1 up`,
  },
  permute: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['rows', 'k', 'cols', 'tokens'],
    needs: (s, [out, x, slotOfRow]) => [
      view('out', out, n(s.rows) * n(s.cols), wholeBytes),
      view('x', x, (s.tokens === undefined ? n(s.rows) / n(s.k) : n(s.tokens)) * n(s.cols), [
        dtypeOf(out),
      ]),
      integers('slotOfRow', slotOfRow, n(s.rows)),
    ],
    fault: (s) =>
      (n(s.k) < 1 || (s.tokens === undefined && n(s.rows) % n(s.k) !== 0)) &&
      `rows (${n(s.rows)}) are not k (${n(s.k)}) times a number of tokens`,
    bytes: (s, [out]) => n(s.rows) * (4 + 2 * n(s.cols) * elementBytes(out)),
  },
  unpermute: {
    args: 'vvvv',
    traffic: 'wrrr',
    keys: ['tokens', 'k', 'cols', 'accumulate', 'rows'],
    needs: (s, [out, y, rowOfSlot, weights]) => [
      view('out', out, n(s.tokens) * n(s.cols)),
      view('y', y, rowsOf(s) * n(s.cols)),
      integers('rowOfSlot', rowOfSlot, n(s.tokens) * n(s.k)),
      optional(view('weights', weights, n(s.tokens) * n(s.k))),
    ],
  },
  unpermuteBackward: {
    args: 'vvvvvv',
    traffic: 'wwrrrr',
    keys: ['tokens', 'k', 'cols', 'rows'],
    needs: (s, [dy, dweights, dout, y, weights, rowOfSlot]) => [
      view('dy', dy, rowsOf(s) * n(s.cols)),
      view('dweights', dweights, n(s.tokens) * n(s.k)),
      view('dout', dout, n(s.tokens) * n(s.cols)),
      view('y', y, rowsOf(s) * n(s.cols)),
      view('weights', weights, n(s.tokens) * n(s.k)),
      integers('rowOfSlot', rowOfSlot, n(s.tokens) * n(s.k)),
    ],
  },
  updateRouterBias: {
    args: 'vvv',
    traffic: 'uru',
    keys: ['experts', 'speed', 'proportional', 'decay'],
    needs: (s, [bias, counts, average]) => [
      view('bias', bias, n(s.experts)),
      integers('counts', counts, n(s.experts)),
      optional(view('average', average, n(s.experts))),
    ],
  },
  sum: {
    args: 'vv',
    traffic: 'wr',
    keys: [],
    needs: (_, [out, x]) => [view('out', out, 1), view('x', x, null)],
  },
  sumOfSquares: {
    args: 'vv',
    traffic: 'wr',
    keys: [],
    needs: (_, [out, x]) => [view('out', out, 1), view('x', x, null)],
  },
  clipFactor: {
    args: 'vvvvv',
    traffic: 'wwwrr',
    keys: ['maxNorm'],
    needs: (_, [norm, factor, finite, squares, loss]) => [
      view('norm', norm, 1),
      view('factor', factor, 1),
      integers('finite', finite, 1),
      view('squares', squares, null),
      view('loss', loss, 1),
    ],
  },
  adamw: {
    args: 'vvvvvvv',
    traffic: 'uruurrr',
    keys: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
    needs: (_, [parameter, gradient, m, v, factor, finite, rates]) => [
      view('parameter', parameter, null),
      view('gradient', gradient, sizeOf(parameter)),
      view('m', m, sizeOf(parameter), plain),
      view('v', v, sizeOf(parameter), [dtypeOf(m)]),
      view('factor', factor, 1),
      integers('finite', finite, 1),
      view('rates', rates, 3),
    ],
  },
};
