// Cases of E5M6: tiles of 1×128 packed two codes in three bytes, of widths whose rows begin in the middle of a byte.
import {
  byteSize,
  decodeArray,
  type Kernels,
  type ScaledView,
  unpack12,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';

import type { Case } from './cases';
import type { Arena } from './compare';

const tilesOf = (codes: Uint8Array, scales: Float32Array, size: number): ScaledView => ({
  codes: { ...viewOf(codes), dtype: 'e5m6', size },
  scales: viewOf(scales),
  blockRows: 1,
  blockCols: 128,
});

/** What `quantize` makes of x: the codes' values, of which any NaN equals any other, and scales. */
function quantized(
  kernels: Kernels,
  arena: Arena,
  x: Float32Array,
  sizes: { rows: number; cols: number; powerOfTwo: boolean; stack?: number },
): Record<string, ViewArray> {
  const rows = sizes.rows * (sizes.stack ?? 1);
  const count = rows * sizes.cols;
  const bytes = arena.outCodes(byteSize('e5m6', count));
  const scales = arena.out(rows * Math.ceil(sizes.cols / 128));
  kernels.quantize(tilesOf(bytes, scales, count), viewOf(x), sizes);
  const last = Int32Array.from(bytes.subarray(-1));
  return { values: decodeArray(unpack12(bytes, { count }), 'e5m6'), scales, last };
}

/** NaN, infinities, zeros; and with a scale of 1, ties between codes, subnormal ones among them. */
function troublesome(arena: Arena, rows: number, cols: number): Float32Array {
  return arena.floats(rows * cols, (i) => {
    const [r, c] = [Math.floor(i / cols), i % cols];
    const sign = i % 3 ? 1 : -1;
    if (r === 1 && c === 7) return NaN;
    if (r === 2 && c === 130) return -Infinity;
    if (r === 3) return i % 3 ? 0 : -0;
    if (r > 3 && c % 128 === 0) return 65024;
    if (r === 4) return sign * (c + 0.5) * 2 ** -20;
    if (r === 5) return sign * (64 + (c % 64) + 0.5) * 2 ** ((c % 24) - 20);
    if (r === 6) return sign * 2 ** -(c % 40);
    return arena.random.normal() * 10 ** ((i % 9) - 4);
  });
}

/** The cases. */
export function e5m6Cases(): Case[] {
  const list: Case[] = [];
  for (const [rows, cols] of [
    [0, 16],
    [1, 1],
    [2, 3],
    [3, 5],
    [1, 300],
    [7, 129],
    [130, 256],
    [301, 131],
  ] as const) {
    for (const powerOfTwo of [false, true])
      list.push({
        kernel: 'quantize',
        label: `${rows}×${cols} to E5M6${powerOfTwo ? ', powers of two' : ''}`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const x = arena.floats(
            rows * cols,
            (i) => arena.random.normal() * 10 ** (i % 11 ? 0 : (i % 7) - 9),
          );
          return quantized(kernels, arena, x, { rows, cols, powerOfTwo });
        },
      });
    list.push({
      kernel: 'dequantize',
      label: `${rows}×${cols} from E5M6, every kind of code`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const size = rows * cols;
        const bytes = arena.bytes(byteSize('e5m6', size));
        const scales = arena.floats(rows * Math.ceil(cols / 128), () =>
          arena.random.uniform(0.001, 0.1),
        );
        const x = tilesOf(bytes, scales, size);
        const [f32, bf16] = [arena.out(size), arena.outHalves(size)];
        kernels.dequantize(viewOf(f32), x, { rows, cols });
        kernels.dequantize(viewOf(bf16), x, { rows, cols });
        return { f32, bf16 };
      },
    });
  }
  for (const powerOfTwo of [false, true])
    list.push({
      kernel: 'quantize',
      label: `infinities, NaN, zeros and ties to E5M6${powerOfTwo ? ', powers of two' : ''}`,
      tolerance: 'bits',
      run: (kernels, arena) =>
        quantized(kernels, arena, troublesome(arena, 9, 261), { rows: 9, cols: 261, powerOfTwo }),
    });
  list.push({
    kernel: 'quantize',
    label: '3 stacked 5×131 to E5M6',
    tolerance: 'bits',
    run: (kernels, arena) =>
      quantized(kernels, arena, arena.floats(15 * 131), {
        rows: 5,
        cols: 131,
        powerOfTwo: true,
        stack: 3,
      }),
  });
  return list;
}
