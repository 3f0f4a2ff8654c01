// One depth of multi-token prediction: what it joins, its gradients, and bugs that other implementations shipped (each
// test of these is named after its bug, and test/conformance holds the patch that brings it back).
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import {
  add,
  checkGradients,
  initialize,
  Module,
  Parameter,
  Pools,
  plainLinears,
  Region,
  rmsNorm,
  Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf, largestDifference, values } from '../../../test/support';
import { lossWeights, MtpDepth, mtpTargets } from '../src/index';

/** Stands in for a decoder block: position by position. */
class Block extends Module {
  readonly norm: Parameter;
  constructor(pools: Pools, hidden: number) {
    super();
    this.norm = this.parameter('norm.weight', new Parameter(pools, [hidden]));
  }
  forward(tape: Tape, h: Tensor): Tensor {
    return add(tape, h, rmsNorm(tape, h, this.norm, 1e-6));
  }
}

const [batch, length, hidden] = [2, 5, 4];

function setup(kernels: Kernels, depth: number) {
  const pools = new Pools(kernels);
  const spec = { hidden, normEps: 1e-6 };
  const block = new Block(pools, hidden);
  const module = new MtpDepth(pools, depth, spec, block, plainLinears('fp32'));
  initialize(module, 0.5, depth);
  const parameters = new Map(module.parameters());
  const data = (name: string): Float32Array => {
    const parameter = parameters.get(name);
    if (!parameter) throw new Error(`no parameter ${name}`);
    return parameter.data.readSync() as Float32Array;
  };
  for (const name of ['embeddingNorm.weight', 'hiddenNorm.weight', 'norm.weight'])
    data(name).set(values(hidden, name.length).map((value) => 1 + value / 2));
  const inputs = new Region(kernels, 'inputs');
  const rows = batch * (length - depth + 1);
  const previous = tensorFrom(inputs, [rows, hidden], values(rows * hidden, 1));
  const embedded = tensorFrom(inputs, [batch, length, hidden], values(batch * length * hidden, 2));
  return { module, block, data, inputs, previous, embedded, region: new Region(kernels, 'test') };
}

/** RMSNorm of one row. */
function normed(row: ArrayLike<number>, weight: ArrayLike<number>): number[] {
  const list = Array.from(row);
  const root = Math.sqrt(list.reduce((sum, v) => sum + v * v, 0) / list.length + 1e-6);
  return list.map((v, i) => (v / root) * weight[i]);
}

function run(region: Region, body: (tape: Tape) => Tensor): Float32Array {
  const tape = new Tape(region, { grad: false });
  let result: Float32Array = new Float32Array(0);
  tape.scoped(() => {
    result = body(tape).readSync().slice() as Float32Array;
    return [];
  });
  return result;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each([1, 2])('depth %i', (depth) => {
    test('gradients of the stream, the embeddings and every weight', () => {
      const { module, block, previous, embedded, region } = setup(kernels, depth);
      const results = checkGradients({
        region,
        inputs: { previous, embedded },
        module,
        body: (tape) =>
          module.normed(tape, block.forward(tape, module.join(tape, previous, embedded, batch))),
      });
      expect(results).toHaveLength(3 * (2 + 5));
      for (const { name, error } of results) expect(error, name).toBeLessThan(3e-3);
      expect(region.liveBytes).toBe(0);
    });

    // deepseek-ai/DeepSeek-V3#712: the released weights take the embedding first, the paper's equation 21 the state.
    test('the hidden state is joined before the embedding', () => {
      const { module, data, previous, embedded, region } = setup(kernels, depth);
      const got = run(region, (tape) => module.join(tape, previous, embedded, batch));
      const count = length - depth;
      const expected: number[] = [];
      for (let b = 0; b < batch; b += 1)
        for (let i = 0; i < count; i += 1) {
          const token = (b * length + i + depth) * hidden;
          const state = (b * (count + 1) + i) * hidden;
          const joined = [
            ...normed(
              embedded.readSync().slice(token, token + hidden),
              data('embeddingNorm.weight'),
            ),
            ...normed(previous.readSync().slice(state, state + hidden), data('hiddenNorm.weight')),
          ];
          for (let o = 0; o < hidden; o += 1)
            expected.push(
              joined.reduce(
                (sum, v, c) => sum + v * data('projection.weight')[o * 2 * hidden + c],
                0,
              ),
            );
        }
      expect(largestDifference(got, expected)).toBeLessThan(1e-5);
    });
  });

  // alibaba/Pai-Megatron-Patch#538
  test('the norm before the head is missing', () => {
    const { module, data, inputs, region } = setup(kernels, 1);
    const h = tensorFrom(inputs, [3, hidden], values(3 * hidden, 9, 50));
    const got = run(region, (tape) => module.normed(tape, h));
    const rows = [0, 1, 2].map((r) => h.readSync().slice(r * hidden, (r + 1) * hidden));
    const expected = rows.flatMap((row) => normed(row, data('norm.weight')));
    expect(largestDifference(got, expected)).toBeLessThan(1e-5);
  });

  test('sequences too short for a depth are refused', () => {
    const { module, inputs, region } = setup(kernels, 2);
    const embedded = tensorFrom(inputs, [2, 2, hidden], new Float32Array(16));
    const previous = tensorFrom(inputs, [2, hidden], new Float32Array(8));
    const tape = new Tape(region, { grad: false });
    expect(() => module.join(tape, previous, embedded, 2)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_MTP_SEQUENCE' }),
    );
  });
});

// NVIDIA/Megatron-LM#1532 and #3159
test('positions weigh by the micro-batch instead of the batch', () => {
  // Two micro-batches with two and one counted positions at depth 1: each position of the batch weighs the same.
  const next = [Int32Array.of(1, 2, 3, 4, 5), Int32Array.of(1, 2, 3, 4, 5)];
  const documents = [Int32Array.of(0, 0, 0, 0, 1, 1), Int32Array.of(0, 0, 0, 1, 2, 3)];
  const depths = next.map((list, m) =>
    mtpTargets(
      list,
      { inputs: documents[m].slice(0, 5), targets: documents[m].slice(1) },
      { batch: 1, length: 5, depth: 1 },
    ),
  );
  const counts = depths.map((list) => list.filter((target) => target >= 0).length);
  expect(counts).toEqual([2, 1]);
  const weights = depths.map((list, m) => lossWeights([next[m], list], [10, 3], 0.3));
  for (const [m, list] of weights.entries())
    list.forEach((weight, i) => {
      const target = i < 5 ? next[m][i] : depths[m][i - 5];
      expect(weight).toBe(target < 0 ? 0 : Math.fround(i < 5 ? 1 / 10 : 0.3 / 3));
    });
});

// NVIDIA/Megatron-LM#1532: the mask of the next token, not rolled along.
test('depths predict across the ends of documents', () => {
  const documents = { inputs: Int32Array.of(0, 0, 0, 1, 1), targets: Int32Array.of(0, 0, 1, 1, 1) };
  const next = Int32Array.of(11, 12, 13, 14, 15);
  const sizes = { batch: 1, length: 5 };
  expect([...mtpTargets(next, documents, { ...sizes, depth: 1 })]).toEqual([12, -1, -1, 15]);
  expect([...mtpTargets(next, documents, { ...sizes, depth: 2 })]).toEqual([-1, -1, -1]);
});
