// Cases of matrix products: one matrix, or one an expert.
import { type Operand, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import type { Arena } from './compare';

type Kind = 'f32' | 'bf16' | 'e4m3';

/** A matrix operand stored [rows, cols]; scale blocks span 128 along the axis that is summed. */
function matrix(
  arena: Arena,
  kind: Kind,
  rows: number,
  cols: number,
  along: 'rows' | 'cols',
  across: number,
): Operand {
  if (kind === 'f32') return viewOf(arena.floats(rows * cols));
  if (kind === 'bf16') return viewOf(arena.halves(rows * cols));
  return arena.scaled(rows, cols, along === 'cols' ? [across, 128] : [128, across]);
}

/** Matrices stacked, each with blocks of its own. */
function stack(
  arena: Arena,
  kind: Kind,
  groups: number,
  [rows, cols]: readonly [number, number],
  along: 'rows' | 'cols',
  across: number,
): Operand {
  if (kind !== 'e4m3') return matrix(arena, kind, groups * rows, cols, along, across);
  const block: readonly [number, number] = along === 'cols' ? [across, 128] : [128, across];
  const whole = arena.scaled(groups * rows, cols, block, groups * Math.ceil(rows / block[0]));
  return whole;
}

const shapes = [
  [0, 4, 8],
  [3, 4, 0],
  [1, 1, 1],
  [1, 5, 3],
  [1, 64, 128],
  [2, 130, 257],
  [17, 33, 129],
  [31, 16, 127],
  [32, 32, 128],
  [33, 47, 300],
  [19, 259, 70],
  [40, 48, 384],
  [3, 600, 288],
] as const;
const kinds = ['f32', 'bf16', 'e4m3'] as const;
/** What FP8 blocks span across the axis that is summed, in a and in b. */
const blockPairs = [
  [1, 128],
  [1, 1],
  [128, 128],
] as const;

/** Cases of matrix products. */
export function productCases(): Case[] {
  const list: Case[] = [];
  for (const kind of kinds)
    for (const [m, n, k] of shapes)
      for (const transA of [false, true])
        for (const transB of [false, true])
          for (const accumulate of [false, true])
            for (const [acrossA, acrossB] of kind === 'e4m3' ? blockPairs : [[1, 1] as const])
              list.push({
                kernel: 'gemm',
                label: `${kind} ${m}×${n}×${k}${transA ? ' aᵀ' : ''}${transB ? ' bᵀ' : ''}${accumulate ? ' +=' : ''} ${acrossA}/${acrossB}`,
                tolerance: kind === 'f32' ? 1e-6 : 'bits',
                run: (kernels, arena) => {
                  const a = transA
                    ? matrix(arena, kind, k, m, 'rows', acrossA)
                    : matrix(arena, kind, m, k, 'cols', acrossA);
                  const b = transB
                    ? matrix(arena, kind, n, k, 'cols', acrossB)
                    : matrix(arena, kind, k, n, 'rows', acrossB);
                  const c = arena.out(m * n);
                  kernels.gemm(viewOf(c), a, b, { m, n, k, transA, transB, accumulate });
                  return { c };
                },
              });
  const groupings: readonly (readonly number[])[] = [
    [5],
    [0, 0, 0],
    [1, 0, 3, 130],
    [0, 128, 1, 0],
    [33, 65, 0, 7, 160],
  ];
  for (const kind of kinds)
    for (const sizes of groupings)
      for (const [n, k] of [
        [16, 128],
        [33, 130],
      ] as const)
        for (const accumulate of [false, true]) {
          const groups = sizes.length;
          const rows = sizes.reduce((sum, size) => sum + size, 0);
          const name = `${kind} [${sizes.join(' ')}] ${n}, ${k}${accumulate ? ' +=' : ''}`;
          const tolerance = kind === 'f32' ? 1e-6 : 'bits';
          // Scales for any grouping of the rows, where blocks start anew at every group.
          const grouped = (arena: Arena, cols: number, across: 1 | 128, along: 'rows' | 'cols') =>
            kind === 'e4m3' && (along === 'rows' || across === 128)
              ? arena.scaled(
                  rows,
                  cols,
                  [128, along === 'rows' ? across : 128],
                  Math.floor(rows / 128) + groups,
                )
              : matrix(arena, kind, rows, cols, along, across);
          for (const transB of [false, true])
            for (const [acrossA, acrossB] of kind === 'e4m3' ? blockPairs : [[1, 1] as const])
              list.push({
                kernel: 'groupedGemm',
                label: `${name}${transB ? ' bᵀ' : ''} ${acrossA}/${acrossB}`,
                tolerance,
                run: (kernels, arena) => {
                  const a = grouped(arena, k, acrossA, 'cols');
                  const b = transB
                    ? stack(arena, kind, groups, [n, k], 'cols', acrossB)
                    : stack(arena, kind, groups, [k, n], 'rows', acrossB);
                  const c = arena.out(rows * n);
                  const offsets = viewOf(arena.offsets(sizes));
                  kernels.groupedGemm(viewOf(c), a, b, offsets, {
                    groups,
                    rows,
                    n,
                    k,
                    transB,
                    accumulate,
                  });
                  return { c };
                },
              });
          for (const across of kind === 'e4m3' ? ([1, 128] as const) : ([1] as const))
            list.push({
              kernel: 'groupedGemmWeight',
              label: `${name} ${across}`,
              tolerance,
              run: (kernels, arena) => {
                const a = grouped(arena, k, across, 'rows');
                const b = grouped(arena, n, 1, 'rows');
                const c = arena.out(groups * k * n);
                const offsets = viewOf(arena.offsets(sizes));
                kernels.groupedGemmWeight(viewOf(c), a, b, offsets, {
                  groups,
                  rows,
                  m: k,
                  n,
                  accumulate,
                });
                return { c };
              },
            });
        }
  return list;
}
