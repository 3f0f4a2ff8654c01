// Twelve-bit codes two in three bytes.
import { expect, test } from 'vitest';

import { values } from '../../../test/support';
import { decodeArray, encodeArray, pack12, packed12Length, unpack12 } from '../src/index';

test('every code survives in every place, with an odd number as well', () => {
  for (const count of [4096, 4095, 1, 0]) {
    const codes = Uint16Array.from({ length: count }, (_, i) => (i * 2731) % 4096);
    const bytes = pack12(codes);
    expect(bytes).toHaveLength(packed12Length(count));
    expect(unpack12(bytes, { count })).toEqual(codes);
  }
  expect([0, 1, 2, 3].map(packed12Length)).toEqual([0, 2, 3, 5]);
});

test('lowest bits first', () => {
  expect([...pack12(Uint16Array.of(0x123, 0x456, 0x789))]).toEqual([0x23, 0x61, 0x45, 0x89, 0x07]);
});

test('E5M6 takes three quarters of the bytes that BF16 takes', () => {
  const x = values(1000, 1);
  const codes = encodeArray(x, 'e5m6');
  const bytes = pack12(codes);
  expect(bytes.length / encodeArray(x, 'bf16').byteLength).toBe(0.75);
  expect(decodeArray(unpack12(bytes, { count: 1000 }), 'e5m6')).toEqual(decodeArray(codes, 'e5m6'));
});

test('writes into what it is given, and refuses other lengths', () => {
  const [bytes, codes] = [new Uint8Array(5), new Uint16Array(3)];
  expect(pack12(Uint16Array.of(1, 2, 3), { out: bytes })).toBe(bytes);
  expect(unpack12(bytes, { count: 3 }, { out: codes })).toBe(codes);
  expect([...codes]).toEqual([1, 2, 3]);
  const refused = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_KERNELS_SHAPE', path });
  expect(() => pack12(codes, { out: new Uint8Array(4) })).toThrow(refused('out'));
  expect(() => unpack12(bytes, { count: 4 })).toThrow(refused('bytes'));
  expect(() => unpack12(bytes, { count: 3 }, { out: new Uint16Array(2) })).toThrow(refused('out'));
});
