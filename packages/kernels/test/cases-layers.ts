// Cases of normalisation, activation, rotary embedding, attention, embedding and loss.
import { type View, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import type { Arena } from './compare';

const sizes2d = [
  [0, 8],
  [1, 1],
  [1, 33],
  [5, 256],
  [67, 129],
] as const;

function rowCases(): Case[] {
  const list: Case[] = [];
  for (const [rows, cols] of sizes2d)
    list.push(
      {
        kernel: 'rmsNorm',
        label: `${rows}×${cols}`,
        tolerance: 1e-6,
        run: (kernels, arena) => {
          const [y, rstd] = [arena.out(rows * cols), arena.out(rows)];
          const [x, weight] = [viewOf(arena.floats(rows * cols)), viewOf(arena.floats(cols))];
          kernels.rmsNorm(viewOf(y), viewOf(rstd), x, weight, { rows, cols, epsilon: 1e-6 });
          return { y, rstd };
        },
      },
      {
        kernel: 'rmsNormBackward',
        label: `${rows}×${cols}`,
        tolerance: 2e-6,
        run: (kernels, arena) => {
          const [dx, dweight] = [arena.out(rows * cols), arena.out(cols)];
          const [dy, x] = [viewOf(arena.floats(rows * cols)), viewOf(arena.floats(rows * cols))];
          const weight = viewOf(arena.floats(cols));
          const rstd = viewOf(arena.floats(rows, () => arena.random.uniform(0.5, 2)));
          const size = { rows, cols };
          kernels.rmsNormBackward(viewOf(dx), viewOf(dweight), dy, x, weight, rstd, size);
          return { dx, dweight };
        },
      },
    );
  for (const size of [0, 1, 7, 1000, 10_007]) {
    // Far out as well: neither overflow nor NaN may come of e^±x.
    const wide = (arena: Arena): View =>
      viewOf(arena.floats(size, (i) => arena.random.normal() * (i % 5 === 4 ? 60 : 3)));
    list.push(
      {
        kernel: 'swiglu',
        label: `${size}`,
        tolerance: 1e-6,
        run: (kernels, arena) => {
          const out = arena.out(size);
          kernels.swiglu(viewOf(out), wide(arena), viewOf(arena.floats(size)));
          return { out };
        },
      },
      {
        kernel: 'swigluBackward',
        label: `${size}`,
        tolerance: 2e-6,
        run: (kernels, arena) => {
          const [dgate, dup] = [arena.out(size), arena.out(size)];
          const [dout, gate, up] = [arena.floats(size), wide(arena), arena.floats(size)];
          kernels.swigluBackward(viewOf(dgate), viewOf(dup), viewOf(dout), gate, viewOf(up));
          return { dgate, dup };
        },
      },
      {
        kernel: 'sigmoid',
        label: `${size}`,
        tolerance: 1e-6,
        run: (kernels, arena) => {
          const out = arena.out(size);
          kernels.sigmoid(viewOf(out), wide(arena));
          return { out };
        },
      },
      {
        kernel: 'sigmoidBackward',
        label: `${size}`,
        tolerance: 1e-6,
        run: (kernels, arena) => {
          const dx = arena.out(size);
          const y = viewOf(arena.floats(size, () => arena.random.uniform()));
          kernels.sigmoidBackward(viewOf(dx), viewOf(arena.floats(size)), y);
          return { dx };
        },
      },
    );
  }
  return list;
}

function softmaxCases(): Case[] {
  const list: Case[] = [];
  for (const [rows, cols] of [
    [0, 4],
    [1, 1],
    [3, 16],
    [7, 33],
    [65, 256],
  ]) {
    const sizes = { rows, cols };
    list.push(
      {
        kernel: 'softmax',
        label: `${rows}×${cols}`,
        tolerance: 2e-6,
        run: (kernels, arena) => {
          const out = arena.out(rows * cols);
          const x = arena.floats(rows * cols, () => 20 * arena.random.normal());
          kernels.softmax(viewOf(out), viewOf(x), sizes);
          return { out };
        },
      },
      {
        kernel: 'softmaxBackward',
        label: `${rows}×${cols}`,
        tolerance: 2e-6,
        run: (kernels, arena) => {
          const dx = arena.out(rows * cols);
          const y = viewOf(arena.floats(rows * cols, () => arena.random.uniform() / cols));
          kernels.softmaxBackward(viewOf(dx), viewOf(arena.floats(rows * cols)), y, sizes);
          return { dx };
        },
      },
    );
  }
  return list;
}

function ropeCases(): Case[] {
  const list: Case[] = [];
  const shapes = [
    [0, 2, 4, 4],
    [1, 1, 2, 1],
    [7, 3, 6, 4],
    [33, 8, 32, 16],
  ] as const;
  for (const [rows, heads, width, sequence] of shapes)
    for (const to of ['f32', 'bf16', 'place'] as const)
      for (const inverse of [false, true])
        for (const mode of ['each', 'spread', 'sum'] as const) {
          if (to === 'place' && mode !== 'each') continue;
          list.push({
            kernel: 'rope',
            label: `${rows}×${heads}×${width} of ${sequence} → ${to}, ${mode}${inverse ? ', inverse' : ''}`,
            tolerance: to === 'bf16' ? 1e-3 : 1e-6,
            run: (kernels, arena) => {
              const start = 3;
              const positions = start + sequence;
              const angle = (i: number): number => i * 0.37;
              const cos = arena.floats((positions * width) / 2, (i) => Math.cos(angle(i)));
              const sin = arena.floats((positions * width) / 2, (i) => Math.sin(angle(i)));
              const xHeadStride = mode === 'spread' ? 0 : width + 2;
              const [xStride, xOffset] = [5 + heads * (width + 2), 1];
              const outHeadStride = to === 'place' ? xHeadStride : width + 4;
              const outStride = to === 'place' ? xStride : 3 + heads * (width + 4);
              const outOffset = to === 'place' ? xOffset : 2;
              const outSize = outOffset + rows * outStride;
              const out = to === 'bf16' ? arena.outHalves(outSize) : arena.out(outSize);
              const x = to === 'place' ? out : arena.floats(xOffset + rows * xStride);
              kernels.rope(viewOf(out), viewOf(x), viewOf(cos), viewOf(sin), {
                rows,
                heads,
                width,
                sequence,
                start,
                outStride,
                outHeadStride,
                outOffset,
                xStride,
                xHeadStride,
                xOffset,
                inverse,
                sumHeads: mode === 'sum',
              });
              return { out };
            },
          });
        }
  return list;
}

/** Sizes of attention, without the scale. */
interface AttentionCase {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  queryWidth: number;
  valueWidth: number;
  /** Of documents. */
  borders?: readonly number[];
}

/** Documents of one sequence. */
function packed(
  borders: readonly number[],
  widths: Pick<AttentionCase, 'heads' | 'queryWidth' | 'valueWidth'>,
): AttentionCase {
  const rows = borders[borders.length - 1];
  return { batch: 1, queries: rows, keys: rows, ...widths, borders };
}

function attentionCases(): Case[] {
  const list: Case[] = [];
  const shapes: AttentionCase[] = [
    { batch: 1, queries: 1, keys: 1, heads: 1, queryWidth: 1, valueWidth: 1 },
    { batch: 2, queries: 1, keys: 19, heads: 3, queryWidth: 12, valueWidth: 8 },
    { batch: 2, queries: 33, keys: 33, heads: 2, queryWidth: 24, valueWidth: 16 },
    { batch: 1, queries: 5, keys: 70, heads: 3, queryWidth: 7, valueWidth: 9 },
    { batch: 1, queries: 150, keys: 150, heads: 2, queryWidth: 64, valueWidth: 32 },
    { batch: 0, queries: 4, keys: 4, heads: 2, queryWidth: 8, valueWidth: 8 },
    // No query, so zeros for the gradients of keys and values.
    { batch: 2, queries: 0, keys: 5, heads: 3, queryWidth: 7, valueWidth: 9 },
    // Packed documents, some of them empty; one is long enough for blocks and for tasks of its own.
    packed([0, 1, 8, 8, 41, 47, 47], { heads: 3, queryWidth: 12, valueWidth: 8 }),
    packed([0, 300, 301, 310], { heads: 1, queryWidth: 24, valueWidth: 16 }),
  ];
  for (const { borders, ...shape } of shapes)
    for (const low of [false, true])
      for (const sharp of [1, 8]) {
        const { batch, queries, keys, heads, queryWidth, valueWidth } = shape;
        const documents = borders && { documents: viewOf(Int32Array.from(borders)) };
        const sizes = { ...shape, scale: sharp / Math.sqrt(queryWidth), ...documents };
        const counts = {
          q: batch * queries * heads * queryWidth,
          k: batch * keys * heads * queryWidth,
          v: batch * keys * heads * valueWidth,
          out: batch * queries * heads * valueWidth,
          lse: batch * heads * queries,
        };
        const operands = (arena: Arena): [View, View, View] => {
          const make = (size: number): View =>
            viewOf(low ? arena.halves(size) : arena.floats(size));
          return [make(counts.q), make(counts.k), make(counts.v)];
        };
        const label = `${low ? 'bf16' : 'f32'} ${JSON.stringify(Object.values(shape))}${borders ? ' packed' : ''} × ${sharp}`;
        list.push(
          {
            kernel: 'attention',
            label,
            // Probabilities in BF16: each implementation rounds them relative to a maximum of its own.
            tolerance: low ? 5e-3 : 3e-6,
            run: (kernels, arena) => {
              const [out, lse] = [arena.out(counts.out), arena.out(counts.lse)];
              kernels.attention(viewOf(out), viewOf(lse), ...operands(arena), sizes);
              return { out, lse };
            },
          },
          {
            kernel: 'attentionBackward',
            label,
            tolerance: low ? 8e-3 : 1e-5,
            run: (kernels, arena) => {
              const [q, k, v] = operands(arena);
              // The forward pass's own results: the gradient is only defined for those.
              const [out, lse] = [new Float32Array(counts.out), new Float32Array(counts.lse)];
              kernels.attention(viewOf(out), viewOf(lse), q, k, v, sizes);
              const [dq, dk, dv] = [arena.out(counts.q), arena.out(counts.k), arena.out(counts.v)];
              kernels.attentionBackward(
                viewOf(dq),
                viewOf(dk),
                viewOf(dv),
                viewOf(arena.floats(counts.out)),
                q,
                k,
                v,
                viewOf(out),
                viewOf(lse),
                sizes,
              );
              return { dq, dk, dv };
            },
          },
        );
      }
  return list;
}

function headCases(): Case[] {
  const list: Case[] = [];
  for (const [rows, cols, vocab] of [
    [0, 3, 5],
    [1, 1, 1],
    [9, 33, 4],
    [300, 64, 50],
  ] as const)
    list.push(
      {
        kernel: 'embedding',
        label: `${rows}×${cols} of ${vocab}`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [out, weight] = [arena.out(rows * cols), viewOf(arena.floats(vocab * cols))];
          const ids = viewOf(arena.integers(rows, () => arena.random.integer(vocab)));
          kernels.embedding(viewOf(out), weight, ids, { rows, cols });
          return { out };
        },
      },
      {
        kernel: 'embeddingBackward',
        label: `${rows}×${cols} of ${vocab}`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [dweight, dout] = [arena.out(vocab * cols), viewOf(arena.floats(rows * cols))];
          const ids = viewOf(arena.integers(rows, () => arena.random.integer(vocab)));
          kernels.embeddingBackward(viewOf(dweight), dout, ids, { rows, cols, vocab });
          return { dweight };
        },
      },
    );
  for (const [rows, hidden, vocab] of [
    [0, 4, 3],
    [1, 1, 1],
    [1, 32, 257],
    [70, 48, 33],
    [130, 64, 500],
  ] as const)
    for (const low of [false, true])
      for (const withGradient of [false, true])
        list.push({
          kernel: 'linearCrossEntropy',
          label: `${low ? 'bf16' : 'f32'} ${rows}×${hidden}×${vocab}${withGradient ? ' and gradient' : ''}`,
          tolerance: low && withGradient ? 2e-3 : 3e-6,
          run: (kernels, arena) => {
            const make = (size: number): View =>
              viewOf(low ? arena.halves(size) : arena.floats(size));
            const [loss, x, weight] = [arena.out(rows), make(rows * hidden), make(vocab * hidden)];
            // Every fifth row has no target.
            const targets = arena.integers(rows, (i) =>
              i % 5 === 4 ? -1 : arena.random.integer(vocab),
            );
            if (!withGradient) {
              const likeliest = arena.outIntegers(rows);
              const sizes = { rows, hidden, vocab, likeliest: viewOf(likeliest) };
              kernels.linearCrossEntropy(viewOf(loss), x, weight, viewOf(targets), sizes);
              return { loss, likeliest };
            }
            const sizes = { rows, hidden, vocab };
            const [dx, dweight] = [arena.out(rows * hidden), arena.out(vocab * hidden)];
            kernels.linearCrossEntropy(viewOf(loss), x, weight, viewOf(targets), sizes, {
              rowScale: viewOf(arena.floats(rows, () => arena.random.uniform(0.1, 1))),
              dx: viewOf(dx),
              dweight: viewOf(dweight),
            });
            return { loss, dx, dweight };
          },
        });
  return list;
}

/** Cases of normalisation, activation, rotary embedding, attention, embedding and loss. */
export function layerCases(): Case[] {
  return [...rowCases(), ...softmaxCases(), ...ropeCases(), ...attentionCases(), ...headCases()];
}
