// Rows to experts and back on typed arrays, and the gradients of routing and balance: against loops, against slopes of
// loops, and against the operations on tensors.
import { loadKernels, referenceKernels, type ViewArray } from '@baleen/kernels';
import { Region, Tape, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import {
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import {
  alignRows,
  permute,
  permuteTokens,
  type RoutingSizes,
  type RowSizes,
  routeTokens,
  routeTokensBackward,
  unpermuteAdd,
  unpermuteTokens,
  unpermuteTokensBackward,
} from '../src/index';

type Sizes = RoutingSizes & RowSizes;

const cases: Sizes[] = [
  { tokens: 7, experts: 5, expertsPerToken: 3, cols: 9, scaling: 2.5 },
  { tokens: 33, experts: 8, expertsPerToken: 1, cols: 1, normalize: false },
  { tokens: 40, experts: 12, expertsPerToken: 4, groups: 3, groupsPerToken: 2, cols: 130 },
  { tokens: 0, experts: 4, expertsPerToken: 2, cols: 3 },
  { tokens: 21, experts: 6, expertsPerToken: 2, cols: 5, gate: 'softmax' },
  { tokens: 21, experts: 6, expertsPerToken: 2, cols: 5, gate: 'softmax', normalize: false },
];

/** The gradient of f by central differences in float64. */
function slopes(x: ArrayLike<number>, f: (x: number[]) => number): number[] {
  const at = (index: number, step: number): number => {
    const moved = Array.from(x);
    moved[index] += step;
    return f(moved);
  };
  return Array.from(x, (_, i) => (at(i, 1e-5) - at(i, -1e-5)) / 2e-5);
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(cases)('%o', (sizes) => {
    const { tokens, experts, expertsPerToken: k, cols } = sizes;
    const { scaling = 1, normalize = true, gate = 'sigmoid' } = sizes;
    const logits = values(tokens * experts, 1, 3);
    const routing = routeTokens(logits, sizes, { kernels });
    const { indices, weights, rowOfSlot } = routing;
    const x = values(tokens * cols, 2);
    const y = values(tokens * k * cols, 3);
    const dout = values(tokens * cols, 4);
    /** The slots in their order of rows, found without the routing's own tables. */
    const slots = [...indices.keys()].sort((a, b) => indices[a] - indices[b] || a - b);

    test('every type of row moves bit for bit to its expert', () => {
      const bits = x.map((value) => 100 * value);
      const types: ViewArray[] = [
        x,
        new Uint16Array(bits),
        new Uint8Array(bits),
        new Int32Array(bits),
      ];
      for (const list of types) {
        const rows = permuteTokens(list, routing, sizes, { kernels });
        expect(rows.constructor).toBe(list.constructor);
        const expected = slots.flatMap((slot) => {
          const token = Math.floor(slot / k);
          return [...list.slice(token * cols, (token + 1) * cols)];
        });
        expect(firstDifference(rows, expected)).toBe(-1);
      }
    });

    test('and comes back weighted and summed, or summed alone, or added', () => {
      const sum = (factor: (slot: number) => number, base: ArrayLike<number> | null): number[] => {
        const out = Array.from({ length: tokens * cols }, (_o, i) => base?.[i] ?? 0);
        slots.forEach((slot, row) => {
          for (let c = 0; c < cols; c += 1)
            out[Math.floor(slot / k) * cols + c] += factor(slot) * y[row * cols + c];
        });
        return out;
      };
      const weighted = unpermuteTokens(y, routing, sizes, { kernels });
      expect(
        largestDifference(
          weighted,
          sum((slot) => weights[slot], null),
        ),
      ).toBeLessThan(1e-5);
      const plain = unpermuteTokens(y, { rowOfSlot }, sizes, { kernels });
      expect(
        largestDifference(
          plain,
          sum(() => 1, null),
        ),
      ).toBeLessThan(1e-5);
      const out = x.slice();
      const options = { kernels, out, accumulate: true };
      expect(unpermuteTokens(y, routing, sizes, options)).toBe(out);
      expect(
        largestDifference(
          out,
          sum((slot) => weights[slot], x),
        ),
      ).toBeLessThan(1e-5);
    });

    test('gradients of rows and weights', () => {
      const { dy, dweights } = unpermuteTokensBackward(dout, y, routing, sizes, { kernels });
      const [rows, factors] = [new Array<number>(dy.length), new Array<number>(dweights.length)];
      slots.forEach((slot, row) => {
        factors[slot] = 0;
        for (let c = 0; c < cols; c += 1) {
          const grad = dout[Math.floor(slot / k) * cols + c];
          rows[row * cols + c] = weights[slot] * grad;
          factors[slot] += y[row * cols + c] * grad;
        }
      });
      expect(largestDifference(dy, rows)).toBeLessThan(1e-5);
      expect(largestDifference(dweights, factors)).toBeLessThan(1e-4);
    });

    test('gradients of logits are the slopes of the gate weights, and of what else reads the scores', () => {
      const dweights = values(tokens * k, 5);
      const more = values(tokens * experts, 6);
      /** Σ dweights · weights + Σ more · scores of one token, its choice held. */
      const read = (own: number[], t: number, extra: boolean): number => {
        const chosen = [...indices.slice(t * k, (t + 1) * k)];
        const powers = own.map(Math.exp);
        const sum = powers.reduce((a, b) => a + b, 0);
        const scores = powers.map((power) => power / (gate === 'softmax' ? sum : 1 + power));
        const total = normalize ? chosen.reduce((sum, e) => sum + scores[e], 0) : 1;
        let result = 0;
        chosen.forEach((e, j) => {
          result += (dweights[t * k + j] * scaling * scores[e]) / total;
        });
        if (extra)
          scores.forEach((score, e) => {
            result += more[t * experts + e] * score;
          });
        return result;
      };
      const expected = (extra: boolean): number[] =>
        Array.from({ length: tokens }, (_t, t) =>
          slopes(logits.slice(t * experts, (t + 1) * experts), (own) => read(own, t, extra)),
        ).flat();
      const plain = routeTokensBackward(dweights, routing, sizes, { kernels });
      expect(largestDifference(plain.dlogits, expected(false))).toBeLessThan(1e-5);
      const both = routeTokensBackward(dweights, routing, sizes, { kernels, dscores: more });
      expect(largestDifference(both.dlogits, expected(true))).toBeLessThan(1e-5);
      // The further gradient may stand in the result's own array.
      const out = { dlogits: plain.dlogits, dscores: more.slice() };
      const inPlace = { kernels, dscores: out.dscores, out };
      expect(routeTokensBackward(dweights, routing, sizes, inPlace)).toBe(out);
      expect(out).toEqual(both);
    });

    test.each([1, 4, 16])(
      'rows aligned to %d: contiguous ones with padding between',
      (alignment) => {
        const order = alignRows(indices, { ...sizes, alignment }, { kernels });
        const { offsets, slotOfRow } = order;
        expect(order.counts).toEqual(routing.counts);
        const rows = slotOfRow.length;
        expect(rows % alignment).toBe(0);
        const padded = { ...sizes, rows };
        // Each expert's rows are those of the contiguous order, in it.
        const expected = new Int32Array(rows).fill(-1);
        for (let e = 0; e < experts; e += 1) {
          expect(offsets[e] % alignment).toBe(0);
          expect(offsets[e + 1] - offsets[e]).toBe(
            Math.ceil(routing.counts[e] / alignment) * alignment,
          );
          expected.set(
            routing.slotOfRow.subarray(routing.offsets[e], routing.offsets[e + 1]),
            offsets[e],
          );
        }
        expect(slotOfRow).toEqual(expected);
        order.rowOfSlot.forEach((row, slot) => {
          expect(slotOfRow[row]).toBe(slot);
        });
        // Moving there: the same rows, zeros between; FP8 codes likewise.
        const contiguous = permuteTokens(x, routing, sizes, { kernels });
        const there = permuteTokens(x, order, padded, { kernels });
        const codes = permuteTokens(new Uint8Array(x.length).fill(7), order, padded, { kernels });
        for (let row = 0; row < rows; row += 1) {
          const own = there.subarray(row * cols, (row + 1) * cols);
          const slot = slotOfRow[row];
          const from = slot < 0 ? 0 : routing.rowOfSlot[slot] * cols;
          expect(own).toEqual(
            slot < 0 ? new Float32Array(cols) : contiguous.subarray(from, from + cols),
          );
          expect(codes[row * cols]).toBe(slot < 0 ? 0 : 7);
        }
        // And back: what stands in padding does not matter.
        const spread = new Float32Array(rows * cols).fill(NaN);
        order.rowOfSlot.forEach((row, slot) => {
          const from = routing.rowOfSlot[slot] * cols;
          spread.set(y.subarray(from, from + cols), row * cols);
        });
        const withWeights = { ...order, weights };
        expect(unpermuteTokens(spread, withWeights, padded, { kernels })).toEqual(
          unpermuteTokens(y, routing, sizes, { kernels }),
        );
        const plain = unpermuteTokensBackward(dout, y, routing, sizes, { kernels });
        const out = { dy: spread.slice(), dweights: new Float32Array(tokens * k) };
        const back = unpermuteTokensBackward(dout, spread, withWeights, padded, { kernels, out });
        expect(back.dweights).toEqual(plain.dweights);
        for (let row = 0; row < rows; row += 1) {
          const slot = slotOfRow[row];
          const from = slot < 0 ? 0 : routing.rowOfSlot[slot] * cols;
          expect(back.dy.subarray(row * cols, (row + 1) * cols)).toEqual(
            slot < 0 ? new Float32Array(cols) : plain.dy.subarray(from, from + cols),
          );
        }
        // The gradient of the way there is the plain sum on the way back.
        expect(unpermuteTokens(back.dy, order, padded, { kernels })).toEqual(
          unpermuteTokens(plain.dy, { rowOfSlot }, sizes, { kernels }),
        );
        const again = alignRows(indices, { ...sizes, alignment }, { kernels, out: order });
        expect(again).toBe(order);
      },
    );

    test('writes into what it is given', () => {
      const dirty = <T extends ViewArray>(list: T): T => list.slice().fill(7) as T;
      const rows = permuteTokens(x, routing, sizes, { kernels });
      const [moved, summed] = [dirty(rows), dirty(x)];
      expect(permuteTokens(x, routing, sizes, { kernels, out: moved })).toBe(moved);
      expect(moved).toEqual(rows);
      expect(unpermuteTokens(y, routing, sizes, { kernels, out: summed })).toBe(summed);
      expect(summed).toEqual(unpermuteTokens(y, routing, sizes, { kernels }));
      const fresh = unpermuteTokensBackward(dout, y, routing, sizes, { kernels });
      const out = { dy: dirty(fresh.dy), dweights: dirty(fresh.dweights) };
      const { dy } = out;
      expect(unpermuteTokensBackward(dout, y, routing, sizes, { kernels, out })).toBe(out);
      expect(out).toEqual(fresh);
      expect(out.dy).toBe(dy);
    });
  });

  test('the same bits as on tensors, forward and backward', () => {
    const [sizes] = cases;
    const { tokens, experts, expertsPerToken: k, cols } = sizes;
    const routing = routeTokens(values(tokens * experts, 1, 3), sizes, { kernels });
    const region = new Region(kernels, 'test');
    const floats = (shape: number[], list: Float32Array): Tensor => tensorFrom(region, shape, list);
    const integers = (list: Int32Array): Tensor => {
      const tensor = new Tape(region).empty([list.length], 'i32');
      tensor.readSync().set(list);
      return tensor;
    };
    const tensors = {
      indices: integers(routing.indices),
      weights: floats([tokens, k], routing.weights),
      offsets: integers(routing.offsets),
      slotOfRow: integers(routing.slotOfRow),
      rowOfSlot: integers(routing.rowOfSlot),
    };
    const [x, dout] = [values(tokens * cols, 2), values(tokens * cols, 4)];
    const base = new Float32Array(tokens * cols);
    const [input, grad] = [floats([tokens, cols], x), floats([tokens, cols], dout)];
    const tape = new Tape(region);
    const [sum] = tape.frame('test', () => [
      unpermuteAdd(
        tape,
        floats([tokens, cols], base),
        permute(tape, input, tensors),
        tensors.weights,
        tensors.rowOfSlot,
      ),
    ]);
    const [dx, dw] = tape.backFrame([sum], [grad], [input, tensors.weights]);
    const rows = permuteTokens(x, routing, sizes, { kernels });
    const out = unpermuteTokens(rows, routing, sizes, { kernels });
    expect(firstDifference(sum.readSync(), out)).toBe(-1);
    const { dy, dweights } = unpermuteTokensBackward(dout, rows, routing, sizes, { kernels });
    expect(firstDifference(dw?.readSync() ?? [], dweights)).toBe(-1);
    const { rowOfSlot } = routing;
    const back = unpermuteTokens(dy, { rowOfSlot }, sizes, { kernels });
    expect(firstDifference(dx?.readSync() ?? [], back)).toBe(-1);
  });
});

describe('refused, with the argument’s name and its shape:', () => {
  const sizes = { tokens: 3, experts: 4, expertsPerToken: 2, cols: 5 };
  const routing = routeTokens(values(12, 1), sizes);
  const [x, y] = [values(15, 2), values(30, 3)];
  const refusal = (path: string): unknown =>
    expect.objectContaining({
      code: 'ERR_BALEEN_ROUTER_SIZES',
      path,
      hint: expect.any(String) as string,
    });

  test.each<[string, Partial<RowSizes>]>([
    ['tokens', { tokens: -1 }],
    ['expertsPerToken', { expertsPerToken: 0 }],
    ['cols', { cols: 2.5 }],
    ['x', { cols: 4 }],
    ['slotOfRow', { expertsPerToken: 3 }],
  ])('%s of tokens', (path, change) => {
    expect(() => permuteTokens(x, routing, { ...sizes, ...change })).toThrow(refusal(path));
  });

  test.each<[string, Partial<RowSizes>]>([
    ['tokens', { tokens: NaN }],
    ['y', { cols: 6 }],
    ['rowOfSlot', { expertsPerToken: 1, cols: 10 }],
  ])('%s of rows', (path, change) => {
    const wrong = { ...sizes, ...change };
    expect(() => unpermuteTokens(y, routing, wrong)).toThrow(refusal(path));
    expect(() => unpermuteTokensBackward(x, y, routing, wrong)).toThrow(refusal(path));
  });

  test('places that lie outside', () => {
    const slotOfRow = Int32Array.of(0, 1, 2, 3, 4, 6);
    expect(() => permuteTokens(x, { slotOfRow }, sizes)).toThrow(refusal('slotOfRow[5]'));
    const rowOfSlot = Int32Array.of(0, -1, 2, 3, 4, 5);
    expect(() => unpermuteTokens(y, { rowOfSlot }, sizes)).toThrow(refusal('rowOfSlot[1]'));
    const { scores, weights } = routing;
    expect(() => unpermuteTokensBackward(x, y, { rowOfSlot, weights }, sizes)).toThrow(
      refusal('rowOfSlot[1]'),
    );
    const indices = Int32Array.of(0, 1, 2, 3, 0, 4);
    expect(() => routeTokensBackward(weights, { scores, indices }, sizes)).toThrow(
      refusal('indices[5]'),
    );
  });

  test('arrays to read and write', () => {
    const short = new Float32Array(1);
    const weights = short;
    expect(() => permuteTokens(x, routing, sizes, { out: short })).toThrow(refusal('out'));
    expect(() => unpermuteTokens(y, routing, sizes, { out: short })).toThrow(refusal('out'));
    expect(() => unpermuteTokens(y, { ...routing, weights }, sizes)).toThrow(refusal('weights'));
    expect(() => unpermuteTokensBackward(short, y, routing, sizes)).toThrow(refusal('dout'));
    const gradients = unpermuteTokensBackward(x, y, routing, sizes);
    for (const name of ['dy', 'dweights'] as const)
      expect(() =>
        unpermuteTokensBackward(x, y, routing, sizes, { out: { ...gradients, [name]: short } }),
      ).toThrow(refusal(`out.${name}`));
    const { dweights } = gradients;
    expect(() => routeTokensBackward(short, routing, sizes)).toThrow(refusal('dweights'));
    expect(() => routeTokensBackward(dweights, { ...routing, scores: short }, sizes)).toThrow(
      refusal('scores'),
    );
    expect(() => routeTokensBackward(dweights, routing, sizes, { dscores: short })).toThrow(
      refusal('dscores'),
    );
    const out = { ...routeTokensBackward(dweights, routing, sizes), dlogits: short };
    expect(() => routeTokensBackward(dweights, routing, sizes, { out })).toThrow(
      refusal('out.dlogits'),
    );
  });

  test('aligned rows', () => {
    const { indices } = routing;
    const aligned = { ...sizes, alignment: 4 };
    expect(() => alignRows(indices, { ...aligned, alignment: 0 })).toThrow(refusal('alignment'));
    expect(() => alignRows(indices, { ...aligned, tokens: 2 })).toThrow(refusal('indices'));
    expect(() => alignRows(Int32Array.of(0, 1, 2, 4, 0, 1), aligned)).toThrow(
      refusal('indices[3]'),
    );
    const order = alignRows(indices, aligned);
    const out = { ...order, slotOfRow: new Int32Array(1) };
    expect(() => alignRows(indices, aligned, { out })).toThrow(refusal('out.slotOfRow'));
    // Padding needs its rows named.
    expect(() => permuteTokens(x, order, sizes)).toThrow(refusal('slotOfRow'));
    const rows = order.slotOfRow.length;
    expect(() => unpermuteTokens(y, order, { ...sizes, rows })).toThrow(refusal('y'));
    const slotOfRow = order.slotOfRow.slice().fill(-2);
    expect(() => permuteTokens(x, { slotOfRow }, { ...sizes, rows })).toThrow(
      refusal('slotOfRow[0]'),
    );
  });

  test('the message counts', () => {
    expect(() => unpermuteTokens(x, routing, sizes)).toThrow(
      'y holds 15 values, expected 30 (3 · 2 · 5)',
    );
  });
});
