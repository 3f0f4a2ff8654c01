// Every format against its definition, written out here a second time: all codes, all midpoints, one step to either side
// of them, and what lies beyond the largest value.
import {
  decodeArray,
  emptyCodes,
  encodeArray,
  encodeBf16Array,
  encodeE4M3,
  encoder,
  type FormatName,
  formats,
  formatTable,
} from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { e4m3Magnitudes, floatOf, magnitudesOf, neighbour } from './literal';

interface Definition {
  format: FormatName;
  /** Values of the non-negative finite codes, in order: the code is the place. */
  magnitudes: readonly number[];
  /** What follows the largest value without saturation. */
  beyond: number;
  sign: number;
}

const definitions: Definition[] = [
  { format: 'e4m3', magnitudes: e4m3Magnitudes, beyond: NaN, sign: 0x80 },
  { format: 'e5m2', magnitudes: magnitudesOf(-14, 15, 4), beyond: Infinity, sign: 0x80 },
  { format: 'e5m6', magnitudes: magnitudesOf(-14, 15, 64), beyond: Infinity, sign: 0x800 },
  { format: 'bf16', magnitudes: magnitudesOf(-126, 127, 128), beyond: Infinity, sign: 0x8000 },
];

describe.each(definitions)('$format', ({ format, magnitudes, beyond, sign }) => {
  const largest = magnitudes.length - 1;
  const encode = encoder(format);
  const strict = encoder(format, { saturate: false });

  test('is described as it decodes', () => {
    const { bits, exponentBits, mantissaBits, max, min } = formats[format];
    expect(bits).toBe(1 + exponentBits + mantissaBits);
    expect([max, min]).toEqual([magnitudes[largest], magnitudes[1]]);
    expect(formatTable(format)).toHaveLength(2 ** bits);
  });

  test('decodes every code to its value, and what is left to infinity and NaN', () => {
    const table = formatTable(format);
    const wrong: number[] = [];
    for (let code = 0; code < sign; code += 1) {
      const expected = code <= largest ? magnitudes[code] : code === largest + 1 ? beyond : NaN;
      if (!Object.is(table[code], expected) || !Object.is(table[code + sign], -expected))
        wrong.push(code);
    }
    expect(wrong).toEqual([]);
    const codes = emptyCodes(format, 2 ** formats[format].bits).map((_, i) => i);
    expect(decodeArray(codes, format)).toEqual(table);
  });

  test('encodes every value to its code, and every midpoint to the even neighbour', () => {
    const wrong: number[] = [];
    magnitudes.forEach((value, code) => {
      const near = [value, -value].map((x) => encode(x));
      if (near[0] !== code || near[1] !== code + sign) wrong.push(code);
      if (code === largest) return;
      // BF16's smallest midpoint lies between FP32's own subnormals: all are FP32 numbers.
      const middle = (value + magnitudes[code + 1]) / 2;
      const even = code % 2 === 0 ? code : code + 1;
      const codes = [neighbour(middle, -1), middle, neighbour(middle, 1)].map((x) => encode(x));
      if (codes[0] !== code || codes[1] !== even || codes[2] !== code + 1) wrong.push(code);
      if (strict(-middle) !== even + sign) wrong.push(code);
    });
    expect(wrong).toEqual([]);
  });

  test('saturates, or leaves the numbers, from half a step beyond the largest', () => {
    const [top, below] = [magnitudes[largest], magnitudes[largest - 1]];
    const middle = top + (top - below) / 2;
    // The middle itself goes to the even side, which is the largest value where its code is even.
    const last = largest % 2 === 0 ? middle : neighbour(middle, -1);
    const first = neighbour(last, 1);
    for (const x of [top, last, first, Infinity]) expect(encode(x)).toBe(largest);
    expect(encode(-Infinity)).toBe(largest + sign);
    expect([strict(top), strict(last)]).toEqual([largest, largest]);
    expect(formatTable(format)[strict(first)]).toBe(beyond);
    expect(formatTable(format)[strict(-Infinity)]).toBe(-beyond);
  });

  test('keeps NaN and the sign of zero, and rounds to FP32 first', () => {
    const table = formatTable(format);
    for (const code of [encode(NaN), strict(NaN)]) expect(table[code]).toBeNaN();
    expect([encode(0), encode(-0), strict(-0)]).toEqual([0, sign, sign]);
    expect(encode((1 + formatTable(format)[encode(1) + 1]) / 2 + 2 ** -40)).toBe(encode(1));
  });

  test('arrays encode as single values do, into a given array as well', () => {
    const x = Float32Array.from({ length: 999 }, (_, i) => Math.sin(i) * 10 ** ((i % 12) - 6));
    for (const saturate of [true, false]) {
      const out = emptyCodes(format, 999);
      expect(encodeArray(x, format, { saturate, out })).toBe(out);
      expect([...out]).toEqual(Array.from(x, encoder(format, { saturate })));
    }
  });
});

test('the faster ways of E4M3 and BF16 give the same codes as the mechanism', () => {
  const x = Float32Array.from({ length: 100_000 }, (_, i) => {
    return floatOf(Math.floor((i / 100_000) * 0xff000000));
  }).filter((value) => Number.isFinite(value));
  const strict = encodeArray(x, 'e4m3', { saturate: false });
  const differ = x.filter((value, i) => Math.abs(value) <= 464 && strict[i] !== encodeE4M3(value));
  expect([...differ]).toEqual([]);
  expect(encodeBf16Array(x)).toEqual(encodeArray(x, 'bf16', { saturate: false }));
});

describe('e8m0', () => {
  const encode = encoder('e8m0');
  const strict = encoder('e8m0', { saturate: false });
  const table = formatTable('e8m0');

  test('codes are powers of two, the last is NaN', () => {
    expect([...table.subarray(0, 255)]).toEqual(
      Array.from({ length: 255 }, (_, code) => 2 ** (code - 127)),
    );
    expect(table[255]).toBeNaN();
    expect([formats.e8m0.max, formats.e8m0.min]).toEqual([table[254], table[0]]);
    for (let code = 0; code < 255; code += 1) expect(encode(table[code])).toBe(code);
  });

  test('what lies between two powers goes to the nearer, from the middle on up', () => {
    for (let code = 1; code < 254; code += 1) {
      const middle = 1.5 * table[code];
      expect([encode(neighbour(middle, -1)), encode(middle)]).toEqual([code, code + 1]);
    }
  });

  test('what has no code: more than the largest, zero, and numbers below zero', () => {
    const top = 1.5 * 2 ** 127;
    expect([encode(top), encode(Infinity), encode(0), encode(2 ** -149)]).toEqual([254, 254, 0, 0]);
    expect([strict(top), strict(Infinity), strict(0), strict(-0)]).toEqual([255, 255, 255, 255]);
    expect([encode(-1), strict(-1), encode(NaN)]).toEqual([255, 255, 255]);
  });
});
