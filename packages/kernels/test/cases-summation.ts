// Cases of FP8 products that are promoted at other intervals, or added up as tensor cores do.
import { type Fp8Type, type ScaledView, type SummationSizes, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import type { Arena } from './compare';

const summations: readonly SummationSizes[] = [
  { promotion: 128 },
  { promotion: 1 },
  { promotion: 32 },
  { promotion: 48 },
  { promotion: 200 },
  { promotion: Infinity },
  // Hopper.
  { fractionBits: 13, alignedSum: true },
  { promotion: Infinity, fractionBits: 13, alignedSum: true },
  { promotion: 48, fractionBits: 13, alignedSum: true },
  { fractionBits: 13 },
  // The least, the most, and where FP32 no longer holds the sum of an instruction.
  { fractionBits: 1, alignedSum: true },
  { fractionBits: 1 },
  { fractionBits: 17, alignedSum: true },
  { fractionBits: 17, promotion: 100 },
  { fractionBits: 18, alignedSum: true },
  { fractionBits: 18 },
  { fractionBits: 45, alignedSum: true, promotion: 200 },
  { fractionBits: 45 },
];

const labelOf = (summation: SummationSizes): string =>
  Object.entries(summation)
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ');

/** A matrix of codes of which some are NaN or infinite. */
const wild = (arena: Arena, x: ScaledView): ScaledView => ({
  ...x,
  codes: { ...viewOf(arena.bytes(x.codes.size)), dtype: x.codes.dtype },
});

/** Single products of these sizes. */
function singleCases(
  shapes: readonly (readonly [m: number, n: number, k: number])[],
  ways: readonly SummationSizes[] = summations,
  [left, right]: readonly [Fp8Type, Fp8Type] = ['e4m3', 'e4m3'],
): Case[] {
  const list: Case[] = [];
  for (const summation of ways)
    for (const [m, n, k] of shapes)
      for (const [transA, transB] of [
        [false, true],
        [false, false],
        [true, false],
        [true, true],
      ])
        list.push({
          kernel: 'gemm',
          label: `${left} · ${right} ${m}×${n}×${k}${transA ? ' aᵀ' : ''}${transB ? ' bᵀ' : ''}, ${labelOf(summation)}`,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const [aRows, aCols] = transA ? [k, m] : [m, k];
            const [bRows, bCols] = transB ? [n, k] : [k, n];
            const a = arena.scaled(aRows, aCols, transA ? [128, 1] : [1, 128], undefined, left);
            const b = arena.scaled(bRows, bCols, [128, 128], undefined, right);
            const c = arena.out(m * n);
            const accumulate = transA;
            const sizes = { m, n, k, transA, transB, accumulate, ...summation };
            // A sum of forty products is NaN as often as not.
            const [x, y] = k === 40 ? [wild(arena, a), wild(arena, b)] : [a, b];
            kernels.gemm(viewOf(c), x, y, sizes);
            return { c };
          },
        });
  return list;
}

/** In FP32, as Hopper, and in doubles. */
const few: readonly SummationSizes[] = [
  { promotion: 48 },
  { promotion: Infinity, fractionBits: 13, alignedSum: true },
  { fractionBits: 34 },
];

/** Products of experts, of which some have no rows. */
function groupedCases(groupSizes: readonly number[], n: number, k: number): Case[] {
  const groups = groupSizes.length;
  const rows = groupSizes.reduce((sum, size) => sum + size, 0);
  return few.flatMap((summation): Case[] => {
    const label = `[${groupSizes.join(' ')}] ${n}, ${k}, ${labelOf(summation)}`;
    const columns = (arena: Arena, width: number): ScaledView =>
      arena.scaled(rows, width, [128, 1], Math.floor(rows / 128) + groups);
    return [
      ...[false, true].map(
        (transB): Case => ({
          kernel: 'groupedGemm',
          label: `${label}${transB ? ' bᵀ' : ''}`,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const a = arena.scaled(rows, k, [1, 128]);
            const [bRows, bCols] = transB ? [n, k] : [k, n];
            const scaleRows = groups * Math.ceil(bRows / 128);
            const b = arena.scaled(groups * bRows, bCols, [128, 128], scaleRows);
            const c = arena.out(rows * n);
            const sizes = { groups, rows, n, k, transB, ...summation };
            kernels.groupedGemm(viewOf(c), a, b, viewOf(arena.offsets(groupSizes)), sizes);
            return { c };
          },
        }),
      ),
      {
        kernel: 'groupedGemmWeight',
        label,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [a, b] = [columns(arena, k), columns(arena, n)];
          const c = arena.out(groups * k * n);
          const sizes = { groups, rows, m: k, n, accumulate: true, ...summation };
          kernels.groupedGemmWeight(viewOf(c), a, b, viewOf(arena.offsets(groupSizes)), sizes);
          return { c };
        },
      },
    ];
  });
}

/** Small ones, which the literal contract is compared with. */
export const summationCases: readonly Case[] = [
  ...singleCases([
    [0, 4, 8],
    [3, 4, 0],
    [2, 3, 1],
    [3, 9, 40],
    [5, 21, 300],
  ]),
  ...(
    [
      ['e5m2', 'e4m3'],
      ['e4m3', 'e5m2'],
      ['e5m2', 'e5m2'],
    ] as const
  ).flatMap((formats) =>
    singleCases(
      [
        [3, 9, 40],
        [5, 11, 140],
      ],
      [...few, { fractionBits: 1, alignedSum: true }, { fractionBits: 1 }],
      formats,
    ),
  ),
  ...groupedCases([3, 0, 130], 5, 131),
];

/** Some that several threads share, and whose sums go on through several pieces of the operands. */
export const largeSummationCases: readonly Case[] = [
  ...singleCases([[35, 133, 1110]], few),
  ...groupedCases([0, 150, 1, 0, 400], 70, 160),
];
