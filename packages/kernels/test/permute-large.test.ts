// Rows so many that the addon writes them past the caches: the same bytes, wherever a row begins in a line.
import { nativeKernels, viewOf } from '@baleen/kernels';
import { expect, test } from 'vitest';

const native = nativeKernels();
const [tokens, k] = [30, 150];
const rows = tokens * k;
// Every third row is padding.
const slots = Int32Array.from({ length: rows }, (_, row) =>
  row % 3 === 1 ? -1 : (row * 11) % rows,
);

test.skipIf(native === null).each([4001, 4096])(
  'rows of %d bytes, on every instruction set',
  (width) => {
    const kernels = native;
    if (kernels === null) return;
    const before = kernels.isa;
    const x = Uint8Array.from({ length: tokens * width }, (_, i) => (i * 7 + (i >> 8)) % 256);
    const zeros = new Uint8Array(width);
    try {
      for (const isa of kernels.isas) {
        kernels.setIsa(isa);
        // One byte past where memory begins.
        const out = new Uint8Array(rows * width + 1).subarray(1).fill(99);
        kernels.permute(viewOf(out), viewOf(x), viewOf(slots), { rows, k, cols: width });
        slots.forEach((slot, row) => {
          const own = out.subarray(row * width, (row + 1) * width);
          const token = Math.floor(slot / k);
          const expected = slot < 0 ? zeros : x.subarray(token * width, (token + 1) * width);
          if (Buffer.compare(own, expected) !== 0) throw new Error(`row ${row} differs on ${isa}`);
        });
      }
    } finally {
      kernels.setIsa(before);
    }
    expect(kernels.isa).toBe(before);
  },
);
