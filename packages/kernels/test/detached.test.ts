// Memory that went away under a view: a transferred buffer belongs to another owner, one that shrank has no such bytes.
// Kernels refuse it before they compute, and recordings before they are replayed.
import {
  type CpuStorage,
  type Kernels,
  kernelNames,
  nativeKernels,
  referenceKernels,
  type View,
  viewOf,
} from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import { wrapKernels } from '../src/checks';
import { cases } from './cases';
import { Arena } from './compare';

const code = 'ERR_BALEEN_KERNELS_DETACHED';
const native = nativeKernels();

/** Gives an array's memory to another owner, who is returned. */
const transferred = <T extends ArrayBufferView>(array: T): T =>
  structuredClone(array, { transfer: [array.buffer as ArrayBuffer] });

const isView = (value: unknown): value is View =>
  typeof value === 'object' && value !== null && 'storage' in value;

/** A buffer that has nothing left. */
const empty = new ArrayBuffer(8);
structuredClone(empty, { transfer: [empty] });

/** The view as it would be had its memory gone. */
const gone = ({ storage, byteOffset, dtype, size }: View): View => {
  const emptied: CpuStorage = { backend: 'cpu', byteLength: storage.byteLength, buffer: empty };
  return { storage: emptied, byteOffset, dtype, size };
};

/** Every view among a call's arguments, by its place, and the call as it would be had that view's memory gone. */
function* goneOneByOne(args: readonly unknown[]): Generator<[place: string, args: unknown[]]> {
  for (const [i, arg] of args.entries()) {
    if (isView(arg)) {
      if (arg.size > 0) yield [`${i} ${arg.dtype}`, args.with(i, gone(arg))];
    } else if (typeof arg === 'object' && arg !== null)
      for (const [key, value] of Object.entries(arg))
        if (isView(value) && value.size > 0)
          yield [`${i}.${key} ${value.dtype}`, args.with(i, { ...arg, [key]: gone(value) })];
  }
}

describe.each(implementationsOf<Kernels>(referenceKernels(), native ?? referenceKernels()))(
  'memory that went away, on %s',
  (_, kernels) => {
    test('is refused by name, and its new owner keeps what it holds', () => {
      const array = Float32Array.of(1, 2, 3, 4);
      const view = viewOf(array);
      kernels.fill(view, 5);
      const owner = transferred(array);
      expect(() => {
        kernels.fill(view, 7);
      }).toThrow(
        expect.objectContaining({
          code,
          path: 'fill.out',
          message: 'fill: out spans bytes 0 to 16 of a buffer that has 0 left of its 16',
          hint: expect.stringContaining('transferred') as string,
        }),
      );
      expect([...owner]).toEqual([5, 5, 5, 5]);
    });
  },
);

test('it is refused in every place of every kernel', () => {
  const seen = new Set<string>();
  // Computes nothing: what the calls are made with does not depend on it.
  const probing = wrapKernels(native ?? referenceKernels(), (kernel, call) => (...args) => {
    for (const [place, changed] of goneOneByOne(args)) {
      if (seen.has(`${kernel} ${place}`)) continue;
      seen.add(`${kernel} ${place}`);
      expect(() => {
        call(...changed);
      }, `${kernel}, argument ${place}`).toThrow(expect.objectContaining({ code }));
    }
  });
  for (const name of kernelNames) {
    const own = cases.filter(({ kernel }) => kernel === name);
    // Of the many of a product every seventh: they differ in sizes more than in places.
    for (const [i, { run }] of own.entries())
      if (own.length < 30 || i % 7 === 0) run(probing, new Arena(1));
  }
  expect(new Set([...seen].map((place) => place.split(' ')[0]))).toEqual(new Set(kernelNames));
});

test('views of a buffer that shrank are refused beyond its end only', () => {
  // Resizable buffers are younger than the types that these sources are compiled with.
  const Resizable = ArrayBuffer as unknown as new (
    size: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & { resize: (size: number) => void };
  const buffer = new Resizable(64, { maxByteLength: 64 });
  const [near, far] = [0, 32].map((at) => viewOf(new Float32Array(buffer, at, 4)));
  buffer.resize(16);
  const kernels = native ?? referenceKernels();
  kernels.fill(near, 3);
  expect([...new Float32Array(buffer)]).toEqual([3, 3, 3, 3]);
  expect(() => {
    kernels.fill(far, 3);
  }).toThrow(expect.objectContaining({ code, path: 'fill.out' }));
});

describe.skipIf(native === null)('a recording', () => {
  const kernels = native as Kernels & { record: NonNullable<Kernels['record']> };

  test.each([0, 1, 2])(
    'of memory that was transferred is refused before any of its calls: buffer %i of 3',
    (index) => {
      const arrays = [3, 130, 130].map((size) => new Float32Array(size).fill(2));
      const [out, x, other] = arrays.map(viewOf);
      const recording = kernels.record(() => {
        kernels.fill(out, 7);
        kernels.fill(x, 7);
        kernels.scale(x, other, 3);
      });
      for (const array of arrays) array.fill(2);
      const bytes = arrays[index].byteLength;
      arrays[index] = transferred(arrays[index]);
      expect(() => {
        recording.replay();
      }).toThrow(
        expect.objectContaining({
          code,
          path: `memory[${index}]`,
          message: `a recording names a buffer that has 0 left of its ${bytes} bytes (memory[${index}])`,
          hint: expect.stringContaining('record') as string,
        }),
      );
      for (const array of arrays) expect(new Set(array)).toEqual(new Set([2]));
    },
  );
});
