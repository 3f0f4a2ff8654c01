// Rows so many that the addon writes them past the caches: the same bits, wherever a row begins in a line.
import {
  type Kernels,
  type NativeKernels,
  nativeKernels,
  referenceKernels,
  viewOf,
} from '@baleen/kernels';
import { expect, test } from 'vitest';

const native = nativeKernels();

/** Runs a body on every instruction set. */
function onEverySet(body: (kernels: NativeKernels) => void): void {
  const kernels = native;
  if (kernels === null) return;
  const before = kernels.isa;
  try {
    for (const isa of kernels.isas) {
      kernels.setIsa(isa);
      body(kernels);
    }
  } finally {
    kernels.setIsa(before);
  }
  expect(kernels.isa).toBe(before);
}

test.skipIf(native === null).each([4001, 4096])(
  'permute: rows of %d bytes, on every instruction set',
  (width) => {
    const [tokens, k] = [30, 150];
    const rows = tokens * k;
    // Every third row is padding.
    const slots = Int32Array.from({ length: rows }, (_, row) =>
      row % 3 === 1 ? -1 : (row * 11) % rows,
    );
    const x = Uint8Array.from({ length: tokens * width }, (_, i) => (i * 7 + (i >> 8)) % 256);
    const zeros = new Uint8Array(width);
    onEverySet((kernels) => {
      // One byte past where memory begins.
      const out = new Uint8Array(rows * width + 1).subarray(1).fill(99);
      kernels.permute(viewOf(out), viewOf(x), viewOf(slots), { rows, k, cols: width });
      slots.forEach((slot, row) => {
        const own = out.subarray(row * width, (row + 1) * width);
        const token = Math.floor(slot / k);
        const expected = slot < 0 ? zeros : x.subarray(token * width, (token + 1) * width);
        if (Buffer.compare(own, expected) !== 0)
          throw new Error(`row ${row} differs on ${kernels.isa}`);
      });
    });
  },
);

test.skipIf(native === null).each([
  [1029, false],
  [1024, true],
])('unpermute: rows of %d numbers, on every instruction set', (cols, accumulate) => {
  const [tokens, k] = [128, 130];
  const rows = tokens * k;
  const y = Float32Array.from({ length: rows * cols }, (_, i) => ((i * 7) % 1013) / 64);
  const rowOfSlot = Int32Array.from({ length: rows }, (_, slot) => (slot * 11) % rows);
  const weights = Float32Array.from({ length: rows }, (_, slot) => (slot % 17) / 7);
  const sizes = { tokens, k, cols, accumulate };
  const result = (kernels: Kernels): Uint8Array => {
    // One number past where memory begins, and one behind that stays.
    const out = new Float32Array(tokens * cols + 2).fill(3);
    const own = out.subarray(1, -1);
    kernels.unpermute(viewOf(own), viewOf(y), viewOf(rowOfSlot), viewOf(weights), sizes);
    return new Uint8Array(out.buffer);
  };
  const expected = result(referenceKernels());
  onEverySet((kernels) => {
    expect(Buffer.compare(result(kernels), expected), kernels.isa).toBe(0);
  });
});
