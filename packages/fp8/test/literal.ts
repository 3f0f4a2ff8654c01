// What this package computes, a second time and as literally as it can be read: one number at a time, from the formats'
// definitions. Nothing here is shared with the sources.
import type { BlockShape, ElementFormat, MatrixSizes } from '../src/index';

/** Mantissa bits, exponent of the smallest normal value, and largest value of each format. */
const definitions: Record<ElementFormat, { mantissa: number; low: number; max: number }> = {
  e4m3: { mantissa: 3, low: -6, max: 448 },
  e5m2: { mantissa: 2, low: -14, max: 57344 },
  e5m6: { mantissa: 6, low: -14, max: 65024 },
  bf16: { mantissa: 7, low: -126, max: 255 * 2 ** 120 },
};

/** The nearest value of a format, ties to the even multiple of the step; saturated unless `strict`. */
export function rounded(format: ElementFormat, x: number, strict = false): number {
  if (Number.isNaN(x) || x === 0) return x;
  const { mantissa, low, max } = definitions[format];
  const magnitude = Math.min(Math.abs(x), 4 * max); // so that infinity has an exponent
  const step = 2 ** (Math.max(low, Math.floor(Math.log2(magnitude))) - mantissa);
  const [down, rest] = [Math.floor(magnitude / step), (magnitude / step) % 1];
  const up = rest > 0.5 || (rest === 0.5 && down % 2 === 1);
  const value = (up ? down + 1 : down) * step;
  if (value <= max) return Math.sign(x) * value;
  return strict ? Math.sign(x) * (format === 'e4m3' ? NaN : Infinity) : Math.sign(x) * max;
}

/** Block number of every value, blocks in order of their first value; groups and stacked matrices have their own. */
export function blockNumbers(
  sizes: MatrixSizes,
  block: BlockShape,
): { of: number[]; count: number } {
  const { rows, cols, stack = 1, offsets } = sizes;
  const borders = offsets ? [...offsets] : Array.from({ length: stack + 1 }, (_, i) => i * rows);
  const spans = {
    '1x128': [1, 128],
    '128x1': [128, 1],
    '128x128': [128, 128],
    row: [1, cols || 1],
    tensor: [rows || 1, cols || 1],
  } as const;
  const [height, width] = spans[block];
  const across = Math.ceil(cols / width);
  const of: number[] = [];
  let before = 0;
  for (let g = 0; g + 1 < borders.length; g += 1) {
    for (let r = 0; r < borders[g + 1] - borders[g]; r += 1)
      for (let c = 0; c < cols; c += 1)
        of.push(before + Math.floor(r / height) * across + Math.floor(c / width));
    before += Math.ceil((borders[g + 1] - borders[g]) / height) * across;
  }
  return { of, count: before };
}

/** Scales and decoded values of a quantised matrix. */
export function quantized(
  x: Float32Array,
  sizes: MatrixSizes,
  format: ElementFormat,
  block: BlockShape,
  options: { powerOfTwo?: boolean; amaxFloor?: number } = {},
): { scales: number[]; decoded: number[] } {
  const { of, count } = blockNumbers(sizes, block);
  const { max } = definitions[format];
  const amax = new Array<number>(count).fill(options.amaxFloor ?? Math.fround(1e-4));
  x.forEach((value, i) => {
    if (Math.abs(value) > amax[of[i]]) amax[of[i]] = Math.abs(value);
  });
  const scales = amax.map((largest) => {
    if (format === 'bf16') return 1;
    const scale = Math.fround(largest / max);
    return options.powerOfTwo ? 2 ** Math.ceil(Math.log2(scale)) : scale;
  });
  const decoded = Array.from(x, (value, i) =>
    Math.fround(rounded(format, Math.fround(value / scales[of[i]])) * scales[of[i]]),
  );
  return { scales, decoded };
}

/** DeepGEMM's measure of a product: 1 − 2 Σ xy / Σ (x² + y²). */
export function difference(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let [both, squares] = [0, 0];
  for (let i = 0; i < x.length; i += 1) {
    both += x[i] * y[i];
    squares += x[i] ** 2 + y[i] ** 2;
  }
  return 1 - (2 * both) / squares;
}
