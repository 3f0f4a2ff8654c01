// Tokens to experts and back on typed arrays: rows sorted by expert for grouped products, and their weighted sum
// afterwards, with gradients (§2.1.2, eq. 12: Σᵢ gᵢ · FFNᵢ(u)).
import { type Kernels, loadKernels, type ViewArray, viewOf } from '@baleen/kernels';

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
 * @returns [tokens · expertsPerToken, cols], of x's type
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
  const rows = tokens * expertsPerToken;
  checkLength('x', x, { tokens, cols });
  checkLength('slotOfRow', slotOfRow, { tokens, expertsPerToken });
  checkPlaces('slotOfRow', slotOfRow, rows);
  const out = options.out ?? (emptyLike(x, rows * cols) as T);
  checkLength('out', out, { tokens, expertsPerToken, cols });
  (options.kernels ?? loadKernels()).permute(viewOf(out), viewOf(x), viewOf(slotOfRow), {
    rows,
    k: expertsPerToken,
    cols,
  });
  return out;
}

/**
 * Σⱼ weights[t, j] · y[row of slot (t, j)]: the experts' results, weighted by the gate and summed a token, j ascending.
 * Without weights, plain sums.
 * @param y - [tokens · expertsPerToken, cols], sorted by expert
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
  const { tokens, expertsPerToken: k, cols } = checkRows(sizes);
  checkSorted(y, rowOfSlot, weights, sizes);
  const out = options.out ?? new Float32Array(tokens * cols);
  checkLength('out', out, { tokens, cols });
  (options.kernels ?? loadKernels()).unpermute(
    viewOf(out),
    viewOf(y),
    viewOf(rowOfSlot),
    weights ? viewOf(weights) : null,
    { tokens, k, cols, accumulate: options.accumulate ?? false },
  );
  return out;
}

/**
 * Gradients of {@link unpermuteTokens} with weights.
 * @param dout - gradient of the sums [tokens, cols]
 * @param y - [tokens · expertsPerToken, cols], sorted by expert
 * @param routing - from `routeTokens`
 * @param sizes - see {@link RowSizes}
 * @param options - kernels (default: `loadKernels()`), and where the gradients go
 * @returns gradients of rows and gate weights; `routeTokensBackward` takes the latter
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
  checkLength('out.dy', out.dy, { tokens, expertsPerToken, cols });
  checkLength('out.dweights', out.dweights, { tokens, expertsPerToken });
  (options.kernels ?? loadKernels()).unpermuteBackward(
    viewOf(out.dy),
    viewOf(out.dweights),
    viewOf(dout),
    viewOf(y),
    viewOf(weights),
    viewOf(rowOfSlot),
    { tokens, k: expertsPerToken, cols },
  );
  return out;
}

function checkRows(sizes: RowSizes): RowSizes {
  const { tokens, expertsPerToken, cols } = sizes;
  checkWhole({ tokens }, 0);
  checkWhole({ expertsPerToken, cols }, 1);
  return sizes;
}

/** Rows sorted by expert, and what leads from slots to them. */
function checkSorted(
  y: Float32Array,
  rowOfSlot: Int32Array,
  weights: Float32Array | undefined,
  { tokens, expertsPerToken, cols }: RowSizes,
): void {
  checkLength('y', y, { tokens, expertsPerToken, cols });
  checkLength('rowOfSlot', rowOfSlot, { tokens, expertsPerToken });
  checkPlaces('rowOfSlot', rowOfSlot, tokens * expertsPerToken);
  if (weights) checkLength('weights', weights, { tokens, expertsPerToken });
}

function emptyLike(x: ViewArray, length: number): ViewArray {
  if (x instanceof Float32Array) return new Float32Array(length);
  if (x instanceof Uint16Array) return new Uint16Array(length);
  return x instanceof Uint8Array ? new Uint8Array(length) : new Int32Array(length);
}
