// Cases of FP8 quantisation: blocks of every shape, ragged ones, row groups, stacks, and what rounding gets wrong first.
import { type Kernels, type ScaledView, type ViewArray, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import { type Arena, scaledArrays } from './compare';

/** An output in blocks, holding something already; without groups just enough scales, else room for any grouping. */
function scaledOut(
  arena: Arena,
  rows: number,
  cols: number,
  [blockRows, blockCols]: readonly [number, number],
  groups?: number,
): ScaledView {
  const scaleRows =
    groups === undefined
      ? Math.ceil(rows / blockRows)
      : Math.min(rows, Math.floor(rows / 128) + groups);
  return {
    codes: viewOf(arena.outCodes(rows * cols)),
    scales: viewOf(arena.out(scaleRows * Math.ceil(cols / blockCols))),
    blockRows,
    blockCols,
  };
}

/** Both outputs of `quantizeBoth`; scales beyond the last group's are nobody's. */
function bothWays(
  kernels: Kernels,
  arena: Arena,
  x: Float32Array,
  sizes: { rows: number; cols: number; powerOfTwo?: boolean },
  groups?: readonly number[],
): Record<string, ViewArray> {
  const { rows, cols } = sizes;
  const rowwise = scaledOut(arena, rows, cols, [1, 128]);
  const columnwise = scaledOut(arena, rows, cols, [128, 1], groups?.length);
  const grouped = groups && { offsets: viewOf(arena.offsets(groups)), groups: groups.length };
  kernels.quantizeBoth(rowwise, columnwise, viewOf(x), { ...sizes, ...grouped });
  const [a, b] = [scaledArrays(rowwise), scaledArrays(columnwise)];
  const used = (groups ?? [rows]).reduce((sum, size) => sum + Math.ceil(size / 128), 0) * cols;
  return {
    rowCodes: a.codes,
    rowScales: a.scales,
    columnCodes: b.codes,
    columnScales: b.scales.subarray(0, used),
  };
}

/** Zeros; a block with NaN, one with an infinity; and ties between codes where the scale is 1. */
function troublesome(arena: Arena, rows: number, cols: number): Float32Array {
  return arena.floats(rows * cols, (i) => {
    const [r, c] = [Math.floor(i / cols), i % cols];
    if (r === 2 && c === 7) return NaN;
    if (r === 4 && c === 130) return -Infinity;
    if (r === 6 || c === 6) return i % 3 ? 0 : -0;
    if (r === 129 || c === 259) return (i % 2 ? 448 : -0.5 * (i % 900)) + 2 ** -6 * (i % 16);
    return arena.random.normal() * 1e-4;
  });
}

/** Cases of FP8 quantisation. */
export function fp8Cases(): Case[] {
  const list: Case[] = [];
  const blocks = [
    [1, 128],
    [128, 1],
    [128, 128],
  ] as const;
  const matrices = [
    [0, 16],
    [1, 1],
    [1, 300],
    [129, 5],
    [130, 200],
    [130, 128],
  ] as const;
  for (const [rows, cols] of matrices)
    for (const block of blocks)
      for (const powerOfTwo of [false, true]) {
        const name = `${rows}×${cols} in ${block.join('×')}${powerOfTwo ? ', powers of two' : ''}`;
        list.push({
          kernel: 'quantize',
          label: name,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const size = (i: number): number => arena.random.normal() * 10 ** ((i % 7) - 5);
            const x = arena.floats(rows * cols, size);
            const out = scaledOut(arena, rows, cols, block);
            kernels.quantize(out, viewOf(x), { rows, cols, powerOfTwo });
            return scaledArrays(out);
          },
        });
        if (block[0] === 1)
          list.push({
            kernel: 'quantizeBoth',
            label: name,
            tolerance: 'bits',
            run: (kernels, arena) => {
              const size = (i: number): number => arena.random.normal() * 10 ** ((i % 7) - 5);
              const x = arena.floats(rows * cols, size);
              return bothWays(kernels, arena, x, { rows, cols, powerOfTwo });
            },
          });
        for (const from of blocks)
          list.push({
            kernel: 'requantize',
            label: `${name} from ${from.join('×')}`,
            tolerance: 'bits',
            run: (kernels, arena) => {
              const out = scaledOut(arena, rows, cols, block);
              kernels.requantize(out, arena.scaled(rows, cols, from), { rows, cols, powerOfTwo });
              return scaledArrays(out);
            },
          });
        if (powerOfTwo) continue;
        list.push({
          kernel: 'dequantize',
          label: name,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const x = arena.scaled(rows, cols, block);
            const [f32, bf16] = [arena.out(rows * cols), arena.outHalves(rows * cols)];
            kernels.dequantize(viewOf(f32), x, { rows, cols });
            kernels.dequantize(viewOf(bf16), x, { rows, cols });
            return { f32, bf16 };
          },
        });
      }
  for (const block of blocks)
    for (const powerOfTwo of [false, true])
      list.push({
        kernel: 'quantize',
        label: `infinities, NaN, zeros and ties in ${block.join('×')}${powerOfTwo ? ', powers of two' : ''}`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [rows, cols] = [130, 260];
          const x = troublesome(arena, rows, cols);
          const out = scaledOut(arena, rows, cols, block);
          kernels.quantize(out, viewOf(x), { rows, cols, powerOfTwo });
          return scaledArrays(out);
        },
      });
  for (const powerOfTwo of [false, true])
    list.push({
      kernel: 'quantizeBoth',
      label: `infinities, NaN, zeros and ties${powerOfTwo ? ', powers of two' : ''}`,
      tolerance: 'bits',
      run: (kernels, arena) =>
        bothWays(kernels, arena, troublesome(arena, 130, 260), {
          rows: 130,
          cols: 260,
          powerOfTwo,
        }),
    });
  for (const [stack, rows] of [
    [1, 48],
    [8, 48],
    [3, 130],
  ])
    list.push({
      kernel: 'quantize',
      label: `${stack} stacked ${rows}×130`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const scaleRows = stack * Math.ceil(rows / 128);
        const scales = viewOf(arena.out(scaleRows * 2));
        const codes = viewOf(arena.outCodes(stack * rows * 130));
        const out = { codes, scales, blockRows: 128, blockCols: 128 };
        const x = viewOf(arena.floats(stack * rows * 130));
        kernels.quantize(out, x, { rows, cols: 130, stack });
        return scaledArrays(out);
      },
    });
  for (const sizes of [[1], [0, 0], [0, 5, 130, 0, 128, 300], [3, 0, 1]])
    for (const cols of [1, 33, 128, 150]) {
      const [rows, groups] = [sizes.reduce((sum, size) => sum + size, 0), sizes.length];
      const scaleRows = sizes.reduce((sum, size) => sum + Math.ceil(size / 128), 0);
      const name = `[${sizes.join(' ')}] × ${cols} in groups`;
      list.push({
        kernel: 'quantizeBoth',
        label: name,
        tolerance: 'bits',
        run: (kernels, arena) =>
          bothWays(kernels, arena, arena.floats(rows * cols), { rows, cols }, sizes),
      });
      for (const block of [
        [128, 1],
        [128, 128],
      ] as const) {
        const label = `${name} of ${block.join('×')}`;
        // Scales beyond the last group's are nobody's.
        const outputs = (out: ScaledView): { codes: Uint8Array; scales: Float32Array } => {
          const { codes, scales } = scaledArrays(out);
          return { codes, scales: scales.subarray(0, scaleRows * Math.ceil(cols / block[1])) };
        };
        list.push(
          {
            kernel: 'quantize',
            label,
            tolerance: 'bits',
            run: (kernels, arena) => {
              const out = scaledOut(arena, rows, cols, block, groups);
              const offsets = viewOf(arena.offsets(sizes));
              const x = viewOf(arena.floats(rows * cols));
              kernels.quantize(out, x, { rows, cols, offsets, groups });
              return outputs(out);
            },
          },
          {
            kernel: 'requantize',
            label,
            tolerance: 'bits',
            run: (kernels, arena) => {
              const out = scaledOut(arena, rows, cols, block, groups);
              const offsets = viewOf(arena.offsets(sizes));
              const x = arena.scaled(rows, cols, [1, 128]);
              kernels.requantize(out, x, { rows, cols, offsets, groups });
              return outputs(out);
            },
          },
        );
      }
    }
  return list;
}
