// Packed documents: each gets, to the bit, what it gets alone, whatever it is packed with and on any number of threads.
import {
  encodeBf16Array,
  type Kernels,
  loadKernels,
  referenceKernels,
  setThreads,
  type View,
  viewOf,
} from '@baleen/kernels';
import { afterAll, describe, expect, test } from 'vitest';

import { firstDifference, implementationsOf, values } from '../../../test/support';

const heads = 2;
const [queryWidth, valueWidth] = [12, 8];
/** Rows of all tensors, in FP32 or BF16. */
type Rows = Float32Array | Uint16Array;

interface Tensors {
  q: Rows;
  k: Rows;
  v: Rows;
  dout: Float32Array;
}

/** Attention and its gradients over some rows; with borders, of the documents between them. */
function attend(kernels: Kernels, { q, k, v, dout }: Tensors, rows: number, borders?: Int32Array) {
  const sizes = {
    batch: 1,
    queries: rows,
    keys: rows,
    heads,
    queryWidth,
    valueWidth,
    scale: 0.6,
    ...(borders && { documents: viewOf(borders) }),
  };
  const make = (size: number): Float32Array => new Float32Array(size).fill(NaN);
  const out = make(rows * heads * valueWidth);
  const lse = make(rows * heads);
  const [dq, dk, dv] = [make(q.length), make(k.length), make(v.length)];
  const given: [View, View, View] = [viewOf(q), viewOf(k), viewOf(v)];
  kernels.attention(viewOf(out), viewOf(lse), ...given, sizes);
  const views = [dq, dk, dv, dout].map((x) => viewOf(x)) as [View, View, View, View];
  kernels.attentionBackward(...views, ...given, viewOf(out), viewOf(lse), sizes);
  return { out, lse, dq, dk, dv };
}

const packings: readonly (readonly number[])[] = [
  [0, 5],
  [0, 1, 2, 3],
  [0, 0, 7, 7, 7, 40, 41, 41, 41],
  // Longer than blocks of keys and of queries.
  [0, 130, 420, 421, 600],
];

const { threads: threadsBefore } = loadKernels();
afterAll(() => {
  setThreads(threadsBefore);
});

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s', (name, kernels) => {
  test.each(packings)('documents %j %j …', (...borders) => {
    const rows = borders[borders.length - 1];
    for (const low of [false, true])
      for (const threads of name === 'native' ? [1, 3] : [1]) {
        setThreads(threads);
        const operand = (width: number, seed: number): Rows => {
          const x = values(rows * heads * width, seed, 2);
          return low ? encodeBf16Array(x) : x;
        };
        const whole: Tensors = {
          q: operand(queryWidth, 1),
          k: operand(queryWidth, 2),
          v: operand(valueWidth, 3),
          dout: values(rows * heads * valueWidth, 4),
        };
        const packed = attend(kernels, whole, rows, Int32Array.from(borders));
        for (let d = 0; d + 1 < borders.length; d += 1) {
          const [first, end] = [borders[d], borders[d + 1]];
          if (first === end) continue;
          const part = <R extends Rows>(x: R, width: number): R =>
            x.slice(first * heads * width, end * heads * width) as R;
          const alone = attend(
            kernels,
            {
              q: part(whole.q, queryWidth),
              k: part(whole.k, queryWidth),
              v: part(whole.v, valueWidth),
              dout: part(whole.dout, valueWidth),
            },
            end - first,
          );
          const label = `document ${d}, ${threads} threads, ${low ? 'bf16' : 'f32'}`;
          const same = (what: string, a: Float32Array, b: Float32Array): void => {
            expect(firstDifference(a, b), `${what} of ${label}`).toBe(-1);
          };
          same('out', part(packed.out, valueWidth), alone.out);
          same('dq', part(packed.dq, queryWidth), alone.dq);
          same('dk', part(packed.dk, queryWidth), alone.dk);
          same('dv', part(packed.dv, valueWidth), alone.dv);
          for (let h = 0; h < heads; h += 1)
            same(
              'lse',
              packed.lse.slice(h * rows + first, h * rows + end),
              alone.lse.slice(h * (end - first), (h + 1) * (end - first)),
            );
        }
      }
  });
});
