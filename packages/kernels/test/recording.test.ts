// Recordings: calls made again do what they did, on whatever their memory holds by then.
import {
  type Kernels,
  nativeKernels,
  profileKernels,
  referenceKernels,
  viewOf,
} from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

const native = nativeKernels();

describe.skipIf(native === null)('recordings', () => {
  const kernels = native as Kernels;
  const record = (body: () => void) => {
    if (!kernels.record) throw new Error('native kernels record');
    return kernels.record(body);
  };

  test('make the same calls on the same memory: products in FP8 with their scales, sizes with views', () => {
    const [rows, n, k, groups] = [5, 3, 130, 2];
    const x = Float32Array.from({ length: rows * k }, (_, i) => Math.sin(i));
    const weight = Float32Array.from({ length: groups * n * k }, (_, i) => Math.cos(i));
    const offsets = Int32Array.of(0, 2, 5);
    const scaled = (count: number, scales: number, blockRows: number) => ({
      codes: viewOf(new Uint8Array(count)),
      scales: viewOf(new Float32Array(scales)),
      blockRows,
      blockCols: 128,
    });
    const [a, b] = [scaled(rows * k, rows * 2, 1), scaled(groups * n * k, groups * 2, 128)];
    const out = new Float32Array(rows * n);
    const calls = (): void => {
      kernels.quantize(a, viewOf(x), { rows, cols: k });
      kernels.quantize(b, viewOf(weight), { rows: n, cols: k, stack: groups });
      const sizes = { groups, rows, n, k, transB: true };
      kernels.groupedGemm(viewOf(out), a, b, viewOf(offsets), sizes);
      kernels.scale(viewOf(out), viewOf(out), 3);
    };
    const recording = record(calls);
    const first = out.slice();
    expect(first.some((value) => value !== 0)).toBe(true);

    out.fill(0);
    recording.replay();
    expect(out).toEqual(first);

    x.forEach((value, i) => {
      x[i] = value * value - 0.3;
    });
    offsets[1] = 4;
    recording.replay();
    const again = out.slice();
    expect(again).not.toEqual(first);
    calls();
    expect(out).toEqual(again);
  });

  test('do not nest, and one that failed leaves the way free for the next', () => {
    const out = new Float32Array(2);
    expect(() => record(() => record(() => undefined))).toThrow(/recordings do not nest/);
    expect(() =>
      record(() => {
        throw new Error('from within');
      }),
    ).toThrow('from within');
    const recording = record(() => {
      kernels.fill(viewOf(out), 2);
    });
    out.fill(0);
    recording.replay();
    expect([...out]).toEqual([2, 2]);
  });

  test('are seen by a profile with the sizes of their calls, which are those of the reference', () => {
    const [rows, cols, groups] = [6, 130, 2];
    const quantized = {
      codes: viewOf(new Uint8Array(rows * cols)),
      scales: viewOf(new Float32Array(rows * 2)),
      blockRows: 1,
      blockCols: 128,
    };
    const [x, weight, out] = [rows * cols, groups * 3 * cols, rows * 3].map((size) =>
      viewOf(new Float32Array(size)),
    );
    const offsets = viewOf(Int32Array.of(0, 2, rows));
    const chosen = viewOf(new Int32Array(rows));
    const calls = (to: Kernels): void => {
      to.quantize(quantized, x, { rows, cols });
      to.groupedGemm(out, x, weight, offsets, { groups, rows, n: 3, k: cols, transB: true });
      to.topK(chosen, out, null, { tokens: rows, experts: 3, k: 1, groups: 1, groupsKept: 1 });
    };
    const seen = [kernels, referenceKernels()].map((implementation) => {
      const profile = profileKernels(implementation);
      const recording =
        implementation.record &&
        record(() => {
          calls(implementation);
        });
      profile.start();
      recording?.replay();
      calls(profile.kernels);
      return profile.stop().map(({ kernel, operands, sizes }) => ({ kernel, operands, sizes }));
    });
    expect(seen[0]).toEqual([...seen[1], ...seen[1]]);
    const unsaid = { promotion: 0, fractionBits: 0, alignedSum: 0 };
    expect(seen[1][1]).toEqual({
      kernel: 'groupedGemm',
      operands: [
        { dtype: 'f32', size: rows * 3 },
        { dtype: 'f32', size: rows * cols },
        { dtype: 'f32', size: groups * 3 * cols },
        { dtype: 'i32', size: groups + 1 },
      ],
      sizes: { groups, rows, n: 3, k: cols, transB: 1, accumulate: 0, ...unsaid },
    });
    expect(seen[1][0].operands[0]).toEqual({ dtype: 'e4m3', size: rows * cols });
    expect(seen[1][2].operands[2]).toBeNull();
  });

  test('are seen call by call by a profile', () => {
    const out = new Float32Array(2);
    const recording = record(() => {
      kernels.fill(viewOf(out), 2);
      kernels.scale(viewOf(out), viewOf(out), 2);
    });
    const profile = profileKernels(kernels);
    profile.start();
    recording.replay();
    profile.kernels.fill(viewOf(out), 1);
    const spans = profile.stop();
    recording.replay();
    expect(spans.map(({ kernel }) => kernel)).toEqual(['fill', 'scale', 'fill']);
    const moments = spans.flatMap(({ begin, end }) => [begin, end]);
    expect(moments).toEqual([...moments].sort((a, b) => a - b));
    profile.start();
    expect(profile.stop()).toEqual([]);
  });
});

describe.skipIf(native === null)('a profile', () => {
  const kernels = native as Kernels & { record: NonNullable<Kernels['record']> };
  // More logits than there are addresses: the kernel throws when it asks for memory.
  const tooMany = 2 ** 50;
  const loss = (vocab: number): void => {
    const [none, one] = [viewOf(new Float32Array(0)), viewOf(new Float32Array(1))];
    const sizes = { rows: 1, hidden: 0, vocab };
    kernels.linearCrossEntropy(one, none, none, viewOf(new Int32Array(1)), sizes);
  };
  const fill = (size: number): void => {
    kernels.fill(viewOf(new Float32Array(size)), 1);
  };
  const seen = (body: () => void): [string, number | undefined][] => {
    const profile = profileKernels(kernels);
    profile.start();
    body();
    return profile.stop().map(({ kernel, operands: [out] }) => [kernel, out?.size]);
  };
  const failure = expect.objectContaining({ code: 'ERR_BALEEN_KERNELS_MEMORY' }) as Error;

  test('leaves out a call that throws, and no call after it takes its place', () => {
    const spans = seen(() => {
      fill(1);
      expect(() => {
        loss(tooMany);
      }).toThrow(failure);
      fill(2);
      kernels.sum(viewOf(new Float32Array(1)), viewOf(new Float32Array(9)));
    });
    expect(spans).toEqual([
      ['fill', 1],
      ['fill', 2],
      ['sum', 1],
    ]);
  });

  test('of a recording that throws has the calls before that one', () => {
    const recording = kernels.record(() => {
      fill(1);
      loss(12345);
      fill(2);
    });
    const { calls } = recording as unknown as { calls: Float64Array };
    calls[calls.indexOf(12345)] = tooMany;
    const spans = seen(() => {
      fill(3);
      expect(() => {
        recording.replay();
      }).toThrow(failure);
      fill(4);
    });
    expect(spans).toEqual([
      ['fill', 3],
      ['fill', 1],
      ['fill', 4],
    ]);
  });
});

test('a profile of the reference notes calls while it is on', () => {
  const profile = profileKernels(referenceKernels());
  const { kernels } = profile;
  const out = new Float32Array(3);
  kernels.fill(viewOf(out), 1);
  profile.start();
  kernels.scale(viewOf(out), viewOf(out), 5);
  const [span, ...others] = profile.stop();
  kernels.fill(viewOf(out), 1);
  expect(others).toEqual([]);
  expect(span.kernel).toBe('scale');
  expect(span.end).toBeGreaterThanOrEqual(span.begin);
  // A recording would pass by the wrapper unheard.
  expect(kernels.record).toBeUndefined();
  expect(profile.stop()).toEqual([]);
});
