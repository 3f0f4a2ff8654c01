// Blocks with online scales (§3.3.2), in any format: how a matrix divides into blocks, what scale a block gets, and what
// codes its values get under a scale.
import { encoder, formatTable } from './codec';
import { type CodesOf, type FormatName, formats } from './formats';

/** How a matrix, or a stack of them, divides into blocks. */
export interface BlockSizes {
  /** Rows of the matrix. */
  rows: number;
  /** Columns of the matrix. */
  cols: number;
  /** Rows a block spans. */
  blockRows: number;
  /** Columns a block spans. */
  blockCols: number;
  /** First rows of row groups, and the end of the last: blocks start anew at each. */
  borders?: Int32Array;
  /** Matrices of `rows` rows on top of each other (default 1): blocks start anew at each. Not with `borders`. */
  stack?: number;
}

/** Codes of a matrix, row-major, and the scales of its blocks, row of blocks by row of blocks. */
export interface Blocks<F extends FormatName = FormatName> {
  /** The codes' format. */
  format: F;
  /** One code a value. */
  codes: CodesOf<F>;
  /** One FP32 multiplier a block. */
  scales: Float32Array;
}

/** How scales are made. */
export interface ScaleOptions {
  /** Round scales up to powers of two. */
  powerOfTwo?: boolean;
  /** Smallest amax a scale is made from (default 1e-4); with 0, a block of zeros has a scale of 1. */
  amaxFloor?: number;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/**
 * Calls `visit` with the borders of every block and the number of its scale.
 * @param sizes - the matrix and its blocks
 * @param visit - takes rows r0 … r1 − 1 and columns c0 … c1 − 1
 */
export function forBlocks(
  { rows, cols, blockRows, blockCols, borders, stack = 1 }: BlockSizes,
  visit: (r0: number, r1: number, c0: number, c1: number, scaleAt: number) => void,
): void {
  const groups = borders ? borders.length - 1 : stack;
  let scaleAt = 0;
  for (let g = 0; g < groups; g += 1) {
    const first = borders ? borders[g] : g * rows;
    const last = borders ? borders[g + 1] : first + rows;
    for (let r0 = first; r0 < last; r0 += blockRows)
      for (let c0 = 0; c0 < cols; c0 += blockCols) {
        visit(r0, Math.min(last, r0 + blockRows), c0, Math.min(cols, c0 + blockCols), scaleAt);
        scaleAt += 1;
      }
  }
}

/**
 * The scale of a block: fl(max(amax, floor) / the format's largest value), or the power of two at or above that. The
 * floor is that of V3's published inference code. A format with FP32's exponents needs no scale: 1.
 * @param amax - the block's largest magnitude
 * @param format - name of the codes' format
 * @param options - powers of two, and the floor
 * @returns an FP32 number
 */
export function blockScale(amax: number, format: FormatName, options: ScaleOptions): number {
  const { exponentBits, max } = formats[format];
  if (exponentBits === 8) return 1;
  float[0] = Math.max(amax, Math.fround(options.amaxFloor ?? 1e-4)) / max;
  if (float[0] === 0) return 1;
  // Any mantissa bit carries into the exponent, and then none is left.
  if (options.powerOfTwo) bits[0] = (bits[0] + 0x7fffff) & 0x7f800000;
  return float[0];
}

/**
 * Gives every block its scale.
 * @param out - where the scales go
 * @param x - values
 * @param sizes - the matrix and its blocks
 * @param options - how scales are made
 */
export function scaleBlocks(
  out: Blocks,
  x: Float32Array,
  sizes: BlockSizes,
  options: ScaleOptions,
): void {
  const { cols } = sizes;
  forBlocks(sizes, (r0, r1, c0, c1, scaleAt) => {
    let amax = 0;
    for (let r = r0; r < r1; r += 1)
      for (let c = c0; c < c1; c += 1) {
        const magnitude = Math.abs(x[r * cols + c]);
        if (magnitude > amax) amax = magnitude; // never a NaN
      }
    out.scales[scaleAt] = blockScale(amax, out.format, options);
  });
}

/**
 * Encodes every value under its block's scale: the nearest code to fl(x / scale), ties to even.
 * @param out - has the scales; the codes go there
 * @param x - values
 * @param sizes - the matrix and its blocks
 * @param saturate - values beyond the format's largest become the largest (default); see `EncodeOptions`
 */
export function encodeBlocks(
  out: Blocks,
  x: Float32Array,
  sizes: BlockSizes,
  saturate = true,
): void {
  const { cols } = sizes;
  const { codes, scales } = out;
  const encode = encoder(out.format, { saturate });
  forBlocks(sizes, (r0, r1, c0, c1, scaleAt) => {
    const scale = scales[scaleAt];
    for (let r = r0; r < r1; r += 1)
      for (let c = c0; c < c1; c += 1) codes[r * cols + c] = encode(x[r * cols + c] / scale);
  });
}

/**
 * Decodes: fl(value · scale).
 * @param out - values
 * @param x - codes and scales
 * @param sizes - the matrix and its blocks
 */
export function decodeBlocks(out: Float32Array, x: Blocks, sizes: BlockSizes): void {
  const { cols } = sizes;
  const { codes, scales } = x;
  const table = formatTable(x.format);
  forBlocks(sizes, (r0, r1, c0, c1, scaleAt) => {
    const scale = scales[scaleAt];
    for (let r = r0; r < r1; r += 1)
      for (let c = c0; c < c1; c += 1) out[r * cols + c] = table[codes[r * cols + c]] * scale;
  });
}
