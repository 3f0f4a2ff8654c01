// Signatures of routing, reductions and the optimizer (see signature.ts).
import {
  alike,
  dtypeOf,
  elementBytes,
  integers,
  n,
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
  if (groups < 1 || experts % groups !== 0)
    return `experts (${experts}) do not divide into groups (${groups})`;
  if (kept < 1 || kept > groups)
    return `groupsKept (${kept}) is not between 1 and groups (${groups})`;
  return (
    k > (experts / groups) * kept &&
    `k (${k}) exceeds the experts of the groups kept (${(experts / groups) * kept})`
  );
};

/** Signatures by kernel. */
export const routingSignatures: Readonly<Record<RoutingName, Signature>> = {
  sigmoid: { args: 'vv', traffic: 'wr', keys: [], needs: alike('out', 'x') },
  sigmoidBackward: { args: 'vvv', traffic: 'wrr', keys: [], needs: alike('dx', 'dy', 'y') },
  topK: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['tokens', 'experts', 'k', 'groups', 'groupsKept'],
    needs: (s, [indices, scores, bias]) => [
      integers('indices', indices, n(s.tokens) * n(s.k)),
      view('scores', scores, n(s.tokens) * n(s.experts)),
      { ...view('bias', bias, n(s.experts)), optional: true },
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
    args: 'vvvv',
    traffic: 'uurr',
    keys: ['sequences', 'sequenceLength', 'experts', 'k', 'factor'],
    needs: (s, [loss, dscores, scores, indices]) => {
      const tokens = n(s.sequences) * n(s.sequenceLength);
      return [
        view('loss', loss, 1),
        { ...view('dscores', dscores, tokens * n(s.experts)), optional: true },
        view('scores', scores, tokens * n(s.experts)),
        integers('indices', indices, tokens * n(s.k)),
      ];
    },
  },
  route: {
    args: 'vvvvv',
    traffic: 'wwwwr',
    keys: ['tokens', 'k', 'experts'],
    needs: (s, [counts, offsets, slotOfRow, rowOfSlot, indices]) => [
      integers('counts', counts, n(s.experts)),
      integers('offsets', offsets, n(s.experts) + 1),
      integers('slotOfRow', slotOfRow, n(s.tokens) * n(s.k)),
      integers('rowOfSlot', rowOfSlot, n(s.tokens) * n(s.k)),
      integers('indices', indices, n(s.tokens) * n(s.k)),
    ],
  },
  permute: {
    args: 'vvv',
    traffic: 'wrr',
    keys: ['rows', 'k', 'cols'],
    needs: (s, [out, x, slotOfRow]) => [
      view('out', out, n(s.rows) * n(s.cols), wholeBytes),
      view('x', x, (n(s.rows) / n(s.k)) * n(s.cols), [dtypeOf(out)]),
      integers('slotOfRow', slotOfRow, n(s.rows)),
    ],
    fault: (s) =>
      (n(s.k) < 1 || n(s.rows) % n(s.k) !== 0) &&
      `rows (${n(s.rows)}) are not k (${n(s.k)}) times a number of tokens`,
    bytes: (s, [out]) => n(s.rows) * (4 + 2 * n(s.cols) * elementBytes(out)),
  },
  unpermute: {
    args: 'vvvv',
    traffic: 'wrrr',
    keys: ['tokens', 'k', 'cols', 'accumulate'],
    needs: (s, [out, y, rowOfSlot, weights]) => [
      view('out', out, n(s.tokens) * n(s.cols)),
      view('y', y, n(s.tokens) * n(s.k) * n(s.cols)),
      integers('rowOfSlot', rowOfSlot, n(s.tokens) * n(s.k)),
      { ...view('weights', weights, n(s.tokens) * n(s.k)), optional: true },
    ],
  },
  unpermuteBackward: {
    args: 'vvvvvv',
    traffic: 'wwrrrr',
    keys: ['tokens', 'k', 'cols'],
    needs: (s, [dy, dweights, dout, y, weights, rowOfSlot]) => [
      view('dy', dy, n(s.tokens) * n(s.k) * n(s.cols)),
      view('dweights', dweights, n(s.tokens) * n(s.k)),
      view('dout', dout, n(s.tokens) * n(s.cols)),
      view('y', y, n(s.tokens) * n(s.k) * n(s.cols)),
      view('weights', weights, n(s.tokens) * n(s.k)),
      integers('rowOfSlot', rowOfSlot, n(s.tokens) * n(s.k)),
    ],
  },
  updateRouterBias: {
    args: 'vv',
    traffic: 'ur',
    keys: ['experts', 'speed'],
    needs: (s, [bias, counts]) => [
      view('bias', bias, n(s.experts)),
      integers('counts', counts, n(s.experts)),
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
