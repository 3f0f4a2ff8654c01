// Views are made of the arrays that kernels compute on, and of nothing else.

import { runInNewContext } from 'node:vm';
import { type ViewArray, viewOf } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

describe('viewOf', () => {
  test.each([
    [new Float32Array(4), 'f32'],
    [new Uint16Array(4), 'bf16'],
    [new Uint8Array(4), 'e4m3'],
    [Buffer.alloc(4), 'e4m3'],
    [new Int32Array(4), 'i32'],
    [new Float32Array(new SharedArrayBuffer(16)), 'f32'],
    [runInNewContext('new Float32Array(4)') as Float32Array, 'f32'],
  ] as const)('takes %o as it is', (array, dtype) => {
    const { storage, ...view } = viewOf(array);
    expect(view).toEqual({ byteOffset: array.byteOffset, dtype, size: 4 });
    expect(storage.byteLength).toBe(array.buffer.byteLength);
  });

  test.each([
    [[1, 2, 3], /a view of Array, expected Float32Array, Uint16Array, Uint8Array, Int32Array/],
    [new Float64Array(2), /a view of Float64Array/],
    [new Uint32Array(2), /a view of Uint32Array/],
    [new DataView(new ArrayBuffer(8)), /a view of DataView/],
    [null, /a view of Null/],
    [undefined, /a view of Undefined/],
  ])('refuses %o by its name', (array, message) => {
    const make = (): unknown => viewOf(array as unknown as ViewArray);
    expect(make).toThrow(message);
    expect(make).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_KERNELS_ARRAY',
        path: 'array',
        hint: expect.stringContaining('Float32Array.from') as string,
      }),
    );
  });
});
