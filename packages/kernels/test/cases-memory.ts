// Cases of memory: filling, copying, casting, adding.
import { viewOf } from '@baleen/kernels';

import type { Case } from './cases';
import { scaledArrays } from './compare';

const lengths = [0, 1, 7, 16, 33, 1000, 20_011];

/** Bit patterns of FP32 where rounding goes wrong first. */
const special = Uint32Array.of(
  ...[0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0xff7fffff],
  ...[0x7f800000, 0xff800000, 0x7f800001, 0xffc00000, 0x7fffffff, 0x3f808000, 0x3f818000],
  ...[0x3f807fff, 0x3f808001, 0x7f7f8000, 0x7f7f7fff, 0x00008000, 0x00018000, 0x43e00000],
  ...[0x43e80000, 0x43e7ffff, 0x3c800000, 0x3c7fffff, 0x3a800000, 0x3a800001, 0x3b400000],
);
const specials = new Float32Array(special.buffer);

/** Cases of memory. */
export function memoryCases(): Case[] {
  const list: Case[] = [];
  for (const size of lengths) {
    list.push(
      {
        kernel: 'fill',
        label: `${size} of each type`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const outs = [arena.out(size), arena.outHalves(size), arena.outIntegers(size)] as const;
          kernels.fill(viewOf(outs[0]), 0.1);
          kernels.fill(viewOf(outs[1]), 0.1);
          kernels.fill(viewOf(outs[2]), -7);
          return { f32: outs[0], bf16: outs[1], i32: outs[2] };
        },
      },
      {
        kernel: 'copy',
        label: `${size} of each type`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [x, halves] = [arena.floats(size), arena.halves(size)];
          const codes = scaledArrays(arena.scaled(1, size, [1, 128])).codes;
          const outs = [arena.out(size), arena.outHalves(size), arena.outCodes(size)] as const;
          kernels.copy(viewOf(outs[0]), viewOf(x));
          kernels.copy(viewOf(outs[1]), viewOf(halves));
          kernels.copy(viewOf(outs[2]), viewOf(codes));
          return { f32: outs[0], bf16: outs[1], e4m3: outs[2] };
        },
      },
      {
        kernel: 'copy',
        label: `${size} past the caches, from odd places`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const x = scaledArrays(arena.scaled(1, size + 3, [1, 128])).codes;
          const out = arena.outCodes(size + 1).fill(7);
          kernels.copy(viewOf(out.subarray(1)), viewOf(x.subarray(3)), { past: true });
          return { out };
        },
      },
      {
        kernel: 'cast',
        label: `${size} both ways`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [down, up] = [arena.outHalves(size), arena.out(size)];
          kernels.cast(viewOf(down), viewOf(arena.floats(size)));
          kernels.cast(viewOf(up), viewOf(arena.halves(size)));
          return { down, up };
        },
      },
      {
        kernel: 'add',
        label: `${size}, also in place and integers`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [a, out, inPlace] = [arena.floats(size), arena.out(size), arena.out(size)];
          const [count, left] = [arena.outIntegers(size), arena.integers(size, (i) => i - 5)];
          kernels.add(viewOf(out), viewOf(a), viewOf(inPlace));
          kernels.add(viewOf(inPlace), viewOf(inPlace), viewOf(a));
          kernels.add(viewOf(count), viewOf(left), viewOf(count));
          return { out, inPlace, count };
        },
      },
      {
        kernel: 'scale',
        label: `${size}, also in place`,
        tolerance: 'bits',
        run: (kernels, arena) => {
          const [x, out, inPlace] = [arena.floats(size), arena.out(size), arena.out(size)];
          kernels.scale(viewOf(out), viewOf(x), 0.3);
          kernels.scale(viewOf(inPlace), viewOf(inPlace), -1.7);
          return { out, inPlace };
        },
      },
    );
  }
  list.push({
    kernel: 'cast',
    label: 'ties, infinities, NaN, subnormals',
    tolerance: 'bits',
    run: (kernels, arena) => {
      const x = arena.floats(specials.length * 3, () => 0);
      for (let i = 0; i < x.length; i += 1) x[i] = specials[i % specials.length];
      const [down, up] = [arena.outHalves(x.length), arena.out(65536)];
      kernels.cast(viewOf(down), viewOf(x));
      kernels.cast(viewOf(up), viewOf(Uint16Array.from({ length: 65536 }, (_, i) => i)));
      x.fill(0);
      return { down, up };
    },
  });
  for (const [rows, cols] of [
    [0, 5],
    [1, 1],
    [5, 3],
    [33, 47],
    [64, 160],
  ] as const)
    for (const from of ['f32', 'bf16'] as const)
      for (const to of ['f32', 'bf16', 'accumulate'] as const) {
        if (to === 'accumulate' && from === 'bf16') continue;
        for (const xStride of [0, cols + 4])
          list.push({
            kernel: 'copyStrided',
            label: `${rows}×${cols} ${from} → ${to}, stride ${xStride}`,
            tolerance: 'bits',
            run: (kernels, arena) => {
              const xSize = 2 + Math.max(0, rows - 1) * xStride + cols;
              const outSize = 3 + rows * (cols + 9);
              const x = from === 'f32' ? arena.floats(xSize) : arena.halves(xSize);
              const out = to === 'bf16' ? arena.outHalves(outSize) : arena.out(outSize);
              kernels.copyStrided(viewOf(out), viewOf(x), {
                rows,
                cols,
                outStride: cols + 9,
                outOffset: 3,
                xStride,
                xOffset: 2,
                accumulate: to === 'accumulate',
              });
              return { out };
            },
          });
      }
  return list;
}
