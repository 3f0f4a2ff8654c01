// Attention on typed arrays: against loops that read like the equations, its gradients against slopes of those loops,
// and against the form on tensors.
import {
  decodeBf16Array,
  encodeBf16Array,
  type Kernels,
  loadKernels,
  referenceKernels,
} from '@baleen/kernels';
import { Pools, Region, Tape, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import {
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import {
  type AttendLatentsSizes,
  type AttendSizes,
  attend,
  attendBackward,
  attendLatents,
  attendLatentsBackward,
  latentAttention,
  Rotary,
  rotaryTables,
} from '../src/index';

type Numbers = ArrayLike<number>;
/** All sizes of whole sequences. */
type Complete<S extends { documents?: unknown }> = Required<Omit<S, 'documents'>>;

/** Query i of a sequence sees keys 0 … keys − queries + i; in float64. */
function literal(q: Numbers, k: Numbers, v: Numbers, sizes: Complete<AttendSizes>) {
  const { batch, queries, keys, heads, queryWidth, valueWidth, scale } = sizes;
  const output: number[] = [];
  const lse: number[] = new Array<number>(batch * heads * queries).fill(0);
  for (let b = 0; b < batch; b += 1)
    for (let i = 0; i < queries; i += 1)
      for (let h = 0; h < heads; h += 1) {
        const exps = Array.from({ length: keys - queries + i + 1 }, (_, j) => {
          let dot = 0;
          for (let d = 0; d < queryWidth; d += 1)
            dot +=
              q[((b * queries + i) * heads + h) * queryWidth + d] *
              k[((b * keys + j) * heads + h) * queryWidth + d];
          return Math.exp(scale * dot);
        });
        const total = exps.reduce((sum, e) => sum + e, 0);
        lse[(b * heads + h) * queries + i] = Math.log(total);
        for (let d = 0; d < valueWidth; d += 1)
          output.push(
            exps.reduce(
              (sum, e, j) => sum + (e / total) * v[((b * keys + j) * heads + h) * valueWidth + d],
              0,
            ),
          );
      }
  return { output, lse };
}

/** Rotates pairs, joins the shared rotary key to every head's own, and attends. */
function literalLatents(
  { q, kv, kRope }: { q: Numbers; kv: Numbers; kRope: Numbers },
  sizes: Complete<AttendLatentsSizes>,
) {
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim } = sizes;
  const rotate = (x: number[], position: number): number[] =>
    x.map((value, i) => {
      const at = position * (ropeDim / 2) + (i >> 1);
      const [c, s] = [tables.cos[at], tables.sin[at]];
      return i % 2 === 0 ? value * c - x[i + 1] * s : value * c + x[i - 1] * s;
    });
  const part = (x: Numbers, start: number, count: number): number[] =>
    Array.from({ length: count }, (_, i) => x[start + i]);
  const full = { q: [] as number[], k: [] as number[], v: [] as number[] };
  for (let row = 0; row < batch * queries; row += 1)
    for (let h = 0; h < heads; h += 1) {
      const at = (row * heads + h) * (nopeDim + ropeDim);
      const position = keys - queries + (row % queries);
      full.q.push(...part(q, at, nopeDim), ...rotate(part(q, at + nopeDim, ropeDim), position));
    }
  for (let row = 0; row < batch * keys; row += 1)
    for (let h = 0; h < heads; h += 1) {
      const at = (row * heads + h) * (nopeDim + valueDim);
      const shared = rotate(part(kRope, row * ropeDim, ropeDim), row % keys);
      full.k.push(...part(kv, at, nopeDim), ...shared);
      full.v.push(...part(kv, at + nopeDim, valueDim));
    }
  const dims = { ...sizes, queryWidth: nopeDim + ropeDim, valueWidth: valueDim };
  return { ...full, ...literal(full.q, full.k, full.v, dims) };
}

/** The gradient of Σ weight · f(x), by central differences in float64. */
function slopes(x: Float32Array, weight: Numbers, f: (x: number[]) => Numbers): number[] {
  const at = (index: number, step: number): number => {
    const moved = [...x];
    moved[index] += step;
    const y = f(moved);
    return Array.from(weight).reduce((sum, w, i) => sum + w * y[i], 0);
  };
  return Array.from(x, (_, i) => (at(i, 1e-5) - at(i, -1e-5)) / 2e-5);
}

/** Odd widths, values wider and narrower than keys, one query and several, before and behind a cache. */
const fullCases: Complete<AttendSizes>[] = [
  { batch: 2, queries: 5, keys: 5, heads: 3, queryWidth: 5, valueWidth: 7, scale: 0.7 },
  { batch: 3, queries: 2, keys: 5, heads: 1, queryWidth: 9, valueWidth: 3, scale: 1.1 },
  { batch: 1, queries: 1, keys: 1, heads: 1, queryWidth: 1, valueWidth: 1, scale: 1 },
];
const latentWidths = { heads: 3, nopeDim: 5, ropeDim: 4, valueDim: 7 };
const latentCases: Complete<AttendLatentsSizes>[] = [
  { ...latentWidths, batch: 2, queries: 5, keys: 5, scale: 0.5, precision: 'fp32' },
  { ...latentWidths, batch: 1, queries: 2, keys: 5, scale: 0.4, precision: 'fp32' },
];
const tables = rotaryTables(6, latentWidths.ropeDim, 100, null);

function fullInput({ batch, queries, keys, heads, queryWidth, valueWidth }: Complete<AttendSizes>) {
  return {
    q: values(batch * queries * heads * queryWidth, 1),
    k: values(batch * keys * heads * queryWidth, 2),
    v: values(batch * keys * heads * valueWidth, 3),
  };
}

function latentInput(sizes: Complete<AttendLatentsSizes>) {
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim } = sizes;
  return {
    q: values(batch * queries * heads * (nopeDim + ropeDim), 4),
    kv: values(batch * keys * heads * (nopeDim + valueDim), 5),
    kRope: values(batch * keys * ropeDim, 6),
  };
}

/** The same through the tape: output and gradients. */
function onTensors(kernels: Kernels, sizes: Complete<AttendLatentsSizes>, dout: Float32Array) {
  const region = new Region(kernels, 'test');
  const rotary = new Rotary(new Pools(kernels), 6, sizes.ropeDim, 100, null);
  const { q, kv, kRope } = latentInput(sizes);
  const { batch, queries, keys } = sizes;
  const tensor = (x: Float32Array, rows: number): Tensor =>
    tensorFrom(region, [rows, x.length / rows], x);
  const inputs = [
    tensor(q, batch * queries),
    tensor(kv, batch * keys),
    tensor(kRope, batch * keys),
  ];
  const tape = new Tape(region);
  const [output] = tape.frame('test', () => [
    latentAttention(tape, inputs[0], inputs[1], inputs[2], rotary, sizes),
  ]);
  const gradients = tape.backFrame([output], [tensor(dout, batch * queries)], inputs);
  return [output, ...gradients].map((t) => t?.readSync().slice() as Float32Array);
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(fullCases)('full heads, %o', (sizes) => {
    const input = fullInput(sizes);
    const exact = literal(input.q, input.k, input.v, sizes);

    test('output and log-sum-exp are the loops’', () => {
      const { output, lse } = attend(input, sizes, { kernels });
      expect(largestDifference(output, exact.output)).toBeLessThan(1e-5);
      expect(largestDifference(lse, exact.lse)).toBeLessThan(1e-5);
    });

    test('BF16 operands give what their values give, to the rounding of probabilities', () => {
      const rounded = {
        q: encodeBf16Array(input.q),
        k: encodeBf16Array(input.k),
        v: encodeBf16Array(input.v),
      };
      const [q, k, v] = [rounded.q, rounded.k, rounded.v].map((x) => decodeBf16Array(x));
      const { output } = attend(rounded, sizes, { kernels });
      expect(largestDifference(output, literal(q, k, v, sizes).output)).toBeLessThan(2 ** -7);
    });

    test('gradients are the slopes of the loops', () => {
      const dout = values(exact.output.length, 7);
      const forward = { ...input, ...attend(input, sizes, { kernels }) };
      const { dq, dk, dv } = attendBackward(dout, forward, sizes, { kernels });
      const { q, k, v } = input;
      const ofQ = slopes(q, dout, (x) => literal(x, k, v, sizes).output);
      expect(largestDifference(dq, ofQ)).toBeLessThan(1e-5);
      const ofK = slopes(k, dout, (x) => literal(q, x, v, sizes).output);
      expect(largestDifference(dk, ofK)).toBeLessThan(1e-5);
      const ofV = slopes(v, dout, (x) => literal(q, k, x, sizes).output);
      expect(largestDifference(dv, ofV)).toBeLessThan(1e-5);
    });
  });

  describe.each(latentCases)('latents, %o', (sizes) => {
    const input = latentInput(sizes);
    const exact = literalLatents(input, sizes);
    const dout = values(exact.output.length, 8);

    test('output, log-sum-exp and full heads are the loops’', () => {
      const attended = attendLatents(input, tables, sizes, { kernels });
      for (const name of ['output', 'lse', 'q', 'k', 'v'] as const)
        expect(largestDifference(attended[name], exact[name]), name).toBeLessThan(1e-5);
    });

    test('gradients are the slopes of the loops', () => {
      const attended = attendLatents(input, tables, sizes, { kernels });
      const gradients = attendLatentsBackward(dout, attended, tables, sizes, { kernels });
      for (const [name, gradient] of [
        ['q', gradients.dq],
        ['kv', gradients.dkv],
        ['kRope', gradients.dkRope],
      ] as const) {
        const numeric = slopes(
          input[name],
          dout,
          (x) => literalLatents({ ...input, [name]: x }, sizes).output,
        );
        expect(largestDifference(gradient, numeric), name).toBeLessThan(1e-5);
      }
    });

    test.each(['fp32', 'bf16'] as const)('in %s, the same bits as on tensors', (precision) => {
      const settings = { ...sizes, precision };
      const attended = attendLatents(input, tables, settings, { kernels });
      const { dq, dkv, dkRope } = attendLatentsBackward(dout, attended, tables, settings, {
        kernels,
      });
      const lists = [attended.output, dq, dkv, dkRope];
      onTensors(kernels, settings, dout).forEach((expected, i) => {
        expect(firstDifference(lists[i], expected), `list ${i}`).toBe(-1);
      });
    });
  });

  test('what is not said is one sequence, as many keys as queries, and 1/√width', () => {
    const [full] = fullCases;
    const input = fullInput({ ...full, batch: 1 });
    const { heads, queryWidth, valueWidth, queries } = full;
    const short = attend(input, { heads, queryWidth, valueWidth, queries }, { kernels });
    const scale = 1 / Math.sqrt(queryWidth);
    expect(short).toEqual(attend(input, { ...full, batch: 1, scale }, { kernels }));
    const [latent] = latentCases;
    const latents = latentInput({ ...latent, batch: 1 });
    expect(
      attendLatents(latents, tables, { ...latentWidths, queries: latent.queries }, { kernels }),
    ).toEqual(attendLatents(latents, tables, { ...latent, batch: 1, scale: 1 / 3 }, { kernels }));
  });

  test.each(['fp32', 'bf16'] as const)('%s writes into what it is given', (precision) => {
    const sizes = { ...latentCases[0], precision };
    const input = latentInput(sizes);
    const fresh = attendLatents(input, tables, sizes, { kernels });
    const arrays = Object.entries(fresh).map(
      ([name, array]: [string, Float32Array | Uint16Array]) => [name, array.slice().fill(NaN)],
    );
    const out = Object.fromEntries(arrays) as typeof fresh;
    const before = { ...out };
    expect(attendLatents(input, tables, sizes, { kernels, out })).toBe(out);
    expect(out).toEqual(fresh);
    for (const name of ['output', 'lse', 'q', 'k', 'v'] as const)
      expect(out[name]).toBe(before[name]);
    const dout = values(fresh.output.length, 9);
    const gradients = attendLatentsBackward(dout, fresh, tables, sizes, { kernels });
    const expected = structuredClone(gradients);
    for (const array of Object.values(gradients) as Float32Array[]) array.fill(NaN);
    expect(attendLatentsBackward(dout, fresh, tables, sizes, { kernels, out: gradients })).toBe(
      gradients,
    );
    expect(gradients).toEqual(expected);
  });
});

describe('refused, with the argument’s name and its shape:', () => {
  const [full] = fullCases;
  const [latent] = latentCases;
  const input = fullInput(full);
  const latents = latentInput(latent);
  const refusal = (path: string, code = 'ERR_BALEEN_MLA_SIZES'): unknown =>
    expect.objectContaining({ code, path, hint: expect.any(String) as string });

  test.each<[string, Partial<AttendSizes>]>([
    ['heads', { heads: 0 }],
    ['queryWidth', { queryWidth: 2.5 }],
    ['valueWidth', { valueWidth: NaN }],
    ['batch', { batch: -1 }],
    ['keys', { keys: 4 }],
    ['q', { queryWidth: 6 }],
    ['k', { keys: 6 }],
    ['v', { valueWidth: 6 }],
  ])('%s of full heads', (path, change) => {
    expect(() => attend(input, { ...full, ...change })).toThrow(refusal(path));
  });

  test.each<[string, Partial<AttendLatentsSizes>, string?]>([
    ['valueDim', { valueDim: 0 }],
    ['ropeDim', { ropeDim: 3 }],
    ['keys', { keys: 7 }, 'ERR_BALEEN_MLA_SEQUENCE'],
    ['q', { nopeDim: 6 }],
    ['kv', { valueDim: 6 }],
    ['kRope', { nopeDim: 7, ropeDim: 2, valueDim: 5 }],
  ])('%s of latents', (path, change, code) => {
    const sizes = { ...latent, ...change };
    expect(() => attendLatents(latents, tables, sizes)).toThrow(refusal(path, code));
  });

  test('arrays to write into', () => {
    const out = attend(input, full);
    const lse = new Float32Array(1);
    expect(() => attend(input, full, { out: { ...out, lse } })).toThrow(refusal('out.lse'));
    const forward = { ...input, ...out };
    expect(() => attendBackward(lse, forward, full)).toThrow(refusal('dout'));
    expect(() => attendBackward(out.output, { ...forward, lse }, full)).toThrow(refusal('lse'));
    const attended = attendLatents(latents, tables, latent);
    expect(() =>
      attendLatents(latents, tables, { ...latent, precision: 'bf16' }, { out: attended }),
    ).toThrow(refusal('out.q'));
    const gradients = attendLatentsBackward(attended.output, attended, tables, latent);
    for (const name of ['dq', 'dk', 'dv', 'dkv', 'dkRope'] as const)
      expect(() =>
        attendLatentsBackward(attended.output, attended, tables, latent, {
          out: { ...gradients, [name]: lse },
        }),
      ).toThrow(refusal(`out.${name}`));
  });

  test('the message counts', () => {
    expect(() => attend({ ...input, q: new Float32Array(7) }, full)).toThrow(
      'q holds 7 values, expected 150 (2 · 5 · 3 · 5)',
    );
  });
});
