// Cases of E5M2: everything that takes or makes codes of products, beside E4M3 and in its place. What is left out here is
// alike for both: see cases-fp8.ts and cases-product.ts.
import {
  byteSize,
  decodeArray,
  type Fp8Type,
  formatOf,
  type ScaledView,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';

import type { Case } from './cases';
import { tilesOut } from './cases-fused';
import { type Arena, scaledArrays } from './compare';

type Block = readonly [number, number];

const blocks = [
  [1, 128],
  [128, 1],
  [128, 128],
  [3, 50],
] as const;

/** An output in a format, holding something already. */
function scaledOut(
  arena: Arena,
  dtype: Fp8Type,
  [rows, cols]: readonly [number, number],
  [blockRows, blockCols]: Block,
  scaleRows = Math.ceil(rows / blockRows),
): ScaledView {
  return {
    codes: { ...viewOf(arena.outCodes(rows * cols)), dtype },
    scales: viewOf(arena.out(scaleRows * Math.ceil(cols / blockCols))),
    blockRows,
    blockCols,
  };
}

/** The codes' values, of which any NaN equals any other, and the first `count` scales. */
function results(x: ScaledView, name = '', count?: number): Record<string, ViewArray> {
  const { codes, scales } = scaledArrays(x);
  return {
    [`${name}values`]: decodeArray(codes, formatOf(x)),
    [`${name}scales`]: scales.subarray(0, count),
  };
}

/** NaN, infinities, zeros of both signs; and with a scale of 1 ties between codes, subnormal ones among them. */
function troublesome(arena: Arena, rows: number, cols: number): Float32Array {
  return arena.floats(rows * cols, (i) => {
    const [r, c] = [Math.floor(i / cols), i % cols];
    const sign = i % 3 ? 1 : -1;
    if (r === 2 && c === 7) return NaN;
    if (r === 4 && c === 130) return -Infinity;
    if (r === 6 || c === 6) return i % 3 ? 0 : -0;
    if ((r > 6 && c % 128 === 0) || r === 129) return sign * 57344;
    if (r === 7) return sign * (c + 0.5) * 2 ** -16;
    if (r === 8) return sign * (4 + (c % 4) + 0.5) * 2 ** ((c % 28) - 16);
    return arena.random.normal() * 10 ** ((i % 13) - 8);
  });
}

/** The cases. */
export function e5m2Cases(): Case[] {
  return [...quantizeCases(), ...decodeCases(), ...productCases(), ...moveCases()];
}

function quantizeCases(): Case[] {
  const list: Case[] = [];
  for (const [rows, cols] of [
    [0, 16],
    [1, 1],
    [130, 261],
  ] as const)
    for (const block of blocks)
      for (const powerOfTwo of [false, true]) {
        const label = `${rows}×${cols} to E5M2 in ${block.join('×')}${powerOfTwo ? ', powers of two' : ''}`;
        list.push({
          kernel: 'quantize',
          label,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const out = scaledOut(arena, 'e5m2', [rows, cols], block);
            const sizes = { rows, cols, powerOfTwo };
            kernels.quantize(out, viewOf(troublesome(arena, rows, cols)), sizes);
            return results(out);
          },
        });
        if (powerOfTwo) continue;
        for (const [from, to] of [
          ['e4m3', 'e5m2'],
          ['e5m2', 'e4m3'],
          ['e5m2', 'e5m2'],
        ] as const)
          list.push({
            kernel: 'requantize',
            label: `${label}, ${from} to ${to}`,
            tolerance: 'bits',
            run: (kernels, arena) => {
              const out = scaledOut(arena, to, [rows, cols], block);
              const x = arena.scaled(rows, cols, [1, 128], undefined, from);
              kernels.requantize(out, x, { rows, cols });
              return results(out);
            },
          });
      }
  for (const powerOfTwo of [false, true])
    list.push({
      kernel: 'quantizeBoth',
      label: `130×261 to E5M2${powerOfTwo ? ', powers of two' : ''}`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const [rows, cols] = [130, 261];
        const rowwise = scaledOut(arena, 'e5m2', [rows, cols], [1, 128]);
        const columnwise = scaledOut(arena, 'e5m2', [rows, cols], [128, 1]);
        const x = viewOf(troublesome(arena, rows, cols));
        kernels.quantizeBoth(rowwise, columnwise, x, { rows, cols, powerOfTwo });
        return { ...results(rowwise, 'row '), ...results(columnwise, 'column ') };
      },
    });
  const groups = [0, 5, 130, 0, 165];
  const [rows, cols] = [300, 150];
  list.push(
    {
      kernel: 'quantizeBoth',
      label: 'to E5M2 in row groups',
      tolerance: 'bits',
      run: (kernels, arena) => {
        const rowwise = scaledOut(arena, 'e5m2', [rows, cols], [1, 128]);
        const columnwise = scaledOut(arena, 'e5m2', [rows, cols], [128, 1], 2 + groups.length);
        const offsets = viewOf(arena.offsets(groups));
        const x = viewOf(arena.floats(rows * cols));
        const sizes = { rows, cols, offsets, groups: groups.length };
        kernels.quantizeBoth(rowwise, columnwise, x, sizes);
        return { ...results(rowwise, 'row '), ...results(columnwise, 'column ', 5 * cols) };
      },
    },
    {
      kernel: 'quantize',
      label: '3 stacked 130×150 to E5M2',
      tolerance: 'bits',
      run: (kernels, arena) => {
        const out = scaledOut(arena, 'e5m2', [390, cols], [128, 128], 6);
        const x = viewOf(arena.floats(390 * cols));
        kernels.quantize(out, x, { rows: 130, cols, stack: 3 });
        return results(out);
      },
    },
  );
  const e5m2Tiles = (arena: Arena): ScaledView => {
    const out = tilesOut(arena, 67, 150);
    return { ...out, codes: { ...out.codes, dtype: 'e5m2' } };
  };
  const sizes = { rows: 67, cols };
  list.push(
    {
      kernel: 'rmsNormQuantize',
      label: '67×150 to E5M2',
      tolerance: 1e-3,
      run: (kernels, arena) => {
        const [out, rstd] = [e5m2Tiles(arena), viewOf(arena.out(67))];
        const [x, weight] = [viewOf(arena.floats(67 * cols)), viewOf(arena.floats(cols))];
        kernels.rmsNormQuantize(out, null, rstd, x, weight, { ...sizes, epsilon: 1e-6 });
        return results(out);
      },
    },
    {
      kernel: 'swigluQuantize',
      label: '67×150 to E5M2',
      tolerance: 1e-3,
      run: (kernels, arena) => {
        const out = e5m2Tiles(arena);
        const [gate, up] = [viewOf(arena.floats(67 * cols)), viewOf(arena.floats(67 * cols))];
        kernels.swigluQuantize(out, gate, up, sizes);
        return results(out);
      },
    },
  );
  return list;
}

function decodeCases(): Case[] {
  return blocks.map((block) => ({
    kernel: 'dequantize',
    label: `every kind of E5M2 code in ${block.join('×')}`,
    tolerance: 'bits',
    run: (kernels, arena) => {
      const [rows, cols] = [130, 261];
      const scales = arena.scaled(rows, cols, block).scales;
      const codes = { ...viewOf(arena.bytes(rows * cols)), dtype: 'e5m2' } as const;
      const x = { codes, scales, blockRows: block[0], blockCols: block[1] };
      const [f32, bf16] = [arena.out(rows * cols), arena.outHalves(rows * cols)];
      kernels.dequantize(viewOf(f32), x, { rows, cols });
      kernels.dequantize(viewOf(bf16), x, { rows, cols });
      return { f32, bf16 };
    },
  }));
}

/** Formats of a and b. */
const pairs = [
  ['e5m2', 'e4m3'],
  ['e4m3', 'e5m2'],
  ['e5m2', 'e5m2'],
] as const;

function productCases(): Case[] {
  const list: Case[] = [];
  for (const [left, right] of pairs) {
    for (const [m, n, k] of [
      [1, 5, 3],
      [2, 130, 257],
      [17, 33, 129],
      [33, 47, 300],
    ] as const)
      for (const [transA, transB] of [
        [false, false],
        [false, true],
        [true, false],
        [true, true],
      ])
        list.push({
          kernel: 'gemm',
          label: `${left} · ${right} ${m}×${n}×${k}${transA ? ' aᵀ' : ''}${transB ? ' bᵀ' : ''}`,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const a = transA
              ? arena.scaled(k, m, [128, 1], undefined, left)
              : arena.scaled(m, k, [1, 128], undefined, left);
            const b = transB
              ? arena.scaled(n, k, [128, 128], undefined, right)
              : arena.scaled(k, n, [128, 128], undefined, right);
            const c = arena.out(m * n);
            kernels.gemm(viewOf(c), a, b, { m, n, k, transA, transB, accumulate: true });
            return { c };
          },
        });
    const sizes = [33, 65, 0, 7, 160];
    const [groups, rows, n, k] = [sizes.length, 265, 33, 130];
    for (const transB of [false, true])
      list.push({
        kernel: 'groupedGemm',
        label: `${left} · ${right}${transB ? ' bᵀ' : ''}`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const a = arena.scaled(rows, k, [1, 128], undefined, left);
          const b = transB
            ? arena.scaled(groups * n, k, [128, 128], groups, right)
            : arena.scaled(groups * k, n, [128, 128], groups * 2, right);
          const [c, offsets] = [arena.out(rows * n), viewOf(arena.offsets(sizes))];
          kernels.groupedGemm(viewOf(c), a, b, offsets, { groups, rows, n, k, transB });
          return { c };
        },
      });
    list.push({
      kernel: 'groupedGemmWeight',
      label: `${left} · ${right}`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const a = arena.scaled(rows, k, [128, 1], 2 + groups, left);
        const b = arena.scaled(rows, n, [128, 1], 2 + groups, right);
        const [c, offsets] = [arena.out(groups * k * n), viewOf(arena.offsets(sizes))];
        const size = { groups, rows, m: k, n, accumulate: true };
        kernels.groupedGemmWeight(viewOf(c), a, b, offsets, size);
        return { c };
      },
    });
  }
  return list;
}

function moveCases(): Case[] {
  const size = 20_011;
  return [
    {
      kernel: 'copy',
      label: `${size} E5M2 codes`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const out = arena.outCodes(byteSize('e5m2', size));
        const x = { ...viewOf(arena.bytes(size)), dtype: 'e5m2' } as const;
        kernels.copy({ ...viewOf(out), dtype: 'e5m2' }, x);
        return { out };
      },
    },
    ...[3, 16, 200].map(
      (cols): Case => ({
        kernel: 'permute',
        label: `rows of ${cols} E5M2 codes`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [tokens, k] = [21, 2];
          const rows = tokens * k;
          const out = arena.outCodes(rows * cols);
          const x = { ...viewOf(arena.bytes(tokens * cols)), dtype: 'e5m2' } as const;
          const slots = viewOf(arena.integers(rows, (i) => (i * 11) % rows));
          kernels.permute({ ...viewOf(out), dtype: 'e5m2' }, x, slots, { rows, k, cols });
          return { out };
        },
      }),
    ),
  ];
}
