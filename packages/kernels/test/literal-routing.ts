// The literal contract of routing, behind the interface of kernels.
import { bytesPerElement, cpuBuffer, type RoutingKernels } from '@baleen/kernels';

import * as literal from './literal';
import { grid, read, write } from './literal-views';

/** Routing, forward. */
export const literalRouting: Partial<RoutingKernels> = {
  sigmoid: (out, x) => {
    write(out, read(x).map(literal.sigmoid));
  },
  softmax: (out, x, { rows, cols }) => {
    const values = read(x);
    write(
      out,
      grid(rows, 1, (r) => {
        const row = values.slice(r * cols, (r + 1) * cols);
        const top = Math.max(...row);
        const powers = row.map((value) => Math.exp(value - top));
        const sum = powers.reduce((a, b) => a + b, 0);
        return powers.map((power) => power / sum);
      }).flat(),
    );
  },
  topK: (indices, scores, bias, { tokens, experts, k, groups, groupsKept, groupBest }) => {
    const [values, shifts] = [read(scores), bias ? read(bias) : []];
    write(
      indices,
      grid(tokens, 1, (t) => {
        const row = values.slice(t * experts, (t + 1) * experts);
        const biased = row.map((s, e) => (bias ? Math.fround(s + shifts[e]) : s));
        return literal.topK(biased, k, groups, groupsKept, groupBest);
      }).flat(),
    );
  },
  gateWeights: (weights, scores, indices, { tokens, experts, k, scaling, normalize }) => {
    const [values, chosen] = [read(scores), read(indices)];
    write(
      weights,
      grid(tokens, 1, (t) =>
        literal.gateWeights(
          values.slice(t * experts, (t + 1) * experts),
          chosen.slice(t * k, (t + 1) * k),
          scaling,
          normalize,
        ),
      ).flat(),
    );
  },
  route: (counts, offsets, slotOfRow, rowOfSlot, indices, { experts, alignment = 1 }) => {
    const chosen = read(indices);
    const order = chosen.map((_, slot) => slot).sort((a, b) => chosen[a] - chosen[b] || a - b);
    const before = (e: number): number => chosen.filter((other) => other < e).length;
    write(
      counts,
      grid(experts, 1, (e) => before(e + 1) - before(e)),
    );
    const padded = grid(experts, 1, (e) => {
      const own = order.filter((slot) => chosen[slot] === e);
      while (own.length % alignment !== 0) own.push(-1);
      return own;
    });
    write(
      offsets,
      grid(experts + 1, 1, (e) => padded.slice(0, e).flat().length),
    );
    const slots = padded.flat();
    while (slots.length < slotOfRow.size) slots.push(-1);
    write(slotOfRow, slots);
    write(
      rowOfSlot,
      chosen.map((_, slot) => slots.indexOf(slot)),
    );
  },
  permute: (out, x, slotOfRow, { rows, k, cols }) => {
    const slots = read(slotOfRow);
    const width = cols * bytesPerElement[x.dtype];
    const target = new Uint8Array(cpuBuffer(out), out.byteOffset);
    const source = new Uint8Array(cpuBuffer(x), x.byteOffset);
    for (let r = 0; r < rows; r += 1)
      for (let i = 0; i < width; i += 1)
        target[r * width + i] = slots[r] < 0 ? 0 : source[Math.floor(slots[r] / k) * width + i];
  },
  unpermute: (out, y, rowOfSlot, weights, { tokens, k, cols, accumulate }) => {
    const [old, values, rows] = [read(out), read(y), read(rowOfSlot)];
    const w = weights && read(weights);
    write(
      out,
      grid(tokens, cols, (t, c) => {
        let sum = 0;
        for (let j = 0; j < k; j += 1)
          sum += (w ? w[t * k + j] : 1) * values[rows[t * k + j] * cols + c];
        return accumulate ? old[t * cols + c] + sum : sum;
      }),
    );
  },
  updateRouterBias: (bias, counts, average, { experts, speed, proportional, decay = 0 }) => {
    const count = read(counts);
    const total = count.reduce((sum, c) => sum + c, 0);
    if (total === 0) return;
    const mean = total / experts;
    if (average)
      write(
        average,
        read(average).map((a, e) => decay * a + (1 - decay) * (count[e] / mean)),
      );
    const smooth = average && read(average);
    const step = (e: number): number => {
      const gap = smooth ? 1 - smooth[e] : (mean - count[e]) / mean;
      return Math.fround(speed) * (proportional ? gap : Math.sign(gap));
    };
    write(
      bias,
      read(bias).map((b, e) => b + step(e)),
    );
  },
};
