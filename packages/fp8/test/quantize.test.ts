// Quantisation on typed arrays, against its definition: scale = max(amax, 1e-4) / 448, code = E4M3(x / scale).
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf, values } from '../../../test/support';
import {
  type BlockShape,
  decodeE4M3,
  dequantize,
  encodeE4M3,
  multiply,
  type QuantizedMatrix,
  quantize,
  signalToNoise,
} from '../src/index';

const blocks: Record<BlockShape, [number, number]> = {
  '1x128': [1, 128],
  '128x1': [128, 1],
  '128x128': [128, 128],
};

/** The definition, element by element. */
function literal(x: Float32Array, rows: number, cols: number, block: BlockShape, power: boolean) {
  const [blockRows, blockCols] = blocks[block];
  const width = Math.ceil(cols / blockCols);
  const scales = new Float32Array(Math.ceil(rows / blockRows) * width);
  const blockOf = (i: number): number =>
    Math.floor(Math.floor(i / cols) / blockRows) * width + Math.floor((i % cols) / blockCols);
  x.forEach((value, i) => {
    const b = blockOf(i);
    scales[b] = Math.max(scales[b], Math.abs(value));
  });
  scales.forEach((amax, b) => {
    const scale = Math.fround(Math.max(amax, Math.fround(1e-4)) / 448);
    scales[b] = power ? 2 ** Math.ceil(Math.log2(scale)) : scale;
  });
  const codes = Uint8Array.from(x, (value, i) =>
    encodeE4M3(Math.fround(value / scales[blockOf(i)])),
  );
  const decoded = Float32Array.from(codes, (code, i) => decodeE4M3(code) * scales[blockOf(i)]);
  return { codes, scales, decoded };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(['1x128', '128x1', '128x128'] as const)('blocks of %s', (block) => {
    // One row, ragged edges in both directions, whole blocks.
    test.each([
      [1, 5],
      [3, 130],
      [131, 257],
      [128, 128],
      [0, 16],
    ])('%i × %i: codes, scales and values as defined', (rows, cols) => {
      // Rows of very different size, so that a scale of the wrong block shows.
      const x = values(rows * cols, rows + cols).map((value, i) => value * 10 ** ((i % 7) - 3));
      for (const powerOfTwo of [false, true]) {
        const q = quantize(x, { rows, cols }, { block, powerOfTwo, kernels });
        const expected = literal(x, rows, cols, block, powerOfTwo);
        expect(q).toMatchObject({ rows, cols, block });
        expect(firstDifference(q.scales, expected.scales)).toBe(-1);
        expect(firstDifference(q.codes, expected.codes)).toBe(-1);
        expect(firstDifference(dequantize(q, { kernels }), expected.decoded)).toBe(-1);
      }
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

  test('writes into what it is given and allocates nothing then', () => {
    const x = values(6, 1);
    const out: QuantizedMatrix = {
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

  test('a product is the sum over blocks of exact block sums times both scales', () => {
    const [m, n, k] = [3, 131, 300];
    const a = quantize(values(m * k, 1), { rows: m, cols: k }, { kernels });
    const b = quantize(values(n * k, 2), { rows: n, cols: k }, { block: '128x128', kernels });
    const out = new Float32Array(m * n);
    expect(multiply(a, b, { out, kernels })).toBe(out);
    for (let i = 0; i < m; i += 1)
      for (let j = 0; j < n; j += 1) {
        let sum = 0;
        for (let first = 0; first < k; first += 128) {
          let acc = 0;
          for (let l = first; l < Math.min(k, first + 128); l += 1)
            acc = Math.fround(
              acc + decodeE4M3(a.codes[i * k + l]) * decodeE4M3(b.codes[j * k + l]),
            );
          const scale = Math.fround(
            a.scales[i * 3 + first / 128] * b.scales[Math.floor(j / 128) * 3 + first / 128],
          );
          sum = Math.fround(sum + Math.fround(acc * scale));
        }
        expect(out[i * n + j]).toBe(sum);
      }
  });

  test('a product is FP32’s to 27 dB and more', () => {
    const [m, n, k] = [20, 30, 512];
    const [x, w] = [values(m * k, 3), values(n * k, 4, 0.05)];
    const exact = new Float32Array(m * n);
    for (let i = 0; i < m; i += 1)
      for (let j = 0; j < n; j += 1)
        for (let l = 0; l < k; l += 1) exact[i * n + j] += x[i * k + l] * w[j * k + l];
    const product = multiply(
      quantize(x, { rows: m, cols: k }, { kernels }),
      quantize(w, { rows: n, cols: k }, { block: '128x128', kernels }),
      { kernels },
    );
    expect(signalToNoise(exact, product)).toBeGreaterThan(27);
    expect(signalToNoise(exact, product)).toBeCloseTo(decibels(exact, product), 6);
  });

  test('sizes that do not agree are refused', () => {
    const x = quantize(values(6, 1), { rows: 2, cols: 3 }, { kernels });
    const w = quantize(values(8, 1), { rows: 2, cols: 4 }, { block: '128x128', kernels });
    expect(() => multiply(x, w, { kernels })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_FP8_SHAPE', path: 'b.cols' }),
    );
    expect(() => quantize(values(5, 1), { rows: 2, cols: 3 }, { kernels })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_KERNELS_SHAPE' }),
    );
  });
});

test('signalToNoise is in decibels, infinite for equal arrays', () => {
  expect(signalToNoise(Float32Array.of(10, 0), Float32Array.of(9, 0))).toBeCloseTo(20, 6);
  expect(signalToNoise(Float32Array.of(1, 2), Float32Array.of(1, 2))).toBe(Infinity);
});
