// Cases of the kernels that quantise what they compute. Codes may differ where what is encoded does in its last bit, so
// values are compared; fused.test.ts holds each implementation to its own two calls, to the bit.
import { referenceKernels, type ScaledView, type View, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import { type Arena, scaledArrays } from './compare';

const reference = referenceKernels();

/** A 1×128 output that holds something already. */
export function tilesOut(arena: Arena, rows: number, cols: number): ScaledView {
  return {
    codes: viewOf(arena.outCodes(rows * cols)),
    scales: viewOf(arena.out(rows * Math.ceil(cols / 128))),
    blockRows: 1,
    blockCols: 128,
  };
}

/** What they stand for, and their scales. */
function decoded(
  x: ScaledView,
  rows: number,
  cols: number,
): { values: Float32Array; scales: Float32Array } {
  const values = new Float32Array(rows * cols);
  reference.dequantize(viewOf(values), x, { rows, cols });
  return { values, scales: scaledArrays(x).scales };
}

/**
 * The cases.
 * @param sizes - rows and columns of each
 * @returns both kernels, with both kinds of scales; the norm with and without its y
 */
export function fusedCases(sizes: readonly (readonly [number, number])[]): Case[] {
  const list: Case[] = [];
  for (const [rows, cols] of sizes)
    for (const powerOfTwo of [false, true]) {
      const size = { rows, cols, powerOfTwo };
      const label = `${rows}×${cols}${powerOfTwo ? ', powers of two' : ''}`;
      const matrix = (arena: Arena): View => viewOf(arena.floats(rows * cols));
      for (const kept of [false, true])
        list.push({
          kernel: 'rmsNormQuantize',
          label: `${label}${kept ? ', y too' : ''}`,
          tolerance: 1e-3,
          run: (kernels, arena) => {
            const [out, rstd] = [tilesOut(arena, rows, cols), arena.out(rows)];
            const y = kept ? arena.out(rows * cols) : null;
            const [x, weight] = [matrix(arena), viewOf(arena.floats(cols))];
            const sizesOf = { ...size, epsilon: 1e-6 };
            kernels.rmsNormQuantize(out, y && viewOf(y), viewOf(rstd), x, weight, sizesOf);
            return { ...decoded(out, rows, cols), rstd, ...(y ? { y } : {}) };
          },
        });
      list.push({
        kernel: 'swigluQuantize',
        label,
        tolerance: 1e-3,
        run: (kernels, arena) => {
          const out = tilesOut(arena, rows, cols);
          kernels.swigluQuantize(out, matrix(arena), matrix(arena), size);
          return decoded(out, rows, cols);
        },
      });
    }
  return list;
}
