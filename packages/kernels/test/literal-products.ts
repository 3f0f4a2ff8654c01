// The literal contract of matrix products and FP8, behind the interface of kernels.
import {
  type DType,
  e4m3,
  f32,
  isScaled,
  type MatrixKernels,
  type Operand,
  type QuantizeKernels,
  type QuantizeSizes,
  type ScaledView,
  type SummationSizes,
} from '@baleen/kernels';

import * as literal from './literal';
import { summedElement } from './literal-summation';
import { grid, read, toE4m3, toE5m2, toE5m6, write, writePacked } from './literal-views';

/** Scale of element (r, c) of a matrix with `cols` columns. */
function scaleAt(
  x: ScaledView,
  scales: readonly number[],
  cols: number,
  r: number,
  c: number,
): number {
  const perRow = Math.ceil(cols / x.blockCols);
  return scales[Math.floor(r / x.blockRows) * perRow + Math.floor(c / x.blockCols)];
}

/** An operand as element and scale of (row, col), from row `first` of the codes and `scaleRow` of the scales on. */
function reader(x: Operand, cols: number, first = 0, scaleRow = 0) {
  const values = read(isScaled(x) ? x.codes : x);
  const scales = isScaled(x) ? read(x.scales) : [];
  return {
    at: (r: number, c: number): number => values[(first + r) * cols + c],
    scale: (r: number, c: number): number =>
      isScaled(x) ? scaleAt(x, scales, cols, scaleRow * x.blockRows + r, c) : 1,
    /** Exponent of the smallest normal value. */
    low: isScaled(x) && x.codes.dtype === 'e5m2' ? -14 : -6,
  };
}

/** op(a) · op(b), added to c where asked. */
function product(
  old: readonly number[],
  kind: 'plain' | 'bf16' | 'scaled',
  [m, n, k]: readonly [number, number, number],
  a: ReturnType<typeof reader>,
  b: ReturnType<typeof reader>,
  transA: boolean,
  transB: boolean,
  accumulate: boolean,
  summation: SummationSizes,
): number[] {
  return grid(m, n, (i, j) => {
    const left = (kk: number): number => (transA ? a.at(kk, i) : a.at(i, kk));
    const right = (kk: number): number => (transB ? b.at(j, kk) : b.at(kk, j));
    const scale = (kk: number): number =>
      Math.fround(
        (transA ? a.scale(kk, i) : a.scale(i, kk)) * (transB ? b.scale(j, kk) : b.scale(kk, j)),
      );
    const sum =
      kind === 'plain'
        ? literal.element(k, left, right)
        : kind === 'bf16'
          ? literal.exactElement(k, left, right)
          : summedElement(
              k,
              (kk) => ({ value: left(kk), low: a.low }),
              (kk) => ({ value: right(kk), low: b.low }),
              scale,
              summation,
            );
    return accumulate ? old[i * n + j] + sum : sum;
  });
}

function kindOf(x: Operand): 'plain' | 'bf16' | 'scaled' {
  return isScaled(x) ? 'scaled' : x.dtype === 'bf16' ? 'bf16' : 'plain';
}

/** Blocks of a matrix as lists of [row, col], in the order of their scales. */
function blocks(
  rows: number,
  cols: number,
  blockRows: number,
  blockCols: number,
  borders: number[],
) {
  const list: [number, number][][] = [];
  for (let g = 0; g + 1 < borders.length; g += 1)
    for (let r0 = borders[g]; r0 < borders[g + 1]; r0 += blockRows)
      for (let c0 = 0; c0 < cols; c0 += blockCols)
        list.push(
          grid(blockRows, blockCols, (r, c): [number, number] => [r0 + r, c0 + c]).filter(
            ([r, c]) => r < Math.min(rows, borders[g + 1]) && c < cols,
          ),
        );
  return list;
}

/** Largest values and roundings. */
const targets: Partial<Record<DType, readonly [number, (x: number) => number]>> = {
  e4m3: [448, toE4m3],
  e5m2: [57344, toE5m2],
  e5m6: [65024, toE5m6],
};

function quantizeTo(out: ScaledView, x: readonly number[], sizes: QuantizeSizes): void {
  const { cols, powerOfTwo = false, offsets, stack = 1 } = sizes;
  const rows = sizes.rows * stack;
  const borders = offsets
    ? read(offsets)
    : Array.from({ length: stack + 1 }, (_, i) => i * sizes.rows);
  const { dtype } = out.codes;
  const [largest, encode] = targets[dtype] ?? [NaN, () => NaN];
  const codes: number[] = [];
  const scales = f32(out.scales);
  blocks(rows, cols, out.blockRows, out.blockCols, borders).forEach((block, index) => {
    const magnitudes = block.map(([r, c]) => Math.abs(x[r * cols + c]));
    const amax = Math.max(Math.fround(1e-4), ...magnitudes.filter((v) => !Number.isNaN(v)));
    let scale = Math.fround(amax / largest);
    if (powerOfTwo && Number.isFinite(scale)) {
      let power = 1;
      while (power < scale) power *= 2;
      while (power / 2 >= scale) power /= 2;
      scale = power;
    }
    scales[index] = scale;
    for (const [r, c] of block) codes[r * cols + c] = encode(Math.fround(x[r * cols + c] / scale));
  });
  if (dtype === 'e5m6') writePacked(out.codes, codes);
  else e4m3(out.codes).set(codes);
}

function decoded(x: ScaledView, rows: number, cols: number): number[] {
  const { at, scale } = reader(x, cols);
  return grid(rows, cols, (r, c) => Math.fround(at(r, c) * scale(r, c)));
}

/** Products and quantisation. */
export const literalProducts: MatrixKernels &
  Omit<QuantizeKernels, 'rmsNormQuantize' | 'swigluQuantize'> = {
  gemm: (c, a, b, { m, n, k, transA = false, transB = false, accumulate = false, ...rest }) => {
    const [left, right] = [reader(a, transA ? m : k), reader(b, transB ? k : n)];
    write(c, product(read(c), kindOf(a), [m, n, k], left, right, transA, transB, accumulate, rest));
  },
  groupedGemm: (
    c,
    a,
    b,
    offsets,
    { groups, n, k, transB = false, accumulate = false, ...rest },
  ) => {
    const [starts, out] = [read(offsets), read(c)];
    const bRows = transB ? n : k;
    let aScaleRow = 0;
    for (let g = 0; g < groups; g += 1) {
      const rows = starts[g + 1] - starts[g];
      const left = reader(a, k, starts[g], aScaleRow);
      aScaleRow += isScaled(a) ? Math.ceil(rows / a.blockRows) : rows;
      const scaleRow = isScaled(b) ? g * Math.ceil(bRows / b.blockRows) : 0;
      const right = reader(b, transB ? k : n, g * bRows, scaleRow);
      const old = out.slice(starts[g] * n);
      const shape = [rows, n, k] as const;
      const own = product(old, kindOf(a), shape, left, right, false, transB, accumulate, rest);
      out.splice(starts[g] * n, own.length, ...own);
    }
    write(c, out);
  },
  groupedGemmWeight: (c, a, b, offsets, { groups, m, n, accumulate = false, ...rest }) => {
    const [starts, old] = [read(offsets), read(c)];
    let scaleRow = 0;
    const out: number[] = [];
    for (let g = 0; g < groups; g += 1) {
      const rows = starts[g + 1] - starts[g];
      const [left, right] = [reader(a, m, starts[g], scaleRow), reader(b, n, starts[g], scaleRow)];
      const own = old.slice(g * m * n);
      out.push(
        ...product(own, kindOf(a), [m, n, rows], left, right, true, false, accumulate, rest),
      );
      scaleRow += Math.ceil(rows / 128);
    }
    write(c, out);
  },
  quantize: (out, x, sizes) => {
    quantizeTo(out, read(x), sizes);
  },
  quantizeBoth: (rowwise, columnwise, x, sizes) => {
    const { rows, cols, powerOfTwo = false } = sizes;
    quantizeTo(rowwise, read(x), { rows, cols, powerOfTwo });
    quantizeTo(columnwise, read(x), sizes);
  },
  requantize: (out, x, sizes) => {
    quantizeTo(out, decoded(x, sizes.rows, sizes.cols), sizes);
  },
  dequantize: (out, x, { rows, cols }) => {
    write(out, decoded(x, rows, cols));
  },
};
