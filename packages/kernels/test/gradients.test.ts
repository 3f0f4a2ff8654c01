// Backward kernels of the reference are derivatives of the forward ones: compared with central differences of the literal
// contract (literal.ts), in double precision.
import { encodeBf16Array, referenceKernels, type View, viewOf } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { expectClose, numbers, Random } from './compare';
import * as literal from './literal';

const kernels = referenceKernels();

function normal(random: Random, size: number): number[] {
  return Array.from({ length: size }, () => Math.fround(random.normal()));
}

function input(values: readonly number[]): View {
  return viewOf(Float32Array.from(values));
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0);
}

test('rmsNorm: dx is replaced, dweight added to', () => {
  const random = new Random(2);
  for (const [rows, cols] of [
    [1, 1],
    [1, 7],
    [5, 12],
  ] as const) {
    const [x, weight, dy] = [rows * cols, cols, rows * cols].map((size) => normal(random, size));
    const value = (x: readonly number[], w: readonly number[]): number =>
      dot(
        literal.rmsNorm(
          rows,
          cols,
          1e-6,
          (r, c) => x[r * cols + c],
          (c) => w[c],
        ).y,
        dy,
      );
    const { rstd } = literal.rmsNorm(
      rows,
      cols,
      1e-6,
      (r, c) => x[r * cols + c],
      () => 1,
    );
    const before = normal(random, cols);
    const [dx, dweight] = [new Float32Array(rows * cols).fill(9), Float32Array.from(before)];
    const given = [input(dy), input(x), input(weight), input(rstd)] as const;
    kernels.rmsNormBackward(viewOf(dx), viewOf(dweight), ...given, { rows, cols });
    // With one column y hardly moves with x: what remains of dx is rounding.
    const wanted = literal.numericGradient(x, (x) => value(x, weight));
    if (cols > 1) expectClose(dx, wanted, 1e-5, 'dx');
    const added = literal.numericGradient(weight, (w) => value(x, w));
    expectClose(
      dweight,
      added.map((d, c) => before[c] + d),
      1e-5,
      'dweight',
    );
  }
});

test('swiglu and sigmoid', () => {
  const random = new Random(3);
  const [gate, up, dout] = [
    normal(random, 40).map((g) => 3 * g),
    normal(random, 40),
    normal(random, 40),
  ];
  const value = (gate: readonly number[], up: readonly number[]): number =>
    dot(
      gate.map((g, i) => literal.swiglu(g, up[i])),
      dout,
    );
  const [dgate, dup] = [new Float32Array(40), new Float32Array(40)];
  kernels.swigluBackward(viewOf(dgate), viewOf(dup), input(dout), input(gate), input(up));
  expectClose(
    dgate,
    literal.numericGradient(gate, (g) => value(g, up)),
    1e-6,
    'dgate',
  );
  expectClose(
    dup,
    literal.numericGradient(up, (u) => value(gate, u)),
    1e-6,
    'dup',
  );

  const dx = new Float32Array(40);
  kernels.sigmoidBackward(viewOf(dx), input(dout), input(gate.map(literal.sigmoid)));
  const sigmoids = (x: readonly number[]): number => dot(x.map(literal.sigmoid), dout);
  expectClose(dx, literal.numericGradient(gate, sigmoids), 1e-6, 'dx');
});

test('softmax', () => {
  const random = new Random(13);
  const [rows, cols] = [3, 7];
  const [x, dout] = [normal(random, rows * cols), normal(random, rows * cols)];
  const softmax = (values: readonly number[]): number[] =>
    values.map((value, i) => {
      const from = i - (i % cols);
      const own = values.slice(from, from + cols).map(Math.exp);
      return Math.exp(value) / own.reduce((sum, power) => sum + power, 0);
    });
  const dx = new Float32Array(rows * cols);
  kernels.softmaxBackward(viewOf(dx), input(dout), input(softmax(x)), { rows, cols });
  const value = (values: readonly number[]): number => dot(softmax(values), dout);
  expectClose(dx, literal.numericGradient(x, value), 1e-6, 'dx');
});

test('rope: the inverse is the transpose, and shared keys sum over heads', () => {
  const random = new Random(4);
  const [rows, heads, width] = [6, 3, 8];
  const angles = Array.from({ length: (rows * width) / 2 }, (_, i) => 0.3 * i);
  const tables = [input(angles.map(Math.cos)), input(angles.map(Math.sin))] as const;
  // One shared key a row, rotated and repeated for every head.
  const shared = { rows, heads, width, sequence: rows, outHeadStride: width, xHeadStride: width };
  const [x, dy] = [normal(random, rows * width), normal(random, rows * heads * width)];
  const y = new Float32Array(rows * heads * width);
  const wide = heads * width;
  kernels.rope(viewOf(y), input(x), ...tables, {
    ...shared,
    outStride: wide,
    xStride: width,
    xHeadStride: 0,
  });
  const dx = new Float32Array(rows * width);
  kernels.rope(viewOf(dx), input(dy), ...tables, {
    ...shared,
    outStride: width,
    xStride: wide,
    inverse: true,
    sumHeads: true,
  });
  expect(dot(y, dy)).toBeCloseTo(dot(x, dx), 4);
  expect(Math.abs(dot(y, dy))).toBeGreaterThan(0.1);
});

const shapes = [
  { batch: 1, queries: 1, keys: 1, heads: 1, queryWidth: 2, valueWidth: 3 },
  { batch: 2, queries: 5, keys: 5, heads: 2, queryWidth: 4, valueWidth: 3 },
  { batch: 1, queries: 2, keys: 6, heads: 3, queryWidth: 3, valueWidth: 5 },
];
test.each(shapes)('attention: $queries queries, $keys keys', (shape) => {
  const random = new Random(5);
  const sizes = { ...shape, scale: 0.7 };
  const [rows, keyRows] = [shape.batch * shape.queries, shape.batch * shape.keys];
  const q = normal(random, rows * shape.heads * shape.queryWidth);
  const k = normal(random, keyRows * shape.heads * shape.queryWidth);
  const v = normal(random, keyRows * shape.heads * shape.valueWidth);
  const dout = normal(random, rows * shape.heads * shape.valueWidth);
  const value = (q: readonly number[], k: readonly number[], v: readonly number[]): number =>
    dot(literal.attention(sizes, q, k, v).out, dout);
  const wanted = {
    dq: literal.numericGradient(q, (q) => value(q, k, v)),
    dk: literal.numericGradient(k, (k) => value(q, k, v)),
    dv: literal.numericGradient(v, (v) => value(q, k, v)),
  };
  for (const low of [false, true]) {
    const operand = (x: readonly number[]): View =>
      low ? viewOf(encodeBf16Array(Float32Array.from(x))) : input(x);
    const [out, lse] = [new Float32Array(dout.length), new Float32Array(rows * shape.heads)];
    const given = [operand(q), operand(k), operand(v)] as const;
    kernels.attention(viewOf(out), viewOf(lse), ...given, sizes);
    const [dq, dk, dv] = [q, k, v].map((x) => new Float32Array(x.length).fill(9));
    const outs = [viewOf(dq), viewOf(dk), viewOf(dv)] as const;
    kernels.attentionBackward(...outs, input(dout), ...given, viewOf(out), viewOf(lse), sizes);
    // BF16 operands have 8 bits: a per cent. One query that sees one key moves nothing: dq and dk are rounding.
    const tolerance = low ? 0.02 : 1e-5;
    if (shape.keys > 1) {
      expectClose(dq, wanted.dq, tolerance, 'dq');
      expectClose(dk, wanted.dk, tolerance, 'dk');
    }
    expectClose(dv, wanted.dv, tolerance, 'dv');
  }
});

test.each([
  { batch: 1, queries: 1, keys: 1, heads: 1, rank: 3, rope: 2 },
  { batch: 2, queries: 5, keys: 5, heads: 2, rank: 3, rope: 0 },
  { batch: 1, queries: 2, keys: 6, heads: 3, rank: 4, rope: 2 },
])('latentAttention: $queries queries, $keys keys', (shape) => {
  const random = new Random(5);
  const { batch, queries, keys: count, heads, rank, rope } = shape;
  const [width, sizes] = [rank + rope, { ...shape, scale: 0.7 }];
  const q = normal(random, batch * queries * heads * width);
  const keys = normal(random, batch * count * width);
  const dout = normal(random, batch * queries * heads * rank);
  // Attention in which every head's keys are the rows, and its values their latents.
  const value = (q: readonly number[], keys: readonly number[]): number => {
    const perHead = (size: number): number[] =>
      Array.from(
        { length: batch * count * heads },
        (_, i) => Math.floor(i / heads) * width,
      ).flatMap((at) => keys.slice(at, at + size));
    const literalSizes = { ...sizes, queryWidth: width, valueWidth: rank };
    return dot(literal.attention(literalSizes, q, perHead(width), perHead(rank)).out, dout);
  };
  const wanted = {
    dq: literal.numericGradient(q, (q) => value(q, keys)),
    dkeys: literal.numericGradient(keys, (keys) => value(q, keys)),
  };
  for (const low of [false, true]) {
    const operand = (x: readonly number[]): View =>
      low ? viewOf(encodeBf16Array(Float32Array.from(x))) : input(x);
    const [out, lse] = [
      new Float32Array(dout.length),
      new Float32Array(batch * queries * heads),
    ].map((array) => viewOf(array));
    const given = [operand(q), operand(keys)] as const;
    // A page a sequence.
    const table = Int32Array.from({ length: batch }, (_, b) => b);
    const lengths = new Int32Array(batch).fill(count);
    const pool = { sequences: batch, pages: batch, pageSize: count, tableWidth: 1 };
    const forward = { ...sizes, ...pool };
    kernels.latentAttention(out, lse, ...given, viewOf(table), viewOf(lengths), forward);
    const [dq, dkeys] = [q, keys].map((x) => new Float32Array(x.length).fill(9));
    const outs = [viewOf(dq), viewOf(dkeys)] as const;
    kernels.latentAttentionBackward(...outs, input(dout), ...given, out, lse, sizes);
    const tolerance = low ? 0.02 : 1e-5;
    // One query that sees one key moves nothing: dq is rounding.
    if (count > 1) expectClose(dq, wanted.dq, tolerance, 'dq');
    expectClose(dkeys, wanted.dkeys, tolerance, 'dkeys');
  }
});

test('linearCrossEntropy: loss, scaled dx and added dweight; rows without a target give nothing but their likeliest token', () => {
  const random = new Random(6);
  const [rows, hidden, vocab] = [70, 5, 9];
  const [x, weight, scale] = [rows * hidden, vocab * hidden, rows].map((n) => normal(random, n));
  const targets = Array.from({ length: rows }, (_, r) =>
    r % 7 === 3 ? -1 : random.integer(vocab),
  );
  // Equal logits in a row without a target.
  x.fill(0, 3 * hidden, 4 * hidden);
  const logitsOf = (x: readonly number[], w: readonly number[], r: number): number[] =>
    Array.from({ length: vocab }, (_, v) =>
      literal.element(
        hidden,
        (c) => x[r * hidden + c],
        (c) => w[v * hidden + c],
      ),
    );
  const losses = (x: readonly number[], w: readonly number[]): number[] =>
    targets.map((target, r) => literal.crossEntropy(logitsOf(x, w, r), target));
  const before = normal(random, vocab * hidden);
  for (const low of [false, true]) {
    const operand = (values: readonly number[]): View =>
      low ? viewOf(encodeBf16Array(Float32Array.from(values))) : input(values);
    const exact = (values: readonly number[]): number[] =>
      low ? Array.from(numbers(encodeBf16Array(Float32Array.from(values)))) : [...values];
    const [loss, dx] = [new Float32Array(rows), new Float32Array(rows * hidden).fill(9)];
    const dweight = Float32Array.from(before);
    const ids = viewOf(Int32Array.from(targets));
    const sizes = { rows, hidden, vocab };
    kernels.linearCrossEntropy(viewOf(loss), operand(x), operand(weight), ids, sizes, {
      rowScale: input(scale),
      dx: viewOf(dx),
      dweight: viewOf(dweight),
    });
    const [xs, ws] = [exact(x), exact(weight)];
    const tolerance = low ? 5e-3 : 1e-5;
    expectClose(loss, losses(xs, ws), 1e-6, 'loss');
    const ofX = literal.numericGradient(xs, (x) => dot(losses(x, ws), scale));
    expectClose(dx, ofX, tolerance, 'dx');
    expect(dx.slice(3 * hidden, 4 * hidden)).toEqual(new Float32Array(hidden));
    const ofWeight = literal.numericGradient(ws, (w) => dot(losses(xs, w), scale));
    expectClose(
      dweight,
      ofWeight.map((d, i) => before[i] + d),
      tolerance,
      'dweight',
    );

    const alone = new Float32Array(rows);
    const likeliest = new Int32Array(rows).fill(-1);
    kernels.linearCrossEntropy(viewOf(alone), operand(x), operand(weight), ids, {
      ...sizes,
      likeliest: viewOf(likeliest),
    });
    expect(alone).toEqual(loss);
    const largest = targets.map((_, r) => {
      const logits = logitsOf(xs, ws, r);
      return logits.indexOf(Math.max(...logits));
    });
    expect([...likeliest]).toEqual(largest);
    expect(likeliest[3]).toBe(0);
  }
});

test.each([true, false])(
  'gateWeights, normalize %s: the bias has no gradient, the chosen do',
  (normalize) => {
    const random = new Random(7);
    const [tokens, experts, k] = [4, 6, 3];
    const scores = Array.from({ length: tokens * experts }, () => random.uniform(0.1, 1));
    const chosen = [
      [5, 0, 2],
      [1, 2, 3],
      [0, 1, 5],
      [4, 3, 0],
    ];
    const dweights = normal(random, tokens * k);
    const value = (scores: readonly number[]): number =>
      dot(
        chosen.flatMap((row, t) =>
          literal.gateWeights(scores.slice(t * experts, (t + 1) * experts), row, 2.5, normalize),
        ),
        dweights,
      );
    const before = normal(random, tokens * experts);
    const dscores = Float32Array.from(before);
    const indices = viewOf(Int32Array.from(chosen.flat()));
    const sizes = { tokens, experts, k, scaling: 2.5, normalize };
    kernels.gateWeightsBackward(viewOf(dscores), input(dweights), input(scores), indices, sizes);
    const added = literal.numericGradient(scores, value);
    expectClose(
      dscores,
      added.map((d, i) => before[i] + d),
      1e-5,
      'dscores',
    );
  },
);

test('balanceLoss: the mean is over each sequence, not the batch; loss and gradient are added', () => {
  const random = new Random(8);
  const [sequences, sequenceLength, experts, k] = [3, 5, 4, 2];
  const tokens = sequences * sequenceLength;
  const scores = Array.from({ length: tokens * experts }, () => random.uniform(0.1, 1));
  const chosen = Array.from({ length: tokens }, (_, t) => {
    const row = scores.slice(t * experts, (t + 1) * experts);
    return literal.topK(row, k, 1, 1);
  });
  const value = (scores: readonly number[]): number => {
    let sum = 0;
    for (let s = 0; s < sequences; s += 1) {
      const own = Array.from({ length: sequenceLength }, (_, t) => s * sequenceLength + t);
      sum += literal.balance(
        own.map((t) => scores.slice(t * experts, (t + 1) * experts)),
        own.map((t) => chosen[t]),
      );
    }
    return 0.3 * sum;
  };
  const before = normal(random, tokens * experts);
  const [loss, dscores] = [Float32Array.of(2), Float32Array.from(before)];
  const indices = viewOf(Int32Array.from(chosen.flat()));
  const sizes = { sequences, sequenceLength, experts, k, factor: 0.3 };
  kernels.balanceLoss(viewOf(loss), viewOf(dscores), input(scores), indices, null, sizes);
  expectClose(loss, [2 + value(scores)], 1e-6, 'loss');
  const added = literal.numericGradient(scores, value);
  expectClose(
    dscores,
    added.map((d, i) => before[i] + d),
    1e-5,
    'dscores',
  );

  kernels.balanceLoss(viewOf(loss), null, input(scores), indices, null, sizes);
  expectClose(loss, [2 + 2 * value(scores)], 1e-6, 'loss');
});

test('balanceLoss: with the counts of a batch, its parts add up to the loss of the whole', () => {
  const random = new Random(10);
  const [tokens, experts, k] = [12, 4, 2];
  const scores = Array.from({ length: tokens * experts }, () => random.uniform(0.1, 1));
  const rows = Array.from({ length: tokens }, (_, t) =>
    scores.slice(t * experts, (t + 1) * experts),
  );
  const chosen = rows.map((row) => literal.topK(row, k, 1, 1));
  const counts = Int32Array.from({ length: experts }, (_, e) =>
    chosen.reduce((sum, row) => sum + Number(row.includes(e)), 0),
  );
  const value = (list: readonly number[]): number =>
    literal.balance(
      rows.map((_, t) => list.slice(t * experts, (t + 1) * experts)),
      chosen,
    );
  const [loss, dscores] = [new Float32Array(1), new Float32Array(tokens * experts)];
  // Micro-batches of 4 tokens and of 8: each counts by its tokens.
  for (const [first, length] of [
    [0, 4],
    [4, 8],
  ]) {
    const part = (array: Float32Array): Float32Array =>
      array.subarray(first * experts, (first + length) * experts);
    kernels.balanceLoss(
      viewOf(loss),
      viewOf(part(dscores)),
      viewOf(part(Float32Array.from(scores))),
      null,
      viewOf(counts),
      { sequences: 1, sequenceLength: length, experts, k, factor: length / tokens },
    );
  }
  expectClose(loss, [value(scores)], 1e-6, 'loss');
  expectClose(dscores, literal.numericGradient(scores, value), 1e-5, 'dscores');

  // A batch of no tokens asks for nothing.
  const none = viewOf(new Int32Array(experts));
  const sizes = { sequences: 1, sequenceLength: tokens, experts, k, factor: 1 };
  loss.fill(0);
  kernels.balanceLoss(viewOf(loss), null, input(scores), null, none, sizes);
  expect(loss[0]).toBe(0);
});

test('unpermute: dy and dweights are replaced', () => {
  const random = new Random(9);
  const [tokens, k, cols] = [3, 2, 4];
  const rowOfSlot = [4, 0, 5, 2, 1, 3];
  const [y, weights, dout] = [tokens * k * cols, tokens * k, tokens * cols].map((n) =>
    normal(random, n),
  );
  const value = (y: readonly number[], w: readonly number[]): number => {
    let sum = 0;
    for (let slot = 0; slot < tokens * k; slot += 1)
      for (let c = 0; c < cols; c += 1)
        sum += dout[Math.floor(slot / k) * cols + c] * w[slot] * y[rowOfSlot[slot] * cols + c];
    return sum;
  };
  const [dy, dweights] = [new Float32Array(y.length).fill(9), new Float32Array(tokens * k).fill(9)];
  const rows = viewOf(Int32Array.from(rowOfSlot));
  const given = [input(dout), input(y), input(weights), rows] as const;
  kernels.unpermuteBackward(viewOf(dy), viewOf(dweights), ...given, { tokens, k, cols });
  expectClose(
    dy,
    literal.numericGradient(y, (y) => value(y, weights)),
    1e-6,
    'dy',
  );
  expectClose(
    dweights,
    literal.numericGradient(weights, (w) => value(y, w)),
    1e-6,
    'dweights',
  );
});
