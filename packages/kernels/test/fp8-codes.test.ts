// FP8 formats in every implementation, code by code: what the codec (formats.test.ts) says of a number or a code is what
// kernels make of it, NaN's own bits included, and products of any two codes are exact.
import {
  encodeArray,
  type Fp8Type,
  formats,
  formatTable,
  type Kernels,
  nativeKernels,
  referenceKernels,
  viewOf,
} from '@baleen/kernels';
import { afterAll, describe, expect, test } from 'vitest';

import { expectSameBits } from './compare';
import { neighbour } from './literal';

const native = nativeKernels();
const bestIsa = native?.isa ?? '';
afterAll(() => {
  native?.setIsa(bestIsa);
});

const implementations: [string, Kernels, (() => void) | null][] = [
  ['reference', referenceKernels(), null],
  ...(native?.isas ?? []).map((isa): [string, Kernels, () => void] => [
    isa,
    native as Kernels,
    () => native?.setIsa(isa),
  ]),
];
const cases = implementations.flatMap(([name, ...rest]) =>
  (['e4m3', 'e5m2'] as const).map((format) => [name, format, ...rest] as const),
);

const codesOf = (codes: Uint8Array, dtype: Fp8Type) => ({ ...viewOf(codes), dtype }) as const;

describe.each(cases)('%s, %s', (_, format, kernels, choose) => {
  const table = formatTable(format);
  const { max } = formats[format];

  test.each([
    ['among finite numbers', []],
    ['beside NaN', [NaN]],
  ])('every value, every midpoint and their neighbours, %s', (_, odd) => {
    choose?.();
    const finite = Array.from(new Set(Array.from(table, Math.abs).filter(Number.isFinite)));
    finite.sort((a, b) => a - b);
    const near = finite.flatMap((value, i) => {
      const middle = (value + (finite[i + 1] ?? value)) / 2;
      const around = [value, middle].flatMap((x) => (x === 0 ? [x] : [neighbour(x, -1), x]));
      return [...around, ...(value < max ? [neighbour(middle, 1)] : [])];
    });
    // In each tile the largest value makes the scale 1.
    const width = 126 - odd.length;
    const tiles = Array.from({ length: Math.ceil(near.length / width) }, (_, i) => {
      const own = near.slice(i * width, (i + 1) * width);
      return [max, ...odd, ...own, ...new Array<number>(127 - odd.length - own.length).fill(0)];
    });
    const x = Float32Array.from([...tiles, ...tiles.map((tile) => tile.map((v) => -v))].flat());
    const rows = x.length / 128;
    const [codes, scales] = [new Uint8Array(x.length), new Float32Array(rows)];
    const out = {
      codes: codesOf(codes, format),
      scales: viewOf(scales),
      blockRows: 1,
      blockCols: 128,
    };
    kernels.quantize(out, viewOf(x), { rows, cols: 128 });
    expect(scales.every((scale) => scale === 1)).toBe(true);
    expect([...codes]).toEqual([...encodeArray(x, format)]);
  });

  test('every code is decoded', () => {
    choose?.();
    const codes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const out = new Float32Array(256);
    const scales = viewOf(Float32Array.of(1, 1));
    const x = { codes: codesOf(codes, format), scales, blockRows: 1, blockCols: 128 };
    kernels.dequantize(viewOf(out), x, { rows: 1, cols: 256 });
    expectSameBits(out, table, 'values');
  });

  test.each(['e4m3', 'e5m2'] as const)('every code times every code of %s', (other) => {
    choose?.();
    const codes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const scales = viewOf(new Float32Array(256).fill(1));
    const a = { codes: codesOf(codes, format), scales, blockRows: 1, blockCols: 128 };
    const c = new Float32Array(256 * 256);
    const values = formatTable(other);
    const expected = Float32Array.from({ length: c.length }, (_, i) => {
      // Sums begin at +0.
      return 0 + table[i >> 8] * values[i & 255];
    });
    for (const transB of [false, true]) {
      const b = {
        codes: codesOf(codes, other),
        scales,
        ...(transB ? { blockRows: 1, blockCols: 128 } : { blockRows: 128, blockCols: 1 }),
      };
      kernels.gemm(viewOf(c), a, b, { m: 256, n: 256, k: 1, transB });
      expectSameBits(c, expected, `products${transB ? ' with bᵀ' : ''}`);
    }
  });
});
