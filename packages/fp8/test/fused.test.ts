// A norm or an activation quantised where it is made is, in output and every gradient, to the bit what it was in two
// steps: in FP8, where it is one node of the tape, and in the plain precisions, which have no such kernels.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import {
  initialize,
  type LinearFactory,
  Parameter,
  Pools,
  plainLinears,
  Region,
  recompute,
  rmsNorm,
  swiglu,
  Tape,
  type Tensor,
  tensorFrom,
  type Value,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { firstDifference, implementationsOf, values } from '../../../test/support';
import { fp8Linears } from '../src/index';

const [rows, width, inner, outer] = [150, 136, 264, 72];
const borders = Int32Array.of(0, 130, 130, 150);

interface How {
  fused: boolean;
  grouped: boolean;
  again: boolean;
  powerOfTwo: boolean;
  /** Which readers' gradients flow: the products' (`low`), the normed values' own, or both. */
  flows: 'both' | 'low' | 'normed';
}

/** x → norm → gate and up → SwiGLU → down, and the normed values beside: all results. */
function run(kernels: Kernels, factory: LinearFactory, how: How): Float32Array[] {
  const { fused, powerOfTwo } = how;
  const pools = new Pools(kernels);
  const inputs = new Region(kernels, 'inputs');
  const x = tensorFrom(inputs, [rows, width], values(rows * width, 1));
  const grads = [outer, width].map((cols, i) =>
    tensorFrom(inputs, [rows, cols], values(rows * cols, 2 + i)),
  );
  const offsets = tensorFrom(inputs, [4], borders);
  const make = <Name extends string>(spec: { in: number; outs: Record<Name, number> }) =>
    how.grouped
      ? factory.groupedLinear(pools, { ...spec, experts: 3, powerOfTwo })
      : factory.linear(pools, { ...spec, powerOfTwo });
  const wide = make({ in: width, outs: { gate: inner, up: inner } });
  const down = make({ in: inner, outs: { down: outer } });
  initialize(wide, 0.05, 1);
  initialize(down, 0.05, 2);
  const norm = new Parameter(pools, [width], { init: 'ones' });
  norm.data.readSync().set(values(width, 4));

  const region = new Region(kernels, 'test');
  const tape = new Tape(region);
  const within = <T extends readonly Value[]>(from: readonly Value[], body: () => T): T =>
    how.again ? recompute(tape, from, body) : body();
  const epsilon = 1e-6;
  const outputs = tape.frame('test', () => {
    const [low, normed] = within([x], () => {
      if (fused) return wide.prepareNormed(tape, x, norm, epsilon, true);
      const y = rmsNorm(tape, x, norm, epsilon);
      return [wide.prepare(tape, y), y] as const;
    });
    const { gate, up } = wide.forward(tape, low, offsets);
    const [act] = within([gate, up], () => [
      fused ? down.prepareGated(tape, gate, up) : down.prepare(tape, swiglu(tape, gate, up)),
    ]);
    return [down.forward(tape, act, offsets).down, normed] as [Tensor, Tensor];
  });
  const copies = outputs.map((y) => y.readSync().slice() as Float32Array);
  const given = [
    how.flows === 'normed' ? undefined : grads[0],
    how.flows === 'low' ? undefined : grads[1],
  ];
  const [dx] = tape.backFrame(outputs, given, [x]);
  const weights = [
    norm,
    ...Object.values<Parameter>(wide.weights),
    ...Object.values<Parameter>(down.weights),
  ];
  for (const tensor of [dx, ...weights.map(({ grad }) => grad)])
    copies.push(tensor?.readSync().slice() as Float32Array);
  dx?.block.release();
  for (const { block } of outputs) block.release();
  expect(region.liveBytes).toBe(0);
  return copies;
}

const factories: [string, LinearFactory][] = [
  ['fp8', fp8Linears()],
  ['bf16', plainLinears('bf16')],
  ['fp32', plainLinears('fp32')],
];

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each(factories)('%s: one pass or two, the same bits', (_name, factory) => {
    for (const grouped of [false, true])
      for (const again of [false, true])
        for (const powerOfTwo of [false, true])
          for (const flows of ['both', 'low', 'normed'] as const) {
            const how = { grouped, again, powerOfTwo, flows };
            const actual = run(kernels, factory, { ...how, fused: true });
            const expected = run(kernels, factory, { ...how, fused: false });
            expect(
              actual.map((list, i) => firstDifference(list, expected[i])),
              JSON.stringify(how),
            ).toEqual(expected.map(() => -1));
            expect(actual[2].some((value) => value !== 0)).toBe(true);
          }
  });

  test('FP8 takes the one pass, without an FP32 form that nobody asked for', () => {
    const calls: string[] = [];
    const listening = new Proxy(kernels, {
      get: (target, name) => {
        if (/rmsNorm|swiglu|quantize/.test(String(name))) calls.push(String(name));
        return Reflect.get(target, name) as unknown;
      },
    });
    const region = new Region(listening, 'test');
    const pools = new Pools(listening);
    const layer = fp8Linears().linear(pools, { in: 256, outs: { out: 8 } });
    const x = tensorFrom(region, [3, 256], values(768, 1));
    const norm = new Parameter(pools, [256], { init: 'ones' });
    const before = region.liveBytes;
    const tape = new Tape(region, { grad: false });
    tape.scoped(() => {
      layer.prepareNormed(tape, x, norm, 1e-6);
      layer.prepareGated(tape, x, x);
      // Codes and scales of both, and rstd.
      expect(region.liveBytes - before).toBe(2 * (768 + 64) + 64);
      return [];
    });
    expect(calls).toEqual(['rmsNormQuantize', 'swigluQuantize']);
  });
});
