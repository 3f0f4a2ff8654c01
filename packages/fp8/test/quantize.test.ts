// Quantisation on typed arrays, against its definition written out a second time (literal.ts).
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf, values } from '../../../test/support';
import {
  type BlockShape,
  decodeArray,
  decodeE4M3,
  dequantize,
  type ElementFormat,
  emptyStatistics,
  encoder,
  formatTable,
  type MatrixSizes,
  type QuantizedMatrix,
  quantize,
  requantize,
} from '../src/index';
import { quantized, rounded } from './literal';

const blocks: BlockShape[] = ['1x128', '128x1', '128x128', 'row', 'tensor'];
const formats: ElementFormat[] = ['e4m3', 'e5m2', 'e5m6', 'bf16'];

/** Rows of very different size, so that a scale of the wrong block shows. */
function uneven(count: number): Float32Array {
  return values(count, count).map((value, i) => value * 10 ** ((i % 7) - 3));
}

test.each(formats)('%s: decoding and encoding every code is the definition', (format) => {
  const table = formatTable(format);
  const strict = encoder(format, { saturate: false });
  const wrong: number[] = [];
  table.forEach((value, code) => {
    if (!Number.isFinite(value)) return;
    if (!Object.is(rounded(format, value), value) || encoder(format)(value) !== code)
      wrong.push(code);
    // A little and a lot to either side, and beyond the largest.
    for (const factor of [0.98, 0.9995, 1.0005, 1.02, 1.07, 1.6]) {
      const x = Math.fround(value * factor);
      if (!Object.is(table[encoder(format)(x)], rounded(format, x))) wrong.push(x);
      if (!Object.is(table[strict(x)], rounded(format, x, true))) wrong.push(x);
    }
  });
  expect(wrong).toEqual([]);
});

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(formats)('%s', (format) => {
    describe.each(blocks)('blocks of %s', (block) => {
      const sizes: MatrixSizes[] = [
        { rows: 1, cols: 5 },
        { rows: 3, cols: 130 },
        { rows: 131, cols: 257 },
        { rows: 128, cols: 128 },
        { rows: 0, cols: 16 },
        { rows: 16, cols: 0 },
        { rows: 33, cols: 140, stack: 3 },
        ...(block === '128x1'
          ? [{ rows: 300, cols: 7, offsets: Int32Array.of(0, 0, 5, 135, 263, 300) }]
          : []),
      ];
      test.each(sizes)('%o: codes, scales and values as defined', (size) => {
        const x = uneven((size.stack ?? 1) * size.rows * size.cols);
        for (const options of [{}, { powerOfTwo: true }, { amaxFloor: 2 }]) {
          const q = quantize(x, size, { format, block, kernels, ...options });
          const expected = quantized(x, size, format, block, options);
          expect(q).toMatchObject({ ...size, format, block });
          expect(
            firstDifference(q.scales.subarray(0, expected.scales.length), expected.scales),
          ).toBe(-1);
          expect(firstDifference(dequantize(q, { kernels }), expected.decoded)).toBe(-1);
        }
      });
    });
  });

  test('reaches 448 exactly and keeps zeros; blocks of almost nothing do not blow up', () => {
    const x = Float32Array.of(0, -7, 3.5, 1e-6, -0);
    const q = quantize(x, { rows: 1, cols: 5 }, { kernels });
    expect(decodeE4M3(q.codes[1])).toBe(-448);
    expect([...dequantize(q, { kernels })].map((v) => v + 0)).toEqual([0, -7, 3.5, 0, 0]);
    const tiny = quantize(new Float32Array(3).fill(1e-11), { rows: 1, cols: 3 }, { kernels });
    expect(tiny.scales[0]).toBe(Math.fround(Math.fround(1e-4) / 448));
    expect([...dequantize(tiny, { kernels })]).toEqual([0, 0, 0]);
  });

  test('without a floor small blocks keep their values, and zeros a scale of 1', () => {
    const x = Float32Array.of(1e-20, -3e-20, 0, 0);
    for (const powerOfTwo of [false, true]) {
      const options = { block: 'row', amaxFloor: 0, powerOfTwo, kernels } as const;
      const q = quantize(x, { rows: 2, cols: 2 }, options);
      expect(q.scales[1]).toBe(1);
      expect(decibels(x, dequantize(q, { kernels }))).toBeGreaterThan(25);
    }
    for (const amaxFloor of [-1, NaN, Infinity])
      expect(() => quantize(x, { rows: 2, cols: 2 }, { amaxFloor, kernels })).toThrow(
        expect.objectContaining({ code: 'ERR_BALEEN_FP8_OPTION', path: 'amaxFloor' }),
      );
  });

  test('NaN stays NaN', () => {
    const q = quantize(Float32Array.of(1, NaN, 2), { rows: 1, cols: 3 }, { kernels });
    expect(dequantize(q, { kernels })[1]).toBeNaN();
  });

  test('every value of the format survives, with power-of-two scales', () => {
    const x = Float32Array.from({ length: 256 }, (_value, code) => decodeE4M3(code)).filter(
      (value) => !Number.isNaN(value),
    );
    const q = quantize(
      x,
      { rows: x.length, cols: 1 },
      { block: '128x1', powerOfTwo: true, kernels },
    );
    expect([...q.scales]).toEqual([1, 1]);
    expect(dequantize(q, { kernels })).toEqual(x);
  });

  test('power-of-two scales are rounded up, so that the largest value still fits', () => {
    const q = quantize(
      Float32Array.of(500, -3),
      { rows: 1, cols: 2 },
      { powerOfTwo: true, kernels },
    );
    expect(q.scales[0]).toBe(2);
    expect(dequantize(q, { kernels })[0]).toBe(512);
  });

  test('FP8 is decoded by kernels: a matrix, each of a stack, each row group', () => {
    let calls = 0;
    const counting = Object.assign(Object.create(kernels) as Kernels, {
      dequantize: (...given: Parameters<Kernels['dequantize']>) => {
        calls += 1;
        kernels.dequantize(...given);
      },
    });
    const x = values(300 * 7, 1);
    const offsets = Int32Array.of(0, 5, 135, 300);
    for (const [size, options, expected] of [
      [{ rows: 300, cols: 7 }, {}, 1],
      [{ rows: 100, cols: 7, stack: 3 }, { block: '128x128' }, 3],
      [{ rows: 300, cols: 7, offsets }, { block: '128x1' }, 3],
      [{ rows: 300, cols: 7 }, { format: 'e5m2' }, 1],
      [{ rows: 300, cols: 7 }, { format: 'e5m6' }, 0],
    ] as const) {
      calls = 0;
      dequantize(quantize(x, size, { ...options, kernels }), { kernels: counting });
      expect(calls).toBe(expected);
    }
  });

  test('writes into what it is given and allocates nothing then', () => {
    const x = values(6, 1);
    const out: QuantizedMatrix<'e4m3'> = {
      format: 'e4m3',
      codes: new Uint8Array(6),
      scales: new Float32Array(3),
      rows: 2,
      cols: 3,
      block: '128x1',
    };
    expect(quantize(x, { rows: 2, cols: 3 }, { out, kernels })).toBe(out);
    expect(out).toEqual(quantize(x, { rows: 2, cols: 3 }, { block: '128x1', kernels }));
    const decoded = new Float32Array(6);
    expect(dequantize(out, { out: decoded, kernels })).toBe(decoded);
    expect(decibels(x, decoded)).toBeGreaterThan(25);
  });

  describe('requantise', () => {
    const size = { rows: 140, cols: 150 };
    const x = uneven(size.rows * size.cols);

    test.each(['e4m3', 'e5m6'] as const)('%s: decodes and quantises again', (format) => {
      const kept = quantize(x, size, { format, kernels });
      const statistics = emptyStatistics();
      const again = requantize(kept, { format, block: '128x1', statistics, kernels });
      const decoded = dequantize(kept, { kernels });
      const expected = quantized(decoded, size, format, '128x1');
      expect(firstDifference(again.scales, expected.scales)).toBe(-1);
      const result = dequantize(again, { kernels });
      expect(firstDifference(result, expected.decoded)).toBe(-1);
      expect(statistics.signalToNoise).toBeCloseTo(decibels(decoded, result), 6);
    });

    test('into row groups, from E5M6 to E4M3, and in a stack', () => {
      const offsets = Int32Array.of(0, 3, 140);
      const grouped = requantize(quantize(x, size, { kernels }), {
        block: '128x1',
        offsets,
        kernels,
      });
      const direct = dequantize(quantize(x, size, { kernels }), { kernels });
      expect(grouped).toEqual(quantize(direct, { ...size, offsets }, { block: '128x1', kernels }));
      const wide = quantize(x, size, { format: 'e5m6', block: '128x1', kernels });
      expect(requantize(wide, { kernels })).toEqual(quantize(dequantize(wide), size, { kernels }));
      const stack = quantize(x, { rows: 70, cols: 150, stack: 2 }, { kernels });
      expect(requantize(stack, { kernels })).toEqual(
        quantize(dequantize(stack), { rows: 70, cols: 150, stack: 2 }, { kernels }),
      );
    });

    test('with powers of two on both sides normal values do not change', () => {
      // Rows and columns of one size: no value falls below the normal ones of its column's scale.
      const even = values(256 * 256, 3).map((value) => Math.sign(value) * (1 + Math.abs(value)));
      const sizes = { rows: 256, cols: 256 };
      const errors = [true, false].map((powerOfTwo) => {
        const statistics = emptyStatistics();
        const kept = quantize(even, sizes, { powerOfTwo, kernels });
        requantize(kept, { block: '128x1', powerOfTwo, statistics, kernels });
        return statistics;
      });
      expect(errors[0]).toMatchObject({ maxAbsolute: 0, signalToNoise: Infinity });
      expect(errors[1].signalToNoise).toBeLessThan(60);
    });
  });

  test('sizes that do not agree are refused', () => {
    const refused = (path: string): unknown =>
      expect.objectContaining({ code: 'ERR_BALEEN_FP8_SHAPE', path });
    const x = values(6, 1);
    const size = { rows: 2, cols: 3 };
    expect(() => quantize(values(5, 1), size, { kernels })).toThrow(refused('x'));
    expect(() => quantize(x, { rows: 1.5, cols: 4 }, { kernels })).toThrow(refused('rows'));
    const out = quantize(x, size, { kernels });
    expect(() => quantize(x, { rows: 3, cols: 2 }, { out, kernels })).toThrow(refused('out.rows'));
    expect(() => quantize(x, size, { out, block: 'row', kernels })).toThrow(refused('out.block'));
    const offsets = Int32Array.of(0, 2);
    expect(() => quantize(x, { ...size, offsets }, { kernels })).toThrow(refused('offsets'));
    for (const wrong of [[0, 1], [1, 2], [0, 2, 1, 2], [2]])
      expect(() =>
        quantize(x, { ...size, offsets: Int32Array.from(wrong) }, { block: '128x1', kernels }),
      ).toThrow(refused('offsets'));
    const short = { ...out, scales: new Float32Array(1) };
    expect(() => dequantize(short, { kernels })).toThrow(refused('x.scales'));
    expect(() => dequantize(out, { out: new Float32Array(5), kernels })).toThrow(refused('out'));
  });
});

test('scales that are powers of two survive as E8M0, one byte each', () => {
  const q = quantize(uneven(4096), { rows: 8, cols: 512 }, { powerOfTwo: true });
  const codes = Uint8Array.from(q.scales, encoder('e8m0'));
  expect(decodeArray(codes, 'e8m0')).toEqual(q.scales);
});
