// Kernels that quantise what they compute give the bits of the two calls they stand for, on every implementation and
// instruction set: in rows that fill a tile and that do not, in several pieces a thread, with and without NaN.
import { type Kernels, nativeKernels, referenceKernels, type View, viewOf } from '@baleen/kernels';
import { afterAll, describe, test } from 'vitest';

import { tilesOut } from './cases-fused';
import { Arena, expectSameBits, scaledArrays } from './compare';

const native = nativeKernels();
const [bestIsa, threadsBefore] = [native?.isa ?? '', native?.threads ?? 1];
afterAll(() => {
  native?.setIsa(bestIsa);
  native?.setThreads(threadsBefore);
});

/** Rows of every sort: none, one, fewer and more than go together, one that fills the cache alone. */
const shapes = [
  [0, 128],
  [1, 1],
  [3, 5000],
  [37, 33],
  [41, 130],
  [300, 128],
  [67, 520],
] as const;

type Values = (i: number, arena: Arena) => number;
const values: Record<string, Values> = {
  'numbers of every size': (i, { random }) => random.normal() * 10 ** ((i % 7) - 5),
  'NaN, infinities and zeros': (i, { random }) =>
    i % 771 === 7 ? NaN : i % 1013 === 11 ? -Infinity : i % 5 ? random.normal() : -0,
};

const implementations: [string, Kernels, (() => void) | null][] = [
  ['reference', referenceKernels(), null],
  ...(native?.isas ?? []).map((isa): [string, Kernels, () => void] => [
    isa,
    native as Kernels,
    () => native?.setIsa(isa),
  ]),
];

describe.each(implementations)('%s', (_, kernels, choose) => {
  for (const [kind, value] of Object.entries(values))
    test.each(shapes)(`${kind}: %i×%i`, (rows, cols) => {
      choose?.();
      for (const threads of choose ? [1, 2] : [1])
        for (const powerOfTwo of [false, true]) {
          native?.setThreads(threads);
          const arena = new Arena(3);
          const matrix = (): View => viewOf(arena.floats(rows * cols, (i) => value(i, arena)));
          const size = { rows, cols, powerOfTwo };
          const pair = () => [tilesOut(arena, rows, cols), tilesOut(arena, rows, cols)] as const;
          const compare = ([actual, expected]: ReturnType<typeof pair>, what: string): void => {
            const [a, b] = [scaledArrays(actual), scaledArrays(expected)];
            expectSameBits(a.codes, b.codes, `${what}: codes`);
            expectSameBits(a.scales, b.scales, `${what}: scales`);
          };

          const [x, weight] = [matrix(), viewOf(arena.floats(cols))];
          const norm = { ...size, epsilon: 1e-5 };
          const [y, rstd] = [arena.out(rows * cols), arena.out(rows)];
          kernels.rmsNorm(viewOf(y), viewOf(rstd), x, weight, norm);
          for (const kept of [false, true]) {
            const outs = pair();
            const [own, ownRstd] = [arena.out(rows * cols), arena.out(rows)];
            const target = kept ? viewOf(own) : null;
            kernels.rmsNormQuantize(outs[0], target, viewOf(ownRstd), x, weight, norm);
            kernels.quantize(outs[1], viewOf(y), size);
            compare(outs, `rmsNormQuantize${kept ? ' with y' : ''}`);
            expectSameBits(ownRstd, rstd, 'rstd');
            if (kept) expectSameBits(own, y, 'y');
          }

          const [gate, up, outs] = [matrix(), matrix(), pair()];
          const act = arena.out(rows * cols);
          kernels.swiglu(viewOf(act), gate, up);
          kernels.swigluQuantize(outs[0], gate, up, size);
          kernels.quantize(outs[1], viewOf(act), size);
          compare(outs, 'swigluQuantize');
          arena.verify();
        }
    });
});
