// Expert routing of the reference: gate, node-limited top-k, balance loss, permutation (§2.1.2).
import type {
  BalanceLossSizes,
  BiasUpdateSizes,
  GateSizes,
  PermuteSizes,
  RouteSizes,
  TopKSizes,
  UnpermuteSizes,
} from '../kernels';
import { bytesPerElement, f32, i32, type View } from '../storage';
import { bytesOf } from './memory';

/** See `Kernels.sigmoid`. */
export function sigmoid(out: View, x: View): void {
  const [y, input] = [f32(out), f32(x)];
  for (let i = 0; i < y.length; i += 1) y[i] = 1 / (1 + Math.exp(-input[i]));
}

/** See `Kernels.sigmoidBackward`. */
export function sigmoidBackward(dx: View, dy: View, y: View): void {
  const [out, grad, value] = [f32(dx), f32(dy), f32(y)];
  for (let i = 0; i < out.length; i += 1) out[i] = grad[i] * value[i] * (1 - value[i]);
}

/** See `Kernels.softmax`. */
export function softmax(out: View, x: View, { rows, cols }: { rows: number; cols: number }): void {
  const [y, input] = [f32(out), f32(x)];
  const powers = new Float64Array(cols);
  for (let r = 0; r < rows; r += 1) {
    let top = -Infinity;
    for (let c = 0; c < cols; c += 1) top = Math.max(top, input[r * cols + c]);
    let sum = 0;
    for (let c = 0; c < cols; c += 1) {
      powers[c] = Math.exp(input[r * cols + c] - top);
      sum += powers[c];
    }
    for (let c = 0; c < cols; c += 1) y[r * cols + c] = powers[c] / sum;
  }
}

/** See `Kernels.softmaxBackward`. */
export function softmaxBackward(
  dx: View,
  dy: View,
  y: View,
  { rows, cols }: { rows: number; cols: number },
): void {
  const [out, grad, value] = [f32(dx), f32(dy), f32(y)];
  for (let at = 0; at < rows * cols; at += cols) {
    let mixed = 0;
    for (let c = 0; c < cols; c += 1) mixed += grad[at + c] * value[at + c];
    for (let c = 0; c < cols; c += 1) out[at + c] = value[at + c] * (grad[at + c] - mixed);
  }
}

/** See `Kernels.topK`. A NaN counts as −∞; ties go to the lower index. */
export function topK(indices: View, scores: View, bias: View | null, sizes: TopKSizes): void {
  const { tokens, experts, k, groups, groupsKept, groupBest = 2 } = sizes;
  const [chosen, values] = [i32(indices), f32(scores)];
  const shifts = bias ? f32(bias) : new Float32Array(experts);
  const size = experts / groups;
  const biased = new Float32Array(experts);
  const groupScore = new Float32Array(groups);
  for (let t = 0; t < tokens; t += 1) {
    for (let e = 0; e < experts; e += 1) {
      const value = Math.fround(values[t * experts + e] + shifts[e]);
      biased[e] = Number.isNaN(value) ? -Infinity : value;
    }
    if (groupsKept < groups) {
      for (let g = 0; g < groups; g += 1) {
        const own = biased.slice(g * size, (g + 1) * size).sort();
        groupScore[g] = own[size - 1];
        for (let j = 2; j <= Math.min(groupBest, size); j += 1)
          groupScore[g] = groupScore[g] + own[size - j];
      }
      const kept = largest(groupScore, groupsKept);
      for (let g = 0; g < groups; g += 1)
        if (!kept.includes(g)) biased.fill(NaN, g * size, (g + 1) * size);
    }
    chosen.set(largest(biased, k), t * k);
  }
}

/** Positions of the `count` largest values, descending, ties to the lower position; NaN comes after −∞. */
function largest(values: Float32Array, count: number): number[] {
  const picked: number[] = [];
  const passes = (a: number, b: number): boolean => a > b || (Number.isNaN(b) && !Number.isNaN(a));
  for (let i = 0; i < count; i += 1) {
    let best = -1;
    for (let j = 0; j < values.length; j += 1)
      if (!picked.includes(j) && (best < 0 || passes(values[j], values[best]))) best = j;
    picked.push(best);
  }
  return picked;
}

/** Keeps the sum of the chosen scores from being zero, as the published code does. */
const tiny = 1e-20;

/** See `Kernels.gateWeights`. */
export function gateWeights(weights: View, scores: View, indices: View, sizes: GateSizes): void {
  const { tokens, experts, k, scaling, normalize } = sizes;
  const [out, values, chosen] = [f32(weights), f32(scores), i32(indices)];
  for (let t = 0; t < tokens; t += 1) {
    let sum = 0;
    for (let j = 0; j < k; j += 1) sum += values[t * experts + chosen[t * k + j]];
    const factor = normalize ? scaling / (sum + tiny) : scaling;
    for (let j = 0; j < k; j += 1)
      out[t * k + j] = values[t * experts + chosen[t * k + j]] * factor;
  }
}

/** See `Kernels.gateWeightsBackward`: with S = Σ chosen, ds_i = scaling / S · (dw_i − Σ_j dw_j s_j / S). */
export function gateWeightsBackward(
  dscores: View,
  dweights: View,
  scores: View,
  indices: View,
  sizes: GateSizes,
): void {
  const { tokens, experts, k, scaling, normalize } = sizes;
  const [out, grad, values, chosen] = [f32(dscores), f32(dweights), f32(scores), i32(indices)];
  for (let t = 0; t < tokens; t += 1) {
    let sum = tiny;
    let mixed = 0;
    for (let j = 0; j < k; j += 1) {
      const s = values[t * experts + chosen[t * k + j]];
      sum += s;
      mixed += grad[t * k + j] * s;
    }
    for (let j = 0; j < k; j += 1) {
      const at = t * experts + chosen[t * k + j];
      const dw = grad[t * k + j];
      out[at] = out[at] + (normalize ? (scaling / sum) * (dw - mixed / sum) : scaling * dw);
    }
  }
}

/** See `Kernels.balanceLoss`. */
export function balanceLoss(
  loss: View,
  dscores: View | null,
  scores: View,
  indices: View | null,
  counts: View | null,
  sizes: BalanceLossSizes,
): void {
  const { sequences, sequenceLength, experts, k, factor } = sizes;
  const [total, values] = [f32(loss), f32(scores)];
  const chosen = indices ? i32(indices) : null;
  const whole = counts ? i32(counts) : null;
  const counted = whole ? whole.reduce((sum, count) => sum + count, 0) : k * sequenceLength;
  const out = dscores ? f32(dscores) : null;
  const f = new Float64Array(experts);
  const p = new Float64Array(experts);
  const sums = new Float64Array(sequenceLength);
  let added = 0;
  for (let s = 0; s < sequences; s += 1) {
    const first = s * sequenceLength;
    f.set(whole ?? []);
    if (chosen) f.fill(0);
    p.fill(0);
    for (let t = 0; t < sequenceLength; t += 1) {
      let sum = tiny;
      for (let e = 0; e < experts; e += 1) sum += values[(first + t) * experts + e];
      sums[t] = sum;
      for (let e = 0; e < experts; e += 1)
        p[e] = p[e] + values[(first + t) * experts + e] / sum / sequenceLength;
      if (chosen) for (let j = 0; j < k; j += 1) f[chosen[(first + t) * k + j]] += 1;
    }
    for (let e = 0; e < experts; e += 1) {
      f[e] = counted === 0 ? 0 : (f[e] * experts) / counted;
      added += f[e] * p[e];
    }
    if (!out) continue;
    // ∂P_i/∂s_i,t = (1 − s_i,t / S) / (S · length), and −s_i,t / (S² · length) for the others.
    for (let t = 0; t < sequenceLength; t += 1) {
      const sum = sums[t];
      let mixed = 0;
      for (let e = 0; e < experts; e += 1)
        mixed += (f[e] * values[(first + t) * experts + e]) / sum;
      for (let e = 0; e < experts; e += 1) {
        const at = (first + t) * experts + e;
        out[at] = out[at] + (factor / (sequenceLength * sum)) * (f[e] - mixed);
      }
    }
  }
  total[0] = total[0] + factor * added;
}

/** See `Kernels.route`. */
export function route(
  counts: View,
  offsets: View,
  slotOfRow: View,
  rowOfSlot: View,
  indices: View,
  { tokens, k, experts, alignment = 1 }: RouteSizes,
): void {
  const [count, start, slots, rows, chosen] = [counts, offsets, slotOfRow, rowOfSlot, indices].map(
    i32,
  ) as [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];
  count.fill(0);
  for (let s = 0; s < tokens * k; s += 1) {
    const e = chosen[s];
    count[e] = count[e] + 1;
  }
  start[0] = 0;
  for (let e = 0; e < experts; e += 1)
    start[e + 1] = start[e] + Math.ceil(count[e] / alignment) * alignment;
  slots.fill(-1);
  const next = start.slice(0, experts);
  for (let s = 0; s < tokens * k; s += 1) {
    const e = chosen[s];
    const row = next[e];
    next[e] = row + 1;
    slots[row] = s;
    rows[s] = row;
  }
}

/** See `Kernels.permute`: any type, so rows are moved as bytes. */
export function permute(
  out: View,
  x: View,
  slotOfRow: View,
  { rows, k, cols }: PermuteSizes,
): void {
  const width = cols * bytesPerElement[x.dtype];
  const [target, source, slots] = [bytesOf(out), bytesOf(x), i32(slotOfRow)];
  for (let r = 0; r < rows; r += 1) {
    const token = Math.floor(slots[r] / k);
    if (token < 0) target.fill(0, r * width, (r + 1) * width);
    else target.set(source.subarray(token * width, (token + 1) * width), r * width);
  }
}

/** See `Kernels.unpermute`. */
export function unpermute(
  out: View,
  y: View,
  rowOfSlot: View,
  weights: View | null,
  { tokens, k, cols, accumulate }: UnpermuteSizes & { accumulate?: boolean },
): void {
  const [result, values, rows] = [f32(out), f32(y), i32(rowOfSlot)];
  const w = weights ? f32(weights) : null;
  const sum = new Float32Array(cols);
  for (let t = 0; t < tokens; t += 1) {
    sum.fill(0);
    for (let j = 0; j < k; j += 1) {
      const row = rows[t * k + j] * cols;
      const factor = w ? w[t * k + j] : 1;
      for (let c = 0; c < cols; c += 1) sum[c] = sum[c] + Math.fround(factor * values[row + c]);
    }
    if (accumulate)
      for (let c = 0; c < cols; c += 1) result[t * cols + c] = result[t * cols + c] + sum[c];
    else result.set(sum, t * cols);
  }
}

/** See `Kernels.unpermuteBackward`. */
export function unpermuteBackward(
  dy: View,
  dweights: View,
  dout: View,
  y: View,
  weights: View,
  rowOfSlot: View,
  { tokens, k, cols }: UnpermuteSizes,
): void {
  const [dvalues, dw, grad, values, w, rows] = [
    f32(dy),
    f32(dweights),
    f32(dout),
    f32(y),
    f32(weights),
    i32(rowOfSlot),
  ];
  dvalues.fill(0);
  for (let t = 0; t < tokens; t += 1)
    for (let j = 0; j < k; j += 1) {
      const row = rows[t * k + j] * cols;
      const factor = w[t * k + j];
      let dot = 0;
      for (let c = 0; c < cols; c += 1) {
        dot += grad[t * cols + c] * values[row + c];
        dvalues[row + c] = factor * grad[t * cols + c];
      }
      dw[t * k + j] = dot;
    }
}

/** See `Kernels.updateRouterBias`. */
export function updateRouterBias(
  bias: View,
  counts: View,
  average: View | null,
  { experts, speed, proportional, decay = 0 }: BiasUpdateSizes,
): void {
  const [b, count] = [f32(bias), i32(counts)];
  const smooth = average && f32(average);
  const mean = count.reduce((sum, value) => sum + value, 0) / experts;
  if (mean === 0) return;
  for (let e = 0; e < experts; e += 1) {
    let gap = (mean - count[e]) / mean;
    if (smooth) {
      smooth[e] = decay * smooth[e] + (1 - decay) * (count[e] / mean);
      gap = 1 - smooth[e];
    }
    b[e] = b[e] + Math.fround(speed) * (proportional ? gap : Math.sign(gap));
  }
}
