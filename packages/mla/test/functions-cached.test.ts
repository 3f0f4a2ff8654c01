// Cached latents on typed arrays: the published FP8 layout byte by byte, and attention over pages against loops that read like
// the equations.
import {
  decodeBf16,
  decodeE4M3,
  encodeBf16Array,
  type Kernels,
  loadKernels,
  referenceKernels,
} from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import { attendPages, decodeLatents, encodeLatents } from '../src/index';

const v3 = { rank: 512, rope: 64 };

/** Absorbed attention of one sequence whose tokens are these rows, in float64. */
function literal(
  q: Float32Array,
  rows: readonly Float32Array[],
  { heads, rank, queries, scale }: { heads: number; rank: number; queries: number; scale: number },
): number[] {
  const width = q.length / (queries * heads);
  const out: number[] = [];
  for (let at = 0; at < queries * heads; at += 1) {
    const seen = rows.slice(0, rows.length - queries + Math.floor(at / heads) + 1);
    const exps = seen.map((row) =>
      Math.exp(scale * row.reduce((sum, x, d) => sum + x * q[at * width + d], 0)),
    );
    const total = exps.reduce((a, b) => a + b, 0);
    for (let d = 0; d < rank; d += 1)
      out.push(exps.reduce((sum, e, j) => sum + (e / total) * seen[j][d], 0));
  }
  return out;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test('a token of V3 is 512 codes, 4 scales that are powers of two, and 64 BF16 numbers: 656 bytes, both ways', () => {
    const latent = values(2 * 512, 3, 9);
    const rotary = values(2 * 64, 4, 2);
    const bytes = encodeLatents({ latent, rotary }, v3, { kernels });
    expect(bytes).toHaveLength(2 * 656);
    const back = decodeLatents(bytes, v3, { kernels });
    for (let token = 0; token < 2; token += 1) {
      const view = new DataView(bytes.buffer, token * 656, 656);
      for (let d = 0; d < 512; d += 1) {
        const scale = view.getFloat32(512 + 4 * (d >> 7), true);
        expect(Number.isInteger(Math.log2(scale))).toBe(true);
        const value = decodeE4M3(view.getUint8(d)) * scale;
        expect(back.latent[token * 512 + d]).toBe(value);
        // Half a step of three mantissa bits, or of the smallest numbers.
        const error = Math.abs(value - latent[token * 512 + d]);
        expect(error).toBeLessThanOrEqual(
          Math.max(Math.abs(latent[token * 512 + d]) / 16, scale / 1024),
        );
      }
      for (let d = 0; d < 64; d += 1)
        expect(back.rotary[token * 64 + d]).toBe(decodeBf16(view.getUint16(528 + 2 * d, true)));
    }
    // What came back goes the same way again.
    expect(firstDifference(encodeLatents(back, v3, { kernels }), bytes)).toBe(-1);
    const out = new Uint8Array(2 * 656);
    expect(encodeLatents({ latent, rotary }, v3, { kernels, out })).toBe(out);
    expect(decodeLatents(bytes, v3, { kernels, out: back })).toBe(back);
  });

  test.each(['fp32', 'bf16', 'fp8'] as const)(
    'attends over scattered pages of %s; a sequence without tokens sees nothing, and unused pages may hold NaN',
    (form) => {
      const sizes = { heads: 3, rank: 8, rope: 4, queries: 2, pageSize: 4, scale: 0.3 };
      const [lengths, table] = [Int32Array.of(6, 0, 4), Int32Array.of(3, 1, -7, 99, 0, -1)];
      const latent = values(5 * 4 * 8, 5);
      const rotary = values(5 * 4 * 4, 6);
      // Pages 2 and 4 belong to nobody, nor do the places behind a sequence's last token.
      for (const slot of [6, 7, 8, 9, 10, 11, 16, 17, 18, 19]) {
        latent.fill(NaN, slot * 8, slot * 8 + 8);
        rotary.fill(NaN, slot * 4, slot * 4 + 4);
      }
      const pages = poolOf(kernels, form, latent, rotary, 8, 4);
      const q = values(3 * 2 * 3 * 12, 7);
      const { output, lse } = attendPages({ q, pages, table, lengths }, sizes, { kernels });
      const rowAt = (slot: number): Float32Array =>
        Float32Array.of(
          ...latent.subarray(slot * 8, slot * 8 + 8),
          ...rotary.subarray(slot * 4, slot * 4 + 4),
        );
      const tolerance = { fp32: 1e-5, bf16: 0.02, fp8: 0.08 }[form];
      const per = 2 * 3 * 12;
      [[12, 13, 14, 15, 4, 5], [], [0, 1, 2, 3]].forEach((slots, s) => {
        const got = output.subarray(s * 48, (s + 1) * 48);
        const expected =
          slots.length === 0
            ? new Float32Array(48)
            : literal(q.subarray(s * per, (s + 1) * per), slots.map(rowAt), sizes);
        expect(largestDifference(got, expected)).toBeLessThan(tolerance);
      });
      expect([...lse.subarray(6, 12)]).toEqual(new Array(6).fill(Infinity));
    },
  );

  test('lengths, pages and sizes that cannot be are refused by name and value', () => {
    const sizes = { heads: 1, rank: 2, rope: 2, pageSize: 2, scale: 1 };
    const input = {
      q: new Float32Array(4),
      pages: new Float32Array(16),
      table: Int32Array.of(0, 1),
      lengths: Int32Array.of(3),
    };
    const refused = (change: Partial<typeof input>): unknown => {
      try {
        return attendPages({ ...input, ...change }, sizes, { kernels });
      } catch (error) {
        return error;
      }
    };
    expect(refused({ lengths: Int32Array.of(5) })).toMatchObject({
      code: 'ERR_BALEEN_MLA_CACHE',
      path: 'lengths[0]',
      message: 'lengths[0] (5) is not from 0 to 4',
    });
    expect(refused({ lengths: Int32Array.of(-1) })).toMatchObject({ path: 'lengths[0]' });
    for (const bad of [2, -1])
      expect(refused({ table: Int32Array.of(0, bad) })).toMatchObject({
        code: 'ERR_BALEEN_MLA_CACHE',
        path: 'table[1]',
        message: `table[1] (${bad}) is none of the pool's 2 pages`,
        hint: 'name a page from 0 to 1',
      });
    expect(refused({ q: new Float32Array(5) })).toMatchObject({
      code: 'ERR_BALEEN_MLA_SIZES',
      path: 'q',
    });
    expect(refused({ pages: new Float32Array(15) })).toMatchObject({ path: 'pages' });
    expect(() => decodeLatents(new Uint8Array(657), v3, { kernels })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_MLA_SIZES', path: 'bytes' }),
    );
    const short = { latent: new Float32Array(512), rotary: new Float32Array(63) };
    expect(() => encodeLatents(short, v3, { kernels })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_MLA_SIZES', path: 'rotary' }),
    );
  });
});

/** A pool of these tokens. */
function poolOf(
  kernels: Kernels,
  form: 'fp32' | 'bf16' | 'fp8',
  latent: Float32Array,
  rotary: Float32Array,
  rank: number,
  rope: number,
): Float32Array | Uint16Array | Uint8Array {
  if (form === 'fp8') return encodeLatents({ latent, rotary }, { rank, rope }, { kernels });
  const width = rank + rope;
  const rows = new Float32Array((latent.length / rank) * width);
  for (let slot = 0; slot * width < rows.length; slot += 1) {
    rows.set(latent.subarray(slot * rank, (slot + 1) * rank), slot * width);
    rows.set(rotary.subarray(slot * rope, (slot + 1) * rope), slot * width + rank);
  }
  return form === 'bf16' ? encodeBf16Array(rows) : rows;
}
