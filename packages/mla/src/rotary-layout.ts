// Two layouts of a rotary part. DeepSeek turns neighbours, (x₀, x₁), (x₂, x₃), …; others turn what lies half the width
// apart, (x₀, x_{w/2}), (x₁, x_{w/2+1}), …. They are the same rotation of reordered values: weights that make a rotary part
// may be reordered once, instead of activations every time.
import { checkLength, checkPairs, checkWhole, refuse } from './checks';

/** `interleaved` as DeepSeek's weights have it, `halfSplit` as rotations by halves want it. */
export type RotaryLayout = 'interleaved' | 'halfSplit';

/** Where rotary parts lie: an array is [rows, heads, nope + rope, inner], the rotary part last in each head. */
export interface RotaryLayoutSizes {
  /** Width of a head's rotary part, even. */
  ropeDim: number;
  /** Values in front of it in each head (default 0), which stay where they are. */
  nopeDim?: number;
  /** Heads (default 1). */
  heads?: number;
  /** Rows (default 1): tokens of activations; a weight's outputs are its heads. */
  rows?: number;
  /** Values that lie together at every place (default 1): a weight's inputs; an activation is one. */
  inner?: number;
}

/**
 * Brings rotary parts from one layout to the other.
 *
 * - The query's up-projection (q_b) [heads · (nope + rope), rank]: `{ heads, nopeDim, ropeDim, inner: rank }`.
 * - The down-projection of keys and values (kv_a) [kvRank + rope, hidden]: `{ nopeDim: kvRank, ropeDim, inner: hidden }`.
 * - Queries [tokens, heads · (nope + rope)]: `{ rows: tokens, heads, nopeDim, ropeDim }`.
 * - The shared rotary key [tokens, rope]: `{ rows: tokens, ropeDim }`.
 * @param x - weights or activations, of any element type
 * @param to - the layout wanted; `x` has the other one
 * @param sizes - see {@link RotaryLayoutSizes}
 * @param options - where the result goes; not over `x`
 * @returns the same values in the other order
 * @throws ERR_BALEEN_MLA_SIZES for an odd width, lengths that do not agree, or a result over `x`
 *
 * @example
 * ```ts
 * import { convertRotary } from '@baleen/mla';
 * const key = Float32Array.of(0, 1, 2, 3, 4, 5);
 * const halves = convertRotary(key, 'halfSplit', { ropeDim: 6 });
 * console.log(halves.join(' ')); // => 0 2 4 1 3 5
 * console.log(convertRotary(halves, 'interleaved', { ropeDim: 6 }).join(' ')); // => 0 1 2 3 4 5
 * ```
 */
export function convertRotary<T extends Float32Array | Uint16Array | Uint8Array>(
  x: T,
  to: RotaryLayout,
  sizes: RotaryLayoutSizes,
  options: { out?: T } = {},
): T {
  const { ropeDim, nopeDim = 0, heads = 1, rows = 1, inner = 1 } = sizes;
  if (!['interleaved', 'halfSplit'].includes(to))
    refuse('to', `to (${to}) is no layout`, 'layouts are interleaved and halfSplit');
  checkWhole({ ropeDim, heads, rows, inner });
  checkWhole({ nopeDim }, 0);
  checkPairs('ropeDim', ropeDim);
  const shape = { rows, heads, 'nopeDim + ropeDim': nopeDim + ropeDim, inner };
  checkLength('x', x, shape);
  const out = options.out ?? (x.slice() as T);
  checkLength('out', out, shape);
  if (out.buffer === x.buffer && out.byteOffset < x.byteOffset + x.byteLength)
    if (x.byteOffset < out.byteOffset + out.byteLength)
      refuse('out', 'out lies over x', 'give other memory: values change places');
  const half = ropeDim / 2;
  const place = (from: number): number =>
    to === 'halfSplit'
      ? (from % 2) * half + Math.floor(from / 2)
      : 2 * (from % half) + Math.floor(from / half);
  for (let head = 0; head < rows * heads; head += 1) {
    const begin = head * (nopeDim + ropeDim) * inner;
    const rotary = begin + nopeDim * inner;
    out.set(x.subarray(begin, rotary), begin);
    for (let i = 0; i < ropeDim; i += 1) {
      const from = rotary + i * inner;
      const at = rotary + place(i) * inner;
      for (let j = 0; j < inner; j += 1) out[at + j] = x[from + j] ?? 0;
    }
  }
  return out;
}
