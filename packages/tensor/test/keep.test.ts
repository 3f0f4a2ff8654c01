// Values kept in fewer bits: forward is what it was, backward reads what the smaller form stands for, and memory holds no
// more than that form in between.
import { type Kernels, loadKernels, referenceKernels, viewOf } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf, values } from '../../../test/support';
import {
  add,
  type KeptForm,
  keepAs,
  Region,
  recompute,
  swiglu,
  Tape,
  type Tensor,
  tensorFrom,
} from '../src/index';

const [rows, cols] = [5, 200];
const size = rows * cols;
const [gateIn, upIn, gradIn] = [1, 2, 3].map((seed) => values(size, seed, 4)) as [
  Float32Array,
  Float32Array,
  Float32Array,
];

const rounded = (bytes: number): number => Math.ceil(bytes / 64) * 64;
/** Bytes that each form of a matrix takes: elements, and scales where there are any. */
const bytesOf: Record<KeptForm, number> = {
  fp32: rounded(4 * size),
  bf16: rounded(2 * size),
  e5m6: rounded(1.5 * size) + rounded(4 * rows * 2),
  fp8: rounded(size) + rounded(4 * rows * 2),
};

/** y = swiglu(gate + 0, up + 0) + 0 in a frame: the sums are what is kept. */
function run(kernels: Kernels, form: KeptForm, again: boolean) {
  const inputs = new Region(kernels, 'inputs');
  const [gate, up, grad, zero] = [gateIn, upIn, gradIn, new Float32Array(size)].map((list) =>
    tensorFrom(inputs, [rows, cols], list),
  ) as [Tensor, Tensor, Tensor, Tensor];
  const region = new Region(kernels, 'test');
  const tape = new Tape(region);
  const [y] = tape.frame('test', () => {
    const [g, u] = [add(tape, gate, zero), add(tape, up, zero)];
    for (const x of [g, u]) keepAs(tape, x, form);
    const [act] = again
      ? recompute(tape, [g, u], () => [swiglu(tape, g, u)])
      : [swiglu(tape, g, u)];
    return [add(tape, act, zero)];
  });
  const held = region.liveBytes - rounded(4 * size);
  const grads = tape.backFrame([y], [grad], [gate, up]);
  const lists = [y, ...grads].map((t) => t?.readSync().slice() as Float32Array);
  for (const t of [y, ...grads]) t?.block.release();
  expect(region.liveBytes).toBe(0);
  return { held, y: lists[0], grads: lists.slice(1) };
}

/** What a form stands for. */
function decoded(kernels: Kernels, list: Float32Array, form: KeptForm): Float32Array {
  const out = new Float32Array(size);
  if (form === 'fp32') return list;
  if (form === 'bf16') {
    const half = viewOf(new Uint16Array(size));
    kernels.cast(half, viewOf(list));
    kernels.cast(viewOf(out), half);
    return out;
  }
  const scaled = {
    codes:
      form === 'fp8'
        ? viewOf(new Uint8Array(size))
        : ({ ...viewOf(new Uint8Array(1.5 * size)), dtype: 'e5m6', size } as const),
    scales: viewOf(new Float32Array(rows * 2)),
    blockRows: 1,
    blockCols: 128,
  };
  kernels.quantize(scaled, viewOf(list), { rows, cols });
  kernels.dequantize(viewOf(out), scaled, { rows, cols });
  return out;
}

const forms = Object.keys(bytesOf) as KeptForm[];

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(forms)('kept as %s', (form) => {
    test('forward is the same, gradients are those of the decoded values, and only the form is held', () => {
      const [g, u] = [gateIn, upIn].map((list) => viewOf(decoded(kernels, list, form)));
      const expected = [new Float32Array(size), new Float32Array(size)];
      const [dg, du] = expected.map(viewOf);
      kernels.swigluBackward(dg, du, viewOf(gradIn), g, u);
      for (const again of [false, true]) {
        const { held, y, grads } = run(kernels, form, again);
        expect(y).toEqual(run(kernels, 'fp32', again).y);
        expect(grads).toEqual(expected);
        expect(held).toBe(2 * bytesOf[form]);
      }
    });
  });

  test('gradients of each form are others', () => {
    const grads = forms.map((form) => String(run(kernels, form, true).grads));
    expect(new Set(grads).size).toBe(forms.length);
  });

  test('nothing is kept where nothing is recorded, or where the value is rebuilt anyway', () => {
    const region = new Region(kernels, 'test');
    const x = tensorFrom(new Region(kernels, 'inputs'), [rows, cols], gateIn);
    const silent = new Tape(region, { grad: false });
    silent.scoped(() => {
      keepAs(silent, add(silent, x, x), 'fp8');
      expect(region.liveBytes).toBe(bytesOf.fp32);
      return [];
    });
    const tape = new Tape(region);
    tape.scoped(() => {
      const [again] = recompute(tape, [x], () => [add(tape, x, x)]);
      keepAs(tape, again, 'fp8');
      expect(region.liveBytes).toBe(bytesOf.fp32);
      return [];
    });
  });

  test('a value that somebody holds until then is read as it is', () => {
    const region = new Region(kernels, 'test');
    const inputs = new Region(kernels, 'inputs');
    const [x, grad] = [gateIn, gradIn].map((list) => tensorFrom(inputs, [rows, cols], list));
    const gradientOf = (form: KeptForm): Float32Array => {
      const tape = new Tape(region);
      const [sum, y] = tape.frame('test', () => {
        const twice = add(tape, x, x);
        keepAs(tape, twice, form);
        return [twice, swiglu(tape, twice, twice)] as const;
      });
      const [dx] = tape.backFrame([sum, y], [undefined, grad], [x]);
      const list = dx?.readSync().slice() as Float32Array;
      for (const t of [sum, y, dx]) t?.block.release();
      expect(region.liveBytes).toBe(0);
      return list;
    };
    expect(gradientOf('fp8')).toEqual(gradientOf('fp32'));
  });

  test('a part of a block is refused', () => {
    const region = new Region(kernels, 'test');
    const x = tensorFrom(region, [rows, cols], gateIn);
    const tape = new Tape(region);
    expect(() => {
      keepAs(tape, x.rows(1, 2), 'fp8');
    }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_TENSOR_SHAPE' }));
  });
});
