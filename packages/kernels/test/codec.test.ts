// The number formats against their definitions: all codes, all midpoints between neighbours, one step to either side.
import {
  decodeBf16,
  decodeBf16Array,
  decodeE4M3,
  decodeE4M3Array,
  e4m3Table,
  encodeBf16,
  encodeBf16Array,
  encodeE4M3,
  encodeE4M3Array,
} from '@baleen/kernels';
import { expect, test } from 'vitest';

import { e4m3Magnitudes, floatOf, nearest, neighbour } from './literal';

test('E4M3: 256 codes decode to the values of the format', () => {
  for (let code = 0; code < 127; code += 1) {
    expect(decodeE4M3(code)).toBe(e4m3Magnitudes[code]);
    expect(decodeE4M3(code + 128)).toBe(-e4m3Magnitudes[code]);
  }
  for (const code of [0x7f, 0xff]) expect(decodeE4M3(code)).toBeNaN();
  expect([decodeE4M3(0x7e), decodeE4M3(0x08), decodeE4M3(0x01)]).toEqual([448, 2 ** -6, 2 ** -9]);
  const codes = Uint8Array.from({ length: 256 }, (_, i) => i);
  expect(decodeE4M3Array(codes)).toEqual(e4m3Table());
  expect(decodeE4M3Array(codes, new Float32Array(256))).toEqual(e4m3Table());
});

test('E4M3: every value encodes to its code, and every midpoint to the even neighbour', () => {
  for (let code = 0; code < 127; code += 1) {
    const value = e4m3Magnitudes[code];
    expect(encodeE4M3(value)).toBe(code);
    expect(encodeE4M3(-value)).toBe(code + 128);
    if (code === 126) continue;
    const middle = (value + e4m3Magnitudes[code + 1]) / 2;
    expect(encodeE4M3(middle)).toBe(code % 2 === 0 ? code : code + 1);
    expect(encodeE4M3(neighbour(middle, -1))).toBe(code);
    expect(encodeE4M3(neighbour(middle, 1))).toBe(code + 1);
    expect(encodeE4M3(-neighbour(middle, 1))).toBe(code + 129);
  }
});

test('E4M3 saturates, keeps NaN and the sign of zero, and rounds to FP32 first', () => {
  for (const x of [448, 449, 464, 465, 1e9, Infinity]) {
    expect(encodeE4M3(x)).toBe(0x7e);
    expect(encodeE4M3(-x)).toBe(0xfe);
  }
  expect(encodeE4M3(NaN) & 0x7f).toBe(0x7f);
  expect([encodeE4M3(0), encodeE4M3(-0), encodeE4M3(1e-45), encodeE4M3(-1e-45)]).toEqual([
    0, 128, 0, 128,
  ]);
  // In double precision just above a midpoint, in FP32 on it.
  for (const middle of [1.0625, 2 ** -10, 3 * 2 ** -10])
    expect(encodeE4M3(middle * (1 + 2 ** -40))).toBe(encodeE4M3(middle));
});

test('E4M3: 100,000 values of every size round to the nearest', () => {
  const wrong: number[] = [];
  for (let i = 0; i < 100_000; i += 1) {
    // A stride through all positive finite patterns up to 512.
    const x = floatOf(Math.floor((i / 100_000) * 0x44000000));
    if (encodeE4M3(x) !== nearest(e4m3Magnitudes, x)) wrong.push(x);
  }
  expect(wrong).toEqual([]);
});

test('BF16: every pattern survives, midpoints go to the even neighbour', () => {
  const patterns = Uint16Array.from({ length: 65_536 }, (_, i) => i);
  const back = encodeBf16Array(decodeBf16Array(patterns));
  const wrong: number[] = [];
  for (let pattern = 0; pattern < 65_536; pattern += 1) {
    const magnitude = pattern & 0x7fff;
    if (magnitude > 0x7f80) {
      const isNaN = Number.isNaN(decodeBf16(pattern)) && (back[pattern] & 0x7fff) > 0x7f80;
      if (!isNaN) wrong.push(pattern);
      continue;
    }
    if (back[pattern] !== pattern || encodeBf16(decodeBf16(pattern)) !== pattern)
      wrong.push(pattern);
    if (magnitude === 0x7f80) continue; // infinity has no neighbour
    const near = [-1, 0, 1].map((step) => {
      return encodeBf16(floatOf(pattern * 65_536 + 0x8000 + step));
    });
    const even = pattern % 2 === 0 ? pattern : pattern + 1;
    if (near[0] !== pattern || near[1] !== even || near[2] !== pattern + 1) wrong.push(pattern);
  }
  expect(wrong).toEqual([]);
  expect(decodeBf16(encodeBf16(NaN))).toBeNaN();
});

test('arrays encode as single values do, into a given array as well', () => {
  const x = Float32Array.from({ length: 999 }, (_, i) => Math.sin(i) * 10 ** ((i % 9) - 5));
  expect(encodeE4M3Array(x)).toEqual(Uint8Array.from(x, encodeE4M3));
  const [codes, patterns] = [new Uint8Array(999), new Uint16Array(999)];
  expect(encodeE4M3Array(x, codes)).toBe(codes);
  expect(encodeBf16Array(x, patterns)).toBe(patterns);
  expect(patterns).toEqual(Uint16Array.from(x, encodeBf16));
});
