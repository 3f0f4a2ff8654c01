// Tokens to experts and back: rows sorted by expert for grouped products, and their weighted sum afterwards.
import { formatOf } from '@baleen/kernels';
import { add, matrixShape, type Tape, Tensor, type Value } from '@baleen/tensor';

import type { Routing } from './router';

/**
 * One row for each token and chosen expert, sorted by expert. FP8 tensors move as codes and scales.
 * @param tape - the tape
 * @param x - [T, cols], or FP8 in 1×128 tiles
 * @param routing - the routing
 * @returns [T·K, cols]
 */
export function permute<T extends Value>(
  tape: Tape,
  x: T,
  routing: Pick<Routing, 'slotOfRow' | 'rowOfSlot' | 'indices'>,
): T {
  const { kernels } = tape;
  const { slotOfRow, rowOfSlot, indices } = routing;
  const [tokens, cols] = matrixShape(x);
  const rows = slotOfRow.size;
  const k = rows / tokens;
  let out: Value;
  if ('codes' in x) {
    const scaled = tape.emptyScaled([rows, cols], x.blockRows, x.blockCols, {
      dtype: formatOf(x),
      scaleFormat: x.scaleFormat,
    });
    kernels.permute(scaled.codes, x.codes, slotOfRow, { rows, k, cols });
    kernels.permute(scaled.scales, x.scales, slotOfRow, { rows, k, cols: x.scales.size / tokens });
    out = scaled;
  } else {
    out = tape.empty([rows, cols], x.dtype);
    kernels.permute(out, x, slotOfRow, { rows, k, cols });
  }
  tape.record({
    name: 'permute',
    inputs: [x],
    outputs: [out],
    saved: [rowOfSlot, indices],
    backward: ([grad]) => {
      if (!grad) return [];
      const dx = tape.empty([tokens, cols]);
      kernels.unpermute(dx, grad, rowOfSlot, null, { tokens, k, cols });
      return [dx];
    },
  });
  return out as T;
}

/**
 * base + Σⱼ weights[t, j] · y[row of slot (t, j)]: the experts' results, weighted and added to the stream.
 * @param tape - the tape
 * @param base - [.., cols], T rows
 * @param y - [T·K, cols], sorted by expert
 * @param weights - [T, K]
 * @param rowOfSlot - [T·K] I32
 * @returns the sum, in base's shape
 */
export function unpermuteAdd(
  tape: Tape,
  base: Tensor,
  y: Tensor,
  weights: Tensor,
  rowOfSlot: Tensor,
): Tensor {
  const { kernels } = tape;
  const [tokens, cols] = matrixShape(base);
  const k = rowOfSlot.size / tokens;
  const sizes = { tokens, k, cols };
  const combined = tape.empty([tokens, cols]);
  kernels.unpermute(combined, y, rowOfSlot, weights, sizes);
  tape.record({
    name: 'unpermute',
    inputs: [y, weights],
    outputs: [combined],
    saved: [y, weights, rowOfSlot],
    backward: ([grad]) => {
      if (!grad) return [];
      const dy = tape.empty([tokens * k, cols]);
      const dweights = tape.empty([tokens, k]);
      kernels.unpermuteBackward(dy, dweights, grad, y, weights, rowOfSlot, sizes);
      return [dy, dweights];
    },
  });
  return add(tape, base, combined);
}
