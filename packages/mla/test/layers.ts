// A small attention layer, its inputs, and what it gives over whole sequences.
import type { Kernels } from '@baleen/kernels';
import {
  initialize,
  type LinearFactory,
  Pools,
  plainLinears,
  Region,
  Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { expect } from 'vitest';

import { values } from '../../../test/support';
import {
  type AttentionForm,
  LatentAttention,
  type MlaSpec,
  Rotary,
  softmaxScale,
  type YarnConfig,
} from '../src/index';

/** An extension that changes the tables of 16 positions. */
const yarn: YarnConfig = {
  factor: 4,
  originalMaxSequence: 8,
  betaFast: 2,
  betaSlow: 0.5,
  mscale: 1,
  mscaleAllDim: 1,
};

/** What layers differ in. */
export interface Variant {
  /** Rank of the query's latent. */
  queryRank: number | null;
  /** Context extension. */
  yarn: YarnConfig | null;
  /** How whole sequences are attended to. */
  form?: AttentionForm;
}

/** Layers by name. */
export const variants: [string, Variant][] = [
  ['query compression', { queryRank: 7, yarn: null }],
  ['plain queries', { queryRank: null, yarn: null }],
  ['query compression and YaRN', { queryRank: 7, yarn }],
];

/** Sequences of the input. */
export const batch = 2;
/** Tokens of each. */
export const length = 6;
/** Every width different, and values narrower than keys, as in V3. */
export const widths = { hidden: 10, heads: 3, nopeDim: 5, ropeDim: 4, valueDim: 6, kvRank: 8 };

/** What a test runs. */
export interface Setup {
  /** The layer. */
  layer: LatentAttention;
  /** What it is made of. */
  spec: MlaSpec;
  /** [batch · length, hidden]. */
  x: Tensor;
  /** Where it runs. */
  region: Region;
}

/**
 * A layer with random weights and norms.
 * @param kernels - the backend
 * @param variant - see {@link variants}
 * @param factory - makes its linears
 * @returns the layer, its input, and a region to run it in
 */
export function setup(
  kernels: Kernels,
  { queryRank, yarn: extension, form }: Variant,
  factory: LinearFactory = plainLinears('fp32'),
): Setup {
  const pools = new Pools(kernels);
  const spec: MlaSpec = {
    ...widths,
    queryRank,
    ...(form && { form }),
    normEps: 1e-6,
    scale: softmaxScale(widths.nopeDim + widths.ropeDim, extension),
  };
  const rotary = new Rotary(pools, 16, widths.ropeDim, 100, extension);
  const layer = new LatentAttention(pools, spec, factory, rotary);
  initialize(layer, 0.5, 4);
  // Norms begin at one; a weight that is one everywhere could be forgotten without a sign.
  for (const [name, { data }] of layer.parameters())
    if (name.includes('Norm')) data.readSync().set(values(data.size, 6).map((v) => 1 + v / 2));
  const x = tensorFrom(
    new Region(kernels, 'inputs'),
    [batch * length, widths.hidden],
    values(batch * length * widths.hidden, 7),
  );
  return { layer, spec, x, region: new Region(kernels, 'test') };
}

/**
 * Attention over whole sequences.
 * @param layer - the layer
 * @param region - where it runs
 * @param x - [sequences · length, hidden]
 * @param sequences - how many
 * @returns what it gives, of the same shape
 */
export function forward(
  layer: LatentAttention,
  region: Region,
  x: Tensor,
  sequences: number,
): Float32Array {
  const tape = new Tape(region, { grad: false });
  let y: Float32Array = new Float32Array(0);
  tape.scoped(() => {
    y = layer.forward(tape, x, sequences).readSync().slice() as Float32Array;
    return [];
  });
  expect(region.liveBytes).toBe(0);
  return y;
}
