// Calls big enough that several threads share them, of kernels that other cases only call on small operands: elements
// beyond the grain of a thread, several pieces of every sum, ids that most rows share, lists too long for registers.
import { type Kernels, type View, type ViewArray, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import { fusedCases } from './cases-fused';
import { largeSummationCases } from './cases-summation';
import { type Arena, scaledArrays } from './compare';

const normal =
  (arena: Arena, factor: number): (() => number) =>
  () =>
    arena.random.normal() * factor;

/** Outputs named by their number. */
const numbered = (arrays: readonly ViewArray[]): Record<string, ViewArray> =>
  Object.fromEntries(arrays.map((array, i) => [String(i), array]));

function elementCases(): Case[] {
  const size = 70_003;
  const input = (arena: Arena): View => viewOf(arena.floats(size));
  const wide = (arena: Arena): View => viewOf(arena.floats(size, normal(arena, 10)));
  /** A kernel that fills FP32 outputs. */
  const fills = (
    kernel: Case['kernel'],
    outputs: number,
    call: (kernels: Kernels, out: View[], arena: Arena) => void,
    tolerance: Case['tolerance'] = 2e-6,
  ): Case => ({
    kernel,
    label: `${size}`,
    tolerance,
    run: (kernels, arena) => {
      const arrays = Array.from({ length: outputs }, () => arena.out(size));
      call(kernels, arrays.map(viewOf), arena);
      return numbered(arrays);
    },
  });
  return [
    fills(
      'fill',
      1,
      (k, [out]) => {
        k.fill(out, 0.1);
      },
      'bits',
    ),
    fills(
      'copy',
      1,
      (k, [out], arena) => {
        k.copy(out, input(arena));
      },
      'bits',
    ),
    fills(
      'cast',
      1,
      (k, [out], arena) => {
        k.cast(out, viewOf(arena.halves(size)));
      },
      'bits',
    ),
    fills(
      'add',
      1,
      (k, [out], arena) => {
        k.add(out, input(arena), out);
      },
      'bits',
    ),
    fills(
      'scale',
      1,
      (k, [out], arena) => {
        k.scale(out, input(arena), 0.3);
      },
      'bits',
    ),
    fills('swiglu', 1, (k, [out], arena) => {
      k.swiglu(out, wide(arena), input(arena));
    }),
    fills('swigluBackward', 2, (k, [dgate, dup], arena) => {
      k.swigluBackward(dgate, dup, input(arena), wide(arena), input(arena));
    }),
    fills('sigmoid', 1, (k, [out], arena) => {
      k.sigmoid(out, wide(arena));
    }),
    fills('sigmoidBackward', 1, (k, [dx], arena) => {
      k.sigmoidBackward(dx, input(arena), input(arena));
    }),
    {
      kernel: 'sumOfSquares',
      label: `${size}`,
      tolerance: 1e-5,
      run: (kernels, arena) => {
        const out = arena.out(1);
        kernels.sumOfSquares(viewOf(out), input(arena));
        return { out };
      },
    },
  ];
}

function rowCases(): Case[] {
  const [rows, cols] = [301, 520];
  return [
    {
      kernel: 'rmsNorm',
      label: `${rows}×${cols}`,
      tolerance: 1e-6,
      run: (kernels, arena) => {
        const [y, rstd] = [arena.out(rows * cols), arena.out(rows)];
        const [x, weight] = [viewOf(arena.floats(rows * cols)), viewOf(arena.floats(cols))];
        kernels.rmsNorm(viewOf(y), viewOf(rstd), x, weight, { rows, cols, epsilon: 1e-6 });
        return { y, rstd };
      },
    },
    {
      kernel: 'rmsNormBackward',
      label: `${rows}×${cols}`,
      tolerance: 2e-6,
      run: (kernels, arena) => {
        const [dx, dweight] = [arena.out(rows * cols), arena.out(cols)];
        const [dy, x] = [viewOf(arena.floats(rows * cols)), viewOf(arena.floats(rows * cols))];
        const [weight, rstd] = [viewOf(arena.floats(cols)), viewOf(arena.floats(rows))];
        const size = { rows, cols };
        kernels.rmsNormBackward(viewOf(dx), viewOf(dweight), dy, x, weight, rstd, size);
        return { dx, dweight };
      },
    },
    {
      kernel: 'copyStrided',
      label: '2000 rows of 48',
      tolerance: 'bits',
      run: (kernels, arena) => {
        const [out, x] = [arena.out(2000 * 60), viewOf(arena.floats(2000 * 50))];
        const at = { outStride: 60, outOffset: 7, xStride: 50, xOffset: 1 };
        kernels.copyStrided(viewOf(out), x, { rows: 2000, cols: 48, ...at });
        return { out };
      },
    },
    {
      kernel: 'rope',
      label: '300 rows of 8 heads',
      tolerance: 1e-6,
      run: (kernels, arena) => {
        const [out, x] = [arena.out(300 * 8 * 48), viewOf(arena.floats(300 * 8 * 48))];
        const [cos, sin] = [viewOf(arena.floats(150 * 16)), viewOf(arena.floats(150 * 16))];
        const places = { outStride: 384, outHeadStride: 48, outOffset: 16, xStride: 384 };
        const size = {
          rows: 300,
          heads: 8,
          width: 32,
          sequence: 150,
          xHeadStride: 48,
          xOffset: 16,
        };
        kernels.rope(viewOf(out), x, cos, sin, { ...places, ...size });
        return { out };
      },
    },
    {
      kernel: 'embedding',
      label: 'ids beside the table too',
      tolerance: 'bits',
      run: (kernels, arena) => {
        const [size, vocab] = [{ rows: 500, cols: 200 }, 60];
        const out = arena.out(size.rows * size.cols);
        const ids = arena.integers(size.rows, () => arena.random.integer(vocab + 2) - 1);
        kernels.embedding(viewOf(out), viewOf(arena.floats(vocab * size.cols)), viewOf(ids), size);
        return { out };
      },
    },
    {
      kernel: 'embeddingBackward',
      label: 'a third of all rows share an id, some lie beside the table',
      tolerance: 'bits',
      run: (kernels, arena) => {
        const size = { rows: 1500, cols: 200, vocab: 300 };
        const dweight = arena.out(size.vocab * size.cols);
        const dout = viewOf(arena.floats(size.rows * size.cols));
        const id = (i: number): number => (i % 3 ? arena.random.integer(302) - 1 : 32);
        const ids = viewOf(arena.integers(size.rows, id));
        kernels.embeddingBackward(viewOf(dweight), dout, ids, size);
        return { dweight };
      },
    },
  ];
}

function fp8Cases(): Case[] {
  const [rows, cols] = [300, 700];
  const list: Case[] = [];
  list.push({
    kernel: 'quantizeBoth',
    label: `${rows}×${cols} in groups`,
    tolerance: 'bits',
    run: (kernels, arena) => {
      const sizes = [100, 0, 170, 30];
      const scaled = (
        scaleRows: number,
        scaleCols: number,
        blockRows: number,
        blockCols: number,
      ) => ({
        codes: viewOf(arena.outCodes(rows * cols)),
        scales: viewOf(arena.out(scaleRows * scaleCols)),
        blockRows,
        blockCols,
      });
      const rowwise = scaled(rows, Math.ceil(cols / 128), 1, 128);
      const columnwise = scaled(Math.floor(rows / 128) + sizes.length, cols, 128, 1);
      const x = viewOf(arena.floats(rows * cols));
      const offsets = viewOf(arena.offsets(sizes));
      kernels.quantizeBoth(rowwise, columnwise, x, { rows, cols, offsets, groups: sizes.length });
      const [a, b] = [scaledArrays(rowwise), scaledArrays(columnwise)];
      return {
        rowCodes: a.codes,
        rowScales: a.scales,
        columnCodes: b.codes,
        columnScales: b.scales.subarray(0, 4 * cols),
      };
    },
  });
  for (const [blockRows, blockCols] of [
    [1, 128],
    [128, 1],
    [128, 128],
    [3, 50],
  ] as const) {
    const label = `${rows}×${cols} in ${blockRows}×${blockCols}`;
    list.push(
      {
        kernel: 'quantize',
        label,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const scales = arena.out(Math.ceil(rows / blockRows) * Math.ceil(cols / blockCols));
          const codes = viewOf(arena.outCodes(rows * cols));
          const out = { codes, scales: viewOf(scales), blockRows, blockCols };
          // Codes of every exponent.
          const value = (): number => arena.random.normal() * 10 ** (arena.random.integer(5) - 4);
          const x = viewOf(arena.floats(rows * cols, value));
          kernels.quantize(out, x, { rows, cols, powerOfTwo: blockRows === 3 });
          return scaledArrays(out);
        },
      },
      {
        kernel: 'requantize',
        label: `${label} to groups of 128×1`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const sizes = [100, 0, 170, 30];
          const scales = viewOf(arena.out((Math.floor(rows / 128) + sizes.length) * cols));
          const codes = viewOf(arena.outCodes(rows * cols));
          const out = { codes, scales, blockRows: 128, blockCols: 1 };
          const offsets = viewOf(arena.offsets(sizes));
          const x = arena.scaled(rows, cols, [blockRows, blockCols]);
          kernels.requantize(out, x, { rows, cols, offsets, groups: sizes.length });
          return { ...scaledArrays(out), scales: scaledArrays(out).scales.subarray(0, 4 * cols) };
        },
      },
      {
        kernel: 'dequantize',
        label,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const out = arena.outHalves(rows * cols);
          const x = arena.scaled(rows, cols, [blockRows, blockCols]);
          kernels.dequantize(viewOf(out), x, { rows, cols });
          return { out };
        },
      },
    );
  }
  return list;
}

function routingCases(): Case[] {
  const list: Case[] = [];
  // Lists of 5, 9 and 12 are kept in memory; 3 and 6 in registers, as 1, 2, 4 and 8 elsewhere.
  for (const k of [3, 5, 6, 9, 12])
    list.push({
      kernel: 'topK',
      label: `${k} of 64, 4 of 8 groups`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const indices = arena.outIntegers(601 * k);
        const scores = viewOf(arena.floats(601 * 64, () => arena.random.integer(20) / 8 - 1));
        const sizes = { tokens: 601, experts: 64, k, groups: 8, groupsKept: 4 };
        kernels.topK(viewOf(indices), scores, viewOf(arena.floats(64)), sizes);
        return { indices };
      },
    });
  const [tokens, k, cols] = [301, 4, 330];
  /** A permutation of slots: 11 divides nothing here. */
  const order = (arena: Arena): View =>
    viewOf(arena.integers(tokens * k, (i) => (i * 11) % (tokens * k)));
  list.push(
    {
      kernel: 'balanceLoss',
      label: '2 sequences in pieces',
      tolerance: 2e-6,
      run: (kernels, arena) => {
        const sizes = { sequences: 2, sequenceLength: 700, experts: 60, k: 6, factor: 0.3 };
        const [loss, dscores] = [arena.out(1), arena.out(1400 * 60)];
        const scores = viewOf(arena.floats(1400 * 60, () => arena.random.uniform(0.01, 1)));
        const indices = viewOf(arena.integers(1400 * 6, () => arena.random.integer(60)));
        kernels.balanceLoss(viewOf(loss), viewOf(dscores), scores, indices, null, sizes);
        return { loss, dscores };
      },
    },
    {
      kernel: 'route',
      label: '30000 slots',
      tolerance: 'bits',
      run: (kernels, arena) => {
        const outs = [60, 61, 30_000, 30_000].map((size) => arena.outIntegers(size));
        const [counts, offsets, slotOfRow, rowOfSlot] = outs.map(viewOf);
        const indices = viewOf(arena.integers(30_000, () => arena.random.integer(60)));
        const sizes = { tokens: 5000, k: 6, experts: 60 };
        kernels.route(counts, offsets, slotOfRow, rowOfSlot, indices, sizes);
        return numbered(outs);
      },
    },
    {
      kernel: 'permute',
      label: `rows of ${cols} and of 4`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const [wide, narrow] = [arena.out(tokens * k * cols), arena.out(tokens * k * 4)];
        const slots = order(arena);
        const x = viewOf(arena.floats(tokens * cols));
        kernels.permute(viewOf(wide), x, slots, { rows: tokens * k, k, cols });
        const scales = viewOf(arena.floats(tokens * 4));
        kernels.permute(viewOf(narrow), scales, slots, { rows: tokens * k, k, cols: 4 });
        return { wide, narrow };
      },
    },
    {
      kernel: 'unpermute',
      label: `rows of ${cols}`,
      tolerance: 'bits',
      run: (kernels, arena) => {
        const [out, y] = [arena.out(tokens * cols), viewOf(arena.floats(tokens * k * cols))];
        const weights = viewOf(arena.floats(tokens * k));
        const sizes = { tokens, k, cols, accumulate: true };
        kernels.unpermute(viewOf(out), y, order(arena), weights, sizes);
        return { out };
      },
    },
    {
      kernel: 'unpermuteBackward',
      label: `rows of ${cols}`,
      tolerance: 2e-6,
      run: (kernels, arena) => {
        const [dy, dweights] = [arena.out(tokens * k * cols), arena.out(tokens * k)];
        const [dout, y] = [arena.floats(tokens * cols), arena.floats(tokens * k * cols)];
        const weights = viewOf(arena.floats(tokens * k));
        const [dyView, dwView] = [viewOf(dy), viewOf(dweights)];
        const sizes = { tokens, k, cols };
        const rows = order(arena);
        kernels.unpermuteBackward(dyView, dwView, viewOf(dout), viewOf(y), weights, rows, sizes);
        return { dy, dweights };
      },
    },
  );
  return list;
}

/** All of them. */
export const largeCases: readonly Case[] = [
  ...elementCases(),
  ...rowCases(),
  ...fp8Cases(),
  ...fusedCases([[301, 520]]),
  ...routingCases(),
  ...largeSummationCases,
];
