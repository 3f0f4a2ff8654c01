// Packed documents on arrays: each gets what it would get alone, and borders that cut nothing are refused.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import {
  attend,
  attendBackward,
  attendLatents,
  attendLatentsBackward,
  rotaryTables,
} from '../src/index';

const borders = [0, 4, 4, 5, 14];
const rows = 14;
const documents = Int32Array.from(borders);
const heads = 3;

/** Rows of one document. */
function part(x: Float32Array, width: number, d: number): Float32Array {
  return x.slice(borders[d] * width, borders[d + 1] * width);
}

const kept = [0, 2, 3];

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test('full heads: outputs and gradients are those of documents alone, to the bit', () => {
    const [queryWidth, valueWidth] = [5, 4];
    const widths = { heads, queryWidth, valueWidth };
    const [wide, narrow] = [heads * queryWidth, heads * valueWidth];
    const input = {
      q: values(rows * wide, 1),
      k: values(rows * wide, 2),
      v: values(rows * narrow, 3),
    };
    const dout = values(rows * narrow, 4);
    const sizes = { ...widths, queries: rows, documents };
    const attended = attend(input, sizes, { kernels });
    const grads = attendBackward(dout, { ...input, ...attended }, sizes, { kernels });
    for (const d of kept) {
      const own = {
        q: part(input.q, wide, d),
        k: part(input.k, wide, d),
        v: part(input.v, narrow, d),
      };
      const alone = { ...widths, queries: borders[d + 1] - borders[d] };
      const result = attend(own, alone, { kernels });
      expect(firstDifference(part(attended.output, narrow, d), result.output)).toBe(-1);
      const back = attendBackward(part(dout, narrow, d), { ...own, ...result }, alone, { kernels });
      expect(firstDifference(part(grads.dq, wide, d), back.dq)).toBe(-1);
      expect(firstDifference(part(grads.dk, wide, d), back.dk)).toBe(-1);
      expect(firstDifference(part(grads.dv, narrow, d), back.dv)).toBe(-1);
    }
    // Without borders later documents see earlier ones.
    const mixed = attend(input, { ...widths, queries: rows }, { kernels });
    expect(largestDifference(mixed.output, attended.output)).toBeGreaterThan(0.1);
  });

  test('latents: positions go on through the sequence, and only distances count', () => {
    const latentWidths = { heads, nopeDim: 5, ropeDim: 4, valueDim: 7 };
    const tables = rotaryTables(rows, 4, 100, null);
    const [q, kv, rope, out] = [heads * 9, heads * 12, 4, heads * 7];
    const input = {
      q: values(rows * q, 5),
      kv: values(rows * kv, 6),
      kRope: values(rows * rope, 7),
    };
    const dout = values(rows * out, 8);
    const sizes = { ...latentWidths, queries: rows, documents };
    const attended = attendLatents(input, tables, sizes, { kernels });
    const grads = attendLatentsBackward(dout, attended, tables, sizes, { kernels });
    for (const d of kept) {
      const own = {
        q: part(input.q, q, d),
        kv: part(input.kv, kv, d),
        kRope: part(input.kRope, rope, d),
      };
      const alone = { ...latentWidths, queries: borders[d + 1] - borders[d] };
      const result = attendLatents(own, tables, alone, { kernels });
      const back = attendLatentsBackward(part(dout, out, d), result, tables, alone, { kernels });
      const close = (a: Float32Array, b: Float32Array): void => {
        expect(largestDifference(a, b)).toBeLessThan(2e-6);
      };
      close(part(attended.output, out, d), result.output);
      close(part(grads.dq, q, d), back.dq);
      close(part(grads.dkv, kv, d), back.dkv);
      close(part(grads.dkRope, rope, d), back.dkRope);
    }
  });
});

test.each([
  ['not from 0', [1, 14], {}],
  ['not to the end', [0, 4], {}],
  ['descending', [0, 9, 4, 14], {}],
  ['none', [], {}],
  ['of several sequences', [0, 14, 28], { batch: 2 }],
  ['behind a cache', [0, 14], { keys: 20 }],
] as const)('borders %s are refused', (_, list, changes) => {
  const sizes = { heads: 1, queryWidth: 1, valueWidth: 1, queries: rows, ...changes };
  const x = new Float32Array(28);
  let error: unknown;
  try {
    attend({ q: x, k: x, v: x }, { ...sizes, documents: Int32Array.from(list) });
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code: 'ERR_BALEEN_MLA_SIZES', path: 'documents' });
});
