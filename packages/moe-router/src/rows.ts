// Tokens to experts and back on typed arrays: rows sorted by expert for grouped products, and their weighted sum
// afterwards, with gradients (§2.1.2, eq. 12: Σᵢ gᵢ · FFNᵢ(u)).
//
// Rows stand one behind the other, or every expert's begin at a multiple of an alignment, as many grouped products want them:
// `alignRows` makes such an order, and with its `rows` the functions here move tokens into it and out of it.
import {
  alignedRows,
  type Kernels,
  loadKernels,
  type UnpermuteSizes,
  type ViewArray,
  viewOf,
} from '@baleen/kernels';

import { checkLength, checkPlaces, checkWhole } from './checks';
import type { TokenRouting } from './functions';

/** Sizes of rows that go to experts. */
export interface RowSizes {
  /** Tokens. */
  tokens: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
  /** Width of a row. */
  cols: number;
  /** Rows with their padding (default tokens · expertsPerToken, none): the length of `slotOfRow`. */
  rows?: number;
}

/** An order of rows in which every expert's begin at a multiple of the alignment. */
export interface AlignedRows {
  /** Tokens each expert got [experts]. */
  counts: Int32Array;
  /** First row of each expert, padding included, and their number [experts + 1]: multiples of the alignment. */
  offsets: Int32Array;
  /** Slot of each row, −1 in padding [`alignedRows`(slots, experts, alignment)]. */
  slotOfRow: Int32Array;
  /** Row of each slot [tokens, expertsPerToken]. */
  rowOfSlot: Int32Array;
}

/**
 * Sorts slots by expert into aligned rows. The number of rows holds for any routing of these sizes: what is left behind the
 * last expert is padding too.
 * @param indices - chosen experts, from `routeTokens` [tokens, expertsPerToken]
 * @param sizes - tokens, experts, experts a token, and the alignment, such as 16 or 128
 * @param options - kernels (default: `loadKernels()`), and where the result goes
 * @returns the order; an empty expert has no rows
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes, lengths and indices do not agree
 *
 * @example
 * ```ts
 * import { alignRows, permuteTokens } from '@baleen/moe-router';
 * const sizes = { tokens: 2, experts: 2, expertsPerToken: 1, cols: 1 };
 * const order = alignRows(Int32Array.of(1, 1), { ...sizes, alignment: 4 });
 * console.log([...order.offsets].join(' '), '|', [...order.slotOfRow].join(' ')); // => 0 0 4 | 0 1 -1 -1 -1 -1 -1 -1
 * const rows = permuteTokens(Float32Array.of(5, 6), order, { ...sizes, rows: 8 });
 * console.log([...rows].join(' ')); // => 5 6 0 0 0 0 0 0
 * ```
 */
export function alignRows(
  indices: Int32Array,
  sizes: { tokens: number; experts: number; expertsPerToken: number; alignment: number },
  options: { kernels?: Kernels; out?: AlignedRows } = {},
): AlignedRows {
  const { tokens, experts, expertsPerToken, alignment } = sizes;
  checkWhole({ tokens }, 0);
  checkWhole({ experts, expertsPerToken, alignment }, 1);
  checkLength('indices', indices, { tokens, expertsPerToken });
  checkPlaces('indices', indices, experts);
  const slots = tokens * expertsPerToken;
  const rows = alignedRows(slots, experts, alignment);
  const out = options.out ?? {
    counts: new Int32Array(experts),
    offsets: new Int32Array(experts + 1),
    slotOfRow: new Int32Array(rows),
    rowOfSlot: new Int32Array(slots),
  };
  checkLength('out.counts', out.counts, { experts });
  checkLength('out.offsets', out.offsets, { 'experts + 1': experts + 1 });
  checkLength('out.slotOfRow', out.slotOfRow, { rows });
  checkLength('out.rowOfSlot', out.rowOfSlot, { tokens, expertsPerToken });
  (options.kernels ?? loadKernels()).route(
    viewOf(out.counts),
    viewOf(out.offsets),
    viewOf(out.slotOfRow),
    viewOf(out.rowOfSlot),
    viewOf(indices),
    { tokens, k: expertsPerToken, experts, alignment },
  );
  return out;
}

/** Gradients of {@link unpermuteTokens}. */
export interface UnpermuteGradients {
  /** Of the experts' rows [tokens · expertsPerToken, cols], sorted by expert. */
  dy: Float32Array;
  /** Of the gate weights [tokens, expertsPerToken]. */
  dweights: Float32Array;
}

/**
 * One row for each token and chosen expert, sorted by expert: the rows of expert e are offsets[e] … offsets[e + 1] of the
 * routing. Rows move bit for bit, so FP8 tokens move as codes (`Uint8Array`) and, in a second call whose `cols` is
 * ⌈cols / 128⌉, scales. The gradient is {@link unpermuteTokens} without weights.
 * @param x - [tokens, cols]: FP32, BF16, FP8 or integers
 * @param routing - from `routeTokens`
 * @param sizes - see {@link RowSizes}
 * @param options - kernels (default: `loadKernels()`), and where the rows go
 * @returns [rows, cols], of x's type, zeros in padding
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes, lengths and slots do not agree
 *
 * @example
 * ```ts
 * import { permuteTokens, routeTokens } from '@baleen/moe-router';
 * const sizes = { tokens: 2, experts: 2, expertsPerToken: 1 };
 * const routing = routeTokens(new Float32Array([0, 1, 1, 0]), sizes);
 * const rows = permuteTokens(new Float32Array([5, 6, 7, 8]), routing, { ...sizes, cols: 2 });
 * console.log([...rows].join(' ')); // => 7 8 5 6
 * ```
 */
export function permuteTokens<T extends ViewArray>(
  x: T,
  routing: Pick<TokenRouting, 'slotOfRow'>,
  sizes: RowSizes,
  options: { kernels?: Kernels; out?: T } = {},
): T {
  const { slotOfRow } = routing;
  const { tokens, expertsPerToken, cols } = checkRows(sizes);
  const rows = sizes.rows ?? tokens * expertsPerToken;
  checkLength('x', x, { tokens, cols });
  checkLength('slotOfRow', slotOfRow, shapeOf(sizes));
  checkPlaces('slotOfRow', slotOfRow, tokens * expertsPerToken, sizes.rows === undefined ? 0 : -1);
  const out = options.out ?? (emptyLike(x, rows * cols) as T);
  checkLength('out', out, { ...shapeOf(sizes), cols });
  (options.kernels ?? loadKernels()).permute(viewOf(out), viewOf(x), viewOf(slotOfRow), {
    rows,
    k: expertsPerToken,
    cols,
    tokens,
  });
  return out;
}

/**
 * Σⱼ weights[t, j] · y[row of slot (t, j)]: the experts' results, weighted by the gate and summed a token, j ascending.
 * Without weights, plain sums.
 * @param y - [rows, cols], sorted by expert; padding is not read
 * @param routing - from `routeTokens`, or `rowOfSlot` alone for plain sums
 * @param sizes - see {@link RowSizes}
 * @param options - kernels (default: `loadKernels()`), where the sums go, and whether they are added to what is there
 * @returns [tokens, cols]
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes, lengths and rows do not agree
 */
export function unpermuteTokens(
  y: Float32Array,
  routing: Pick<TokenRouting, 'rowOfSlot'> & Partial<Pick<TokenRouting, 'weights'>>,
  sizes: RowSizes,
  options: { kernels?: Kernels; out?: Float32Array; accumulate?: boolean } = {},
): Float32Array {
  const { rowOfSlot, weights } = routing;
  const { tokens, cols } = checkRows(sizes);
  checkSorted(y, rowOfSlot, weights, sizes);
  const out = options.out ?? new Float32Array(tokens * cols);
  checkLength('out', out, { tokens, cols });
  (options.kernels ?? loadKernels()).unpermute(
    viewOf(out),
    viewOf(y),
    viewOf(rowOfSlot),
    weights ? viewOf(weights) : null,
    { ...kernelSizes(sizes), accumulate: options.accumulate ?? false },
  );
  return out;
}

/**
 * Gradients of {@link unpermuteTokens} with weights.
 * @param dout - gradient of the sums [tokens, cols]
 * @param y - [rows, cols], sorted by expert
 * @param routing - from `routeTokens`
 * @param sizes - see {@link RowSizes}
 * @param options - kernels (default: `loadKernels()`), and where the gradients go
 * @returns gradients of rows, 0 in padding, and of gate weights; `routeTokensBackward` takes the latter
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes, lengths and rows do not agree
 */
export function unpermuteTokensBackward(
  dout: Float32Array,
  y: Float32Array,
  routing: Pick<TokenRouting, 'rowOfSlot' | 'weights'>,
  sizes: RowSizes,
  options: { kernels?: Kernels; out?: UnpermuteGradients } = {},
): UnpermuteGradients {
  const { rowOfSlot, weights } = routing;
  const { tokens, expertsPerToken, cols } = checkRows(sizes);
  checkSorted(y, rowOfSlot, weights, sizes);
  checkLength('dout', dout, { tokens, cols });
  const out = options.out ?? {
    dy: new Float32Array(y.length),
    dweights: new Float32Array(weights.length),
  };
  checkLength('out.dy', out.dy, { ...shapeOf(sizes), cols });
  checkLength('out.dweights', out.dweights, { tokens, expertsPerToken });
  (options.kernels ?? loadKernels()).unpermuteBackward(
    viewOf(out.dy),
    viewOf(out.dweights),
    viewOf(dout),
    viewOf(y),
    viewOf(weights),
    viewOf(rowOfSlot),
    kernelSizes(sizes),
  );
  return out;
}

function checkRows(sizes: RowSizes): RowSizes {
  const { tokens, expertsPerToken, cols } = sizes;
  checkWhole({ tokens }, 0);
  checkWhole({ expertsPerToken, cols }, 1);
  if (sizes.rows !== undefined) checkWhole({ rows: sizes.rows }, 0);
  return sizes;
}

/** What the number of rows is made of. */
function shapeOf({ tokens, expertsPerToken, rows }: RowSizes): Record<string, number> {
  return rows === undefined ? { tokens, expertsPerToken } : { rows };
}

function kernelSizes({ tokens, expertsPerToken: k, cols, rows }: RowSizes): UnpermuteSizes {
  return { tokens, k, cols, rows: rows ?? tokens * k };
}

/** Rows sorted by expert, and what leads from slots to them. */
function checkSorted(
  y: Float32Array,
  rowOfSlot: Int32Array,
  weights: Float32Array | undefined,
  sizes: RowSizes,
): void {
  const { tokens, expertsPerToken, cols, rows } = sizes;
  checkLength('y', y, { ...shapeOf(sizes), cols });
  checkLength('rowOfSlot', rowOfSlot, { tokens, expertsPerToken });
  checkPlaces('rowOfSlot', rowOfSlot, rows ?? tokens * expertsPerToken);
  if (weights) checkLength('weights', weights, { tokens, expertsPerToken });
}

function emptyLike(x: ViewArray, length: number): ViewArray {
  if (x instanceof Float32Array) return new Float32Array(length);
  if (x instanceof Uint16Array) return new Uint16Array(length);
  return x instanceof Uint8Array ? new Uint8Array(length) : new Int32Array(length);
}
