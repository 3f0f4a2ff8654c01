// Cases of routing, reductions and the optimizer.
import { alignedRows, decodeBf16, type View, viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import type { Arena } from './compare';

/** k different experts for every token. */
function choices(arena: Arena, tokens: number, experts: number, k: number): Int32Array {
  const order = Array.from({ length: experts }, (_, e) => e);
  return arena.integers(tokens * k, (slot) => {
    const j = slot % k;
    const other = j + arena.random.integer(experts - j);
    [order[j], order[other]] = [order[other], order[j]];
    return order[j];
  });
}

/** Tokens, experts, k, groups, groups kept. */
const gates = [
  [0, 4, 2, 1, 1],
  [1, 1, 1, 1, 1],
  [3, 8, 2, 1, 1],
  [50, 16, 4, 4, 2],
  [20, 6, 2, 6, 3],
  [33, 256, 8, 8, 4],
] as const;

/** Those whose groups are ranked by another number of experts. */
const groupBests = [1, 3, 40] as const;

function gateCases(): Case[] {
  const list: Case[] = [];
  for (const [tokens, experts, k, groups, groupsKept] of gates) {
    const name = `${tokens}×${experts} top ${k}, ${groupsKept} of ${groups}`;
    // Multiples of ⅛ make ties; two scores in a hundred are NaN or −∞.
    const flat = (arena: Arena): View =>
      viewOf(arena.floats(tokens * experts, () => arena.random.integer(8) / 8));
    const broken = (arena: Arena): View =>
      viewOf(
        arena.floats(tokens * experts, (i) =>
          i % 97 === 3 ? NaN : i % 89 === 2 ? -Infinity : arena.random.uniform(),
        ),
      );
    for (const [scores, text] of [
      [flat, 'ties'],
      [broken, 'NaN'],
    ] as const)
      for (const bias of [false, true])
        list.push({
          kernel: 'topK',
          label: `${name}, ${text}${bias ? ', biased' : ''}`,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const indices = arena.outIntegers(tokens * k);
            const b = bias ? viewOf(arena.floats(experts, () => -arena.random.uniform())) : null;
            const sizes = { tokens, experts, k, groups, groupsKept };
            kernels.topK(viewOf(indices), scores(arena), b, sizes);
            return { indices };
          },
        });
    for (const groupBest of groupBests)
      list.push({
        kernel: 'topK',
        label: `${name}, groups by their ${groupBest} best`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const indices = arena.outIntegers(tokens * k);
          const sizes = { tokens, experts, k, groups, groupsKept, groupBest };
          kernels.topK(viewOf(indices), flat(arena), null, sizes);
          return { indices };
        },
      });
    for (const normalize of [false, true]) {
      const sizes = { tokens, experts, k, scaling: 2.5, normalize };
      const scores = (arena: Arena): View =>
        viewOf(arena.floats(tokens * experts, () => arena.random.uniform(0.01, 1)));
      list.push(
        {
          kernel: 'gateWeights',
          label: `${name}${normalize ? ', normalised' : ''}`,
          tolerance: 1e-6,
          run: (kernels, arena) => {
            const weights = arena.out(tokens * k);
            const indices = viewOf(choices(arena, tokens, experts, k));
            kernels.gateWeights(viewOf(weights), scores(arena), indices, sizes);
            return { weights };
          },
        },
        {
          kernel: 'gateWeightsBackward',
          label: `${name}${normalize ? ', normalised' : ''}`,
          tolerance: 2e-6,
          run: (kernels, arena) => {
            const dscores = arena.out(tokens * experts);
            const dweights = viewOf(arena.floats(tokens * k));
            const indices = viewOf(choices(arena, tokens, experts, k));
            kernels.gateWeightsBackward(viewOf(dscores), dweights, scores(arena), indices, sizes);
            return { dscores };
          },
        },
      );
    }
  }
  for (const [sequences, sequenceLength, experts, k] of [
    [1, 1, 1, 1],
    [2, 7, 8, 2],
    [3, 33, 16, 4],
  ])
    for (const withGradient of [false, true])
      for (const counted of [false, true])
        list.push({
          kernel: 'balanceLoss',
          label: `${sequences}×${sequenceLength}×${experts} top ${k}${withGradient ? ' and gradient' : ''}${counted ? ', with a batch’s counts' : ''}`,
          tolerance: 2e-6,
          run: (kernels, arena) => {
            const tokens = sequences * sequenceLength;
            const [loss, dscores] = [arena.out(1), arena.out(tokens * experts)];
            const scores = arena.floats(tokens * experts, () => arena.random.uniform(0.01, 1));
            const indices = viewOf(choices(arena, tokens, experts, k));
            const counts = viewOf(arena.integers(experts, () => arena.random.integer(9)));
            kernels.balanceLoss(
              viewOf(loss),
              withGradient ? viewOf(dscores) : null,
              viewOf(scores),
              counted ? null : indices,
              counted ? counts : null,
              { sequences, sequenceLength, experts, k, factor: 0.3 },
            );
            return { loss, dscores };
          },
        });
  return list;
}

function permutationCases(): Case[] {
  const list: Case[] = [];
  for (const [tokens, experts, k, cols] of [
    [0, 3, 2, 4],
    [1, 1, 1, 1],
    [5, 8, 2, 33],
    [130, 16, 4, 64],
  ] as const) {
    const rows = tokens * k;
    const name = `${tokens} tokens, ${k} of ${experts}, ${cols} wide`;
    /** A permutation of slots, and its inverse. */
    const order = (arena: Arena): { slotOfRow: View; rowOfSlot: View } => {
      const slots = choices(arena, 1, Math.max(rows, 1), rows);
      const inverse = new Map([...slots].map((slot, row) => [slot, row]));
      const rowOfSlot = arena.integers(rows, (slot) => inverse.get(slot) ?? 0);
      return { slotOfRow: viewOf(slots), rowOfSlot: viewOf(rowOfSlot) };
    };
    list.push(
      {
        kernel: 'route',
        label: name,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [counts, offsets] = [arena.outIntegers(experts), arena.outIntegers(experts + 1)];
          const [slotOfRow, rowOfSlot] = [arena.outIntegers(rows), arena.outIntegers(rows)];
          // The last expert gets nothing where there are several.
          const indices = arena.integers(rows, () =>
            arena.random.integer(Math.max(1, experts - 1)),
          );
          kernels.route(
            viewOf(counts),
            viewOf(offsets),
            viewOf(slotOfRow),
            viewOf(rowOfSlot),
            viewOf(indices),
            { tokens, k, experts },
          );
          return { counts, offsets, slotOfRow, rowOfSlot };
        },
      },
      {
        kernel: 'route',
        label: `${name}, aligned`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const alignment = 4;
          const [counts, offsets] = [arena.outIntegers(experts), arena.outIntegers(experts + 1)];
          const slotOfRow = arena.outIntegers(alignedRows(rows, experts, alignment));
          const rowOfSlot = arena.outIntegers(rows);
          const indices = arena.integers(rows, () =>
            arena.random.integer(Math.max(1, experts - 1)),
          );
          kernels.route(
            viewOf(counts),
            viewOf(offsets),
            viewOf(slotOfRow),
            viewOf(rowOfSlot),
            viewOf(indices),
            { tokens, k, experts, alignment },
          );
          return { counts, offsets, slotOfRow, rowOfSlot };
        },
      },
      {
        kernel: 'permute',
        label: `${name}, with padding`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const padded = rows + 5;
          const slotOfRow = viewOf(
            arena.integers(padded, (r) => (r % 3 === 1 || tokens === 0 ? -1 : r % rows)),
          );
          const f32 = arena.out(padded * cols);
          const e4m3 = arena.outCodes(padded * 4);
          const x = viewOf(arena.floats(tokens * cols));
          const codes = arena.scaled(tokens, 4, [1, 128]).codes;
          kernels.permute(viewOf(f32), x, slotOfRow, { rows: padded, k, cols, tokens });
          kernels.permute(viewOf(e4m3), codes, slotOfRow, { rows: padded, k, cols: 4, tokens });
          return { f32, e4m3 };
        },
      },
      {
        kernel: 'unpermuteBackward',
        label: `${name}, with padding`,
        tolerance: 2e-6,
        run: (kernels, arena) => {
          const padded = 2 * rows + 1;
          const [dy, dweights] = [arena.out(padded * cols), arena.out(rows)];
          kernels.unpermuteBackward(
            viewOf(dy),
            viewOf(dweights),
            viewOf(arena.floats(tokens * cols)),
            viewOf(arena.floats(padded * cols)),
            viewOf(arena.floats(rows)),
            viewOf(arena.integers(rows, (slot) => 2 * slot + 1)),
            { tokens, k, cols, rows: padded },
          );
          return { dy, dweights };
        },
      },
      {
        kernel: 'permute',
        label: `${name}, each type`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const { slotOfRow } = order(arena);
          const f32 = arena.out(rows * cols);
          const [bf16, e4m3] = [arena.outHalves(rows * cols), arena.outCodes(rows * cols)];
          const codes = arena.scaled(tokens, cols, [1, 128]).codes;
          const sizes = { rows, k, cols };
          kernels.permute(viewOf(f32), viewOf(arena.floats(tokens * cols)), slotOfRow, sizes);
          kernels.permute(viewOf(bf16), viewOf(arena.halves(tokens * cols)), slotOfRow, sizes);
          kernels.permute(viewOf(e4m3), codes, slotOfRow, sizes);
          return { f32, bf16, e4m3 };
        },
      },
      {
        kernel: 'unpermuteBackward',
        label: name,
        tolerance: 2e-6,
        run: (kernels, arena) => {
          const [dy, dweights] = [arena.out(rows * cols), arena.out(rows)];
          const { rowOfSlot } = order(arena);
          kernels.unpermuteBackward(
            viewOf(dy),
            viewOf(dweights),
            viewOf(arena.floats(tokens * cols)),
            viewOf(arena.floats(rows * cols)),
            viewOf(arena.floats(rows)),
            rowOfSlot,
            { tokens, k, cols },
          );
          return { dy, dweights };
        },
      },
    );
    for (const accumulate of [false, true])
      for (const weighted of [false, true])
        list.push({
          kernel: 'unpermute',
          label: `${name}${accumulate ? ' +=' : ''}${weighted ? ', weighted' : ''}`,
          tolerance: 1e-6,
          run: (kernels, arena) => {
            const [out, y] = [arena.out(tokens * cols), viewOf(arena.floats(rows * cols))];
            const { rowOfSlot } = order(arena);
            const weights = weighted ? viewOf(arena.floats(rows)) : null;
            const sizes = { tokens, k, cols, accumulate };
            kernels.unpermute(viewOf(out), y, rowOfSlot, weights, sizes);
            return { out };
          },
        });
  }
  for (const experts of [1, 2, 5, 256])
    for (const proportional of [false, true])
      for (const decay of [null, 0, 0.9])
        list.push({
          kernel: 'updateRouterBias',
          label: `${experts} experts${proportional ? ', by the gap' : ''}${decay === null ? '' : `, averaged with ${decay}`}`,
          tolerance: 'bits',
          run: (kernels, arena) => {
            const [bias, average] = [arena.out(experts), arena.out(experts)];
            const counts = viewOf(arena.integers(experts, () => arena.random.integer(4)));
            kernels.updateRouterBias(
              viewOf(bias),
              counts,
              decay === null ? null : viewOf(average),
              { experts, speed: 0.001, proportional, decay: decay ?? 0 },
            );
            return { bias, average };
          },
        });
  return list;
}

function optimizerCases(): Case[] {
  const list: Case[] = [];
  for (const size of [0, 1, 5, 1000, 30_011])
    list.push(
      {
        kernel: 'sum',
        label: `${size}`,
        tolerance: 1e-5,
        run: (kernels, arena) => {
          const out = arena.out(1);
          kernels.sum(viewOf(out), viewOf(arena.floats(size, () => arena.random.uniform())));
          return { out };
        },
      },
      {
        kernel: 'sumOfSquares',
        label: `${size}`,
        tolerance: 1e-5,
        run: (kernels, arena) => {
          const out = arena.out(1);
          kernels.sumOfSquares(viewOf(out), viewOf(arena.floats(size)));
          return { out };
        },
      },
    );
  for (const [squares, loss] of [
    [[4, 9, 16], 1],
    [[0.01], 1],
    [[Infinity, 1], 1],
    [[1, 1], NaN],
    [[NaN], 2],
    [[], 1],
  ] as const)
    list.push({
      kernel: 'clipFactor',
      label: `[${squares.join(' ')}], loss ${loss}`,
      tolerance: 1e-6,
      run: (kernels, arena) => {
        const [norm, factor, finite] = [arena.out(1), arena.out(1), arena.outIntegers(1)];
        kernels.clipFactor(
          viewOf(norm),
          viewOf(factor),
          viewOf(finite),
          viewOf(arena.floats(squares.length, (i) => squares[i])),
          viewOf(arena.floats(1, () => loss)),
          { maxNorm: 1 },
        );
        return { norm, factor, finite };
      },
    });
  for (const size of [0, 1, 17, 3000, 20_011])
    for (const [finite, step, moments] of [
      [1, 1, 'bf16'],
      [1, 1000, 'bf16'],
      [0, 1, 'bf16'],
      [1, 1, 'fp32'],
      [1, 1000, 'fp32'],
      [0, 1, 'fp32'],
    ] as const)
      list.push({
        kernel: 'adamw',
        label: `${size}, update ${step}, moments in ${moments}${finite ? '' : ', not finite'}`,
        // A moment on the border between two BF16 values may fall either way.
        tolerance: finite ? 2e-4 : 'bits',
        run: (kernels, arena) => {
          const parameter = arena.out(size);
          const moment = (): Uint16Array | Float32Array =>
            moments === 'bf16' ? arena.outHalves(size) : arena.out(size);
          const [m, v] = [moment(), moment()];
          const encode = moments === 'bf16' ? (code: number) => code : decodeBf16;
          for (let i = 0; i < size; i += 1) {
            const sign = 0x8000 * arena.random.integer(2);
            m[i] = encode(0x3c00 + arena.random.integer(0x200) + sign);
            v[i] = encode(0x3a00 + arena.random.integer(0x200));
          }
          kernels.adamw(
            viewOf(parameter),
            viewOf(arena.floats(size, () => arena.random.normal() * 0.1)),
            viewOf(m),
            viewOf(v),
            viewOf(arena.floats(1, () => 0.7)),
            viewOf(arena.integers(1, () => finite)),
            viewOf(
              arena.floats(3, (i) => [0.001, 1 / (1 - 0.9 ** step), 1 / (1 - 0.95 ** step)][i]),
            ),
            {
              beta1: 0.9,
              beta2: 0.95,
              epsilon: 1e-8,
              weightDecay: 0.1,
            },
          );
          return { parameter, m, v };
        },
      });
  return list;
}

/** Cases of routing, reductions and the optimizer. */
export function routingCases(): Case[] {
  return [...gateCases(), ...permutationCases(), ...optimizerCases()];
}
