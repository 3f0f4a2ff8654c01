// Bugs that other implementations of this router shipped. Each test is named after its bug, and test/conformance holds
// the patch that brings the bug back.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import {
  AdamW,
  initialize,
  Pools,
  Region,
  recompute,
  Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf, randomFrom } from '../../../test/support';
import { maxViolation, Router, type RouterSpec } from '../src/index';

/** A router whose logits are its input: the weight is the identity. */
function identity(kernels: Kernels, changes: Partial<RouterSpec>, experts = 4) {
  const router = new Router(new Pools(kernels), {
    hidden: experts,
    experts,
    expertsPerToken: 2,
    groups: 1,
    groupsPerToken: 1,
    scaling: 1,
    normalize: true,
    ...changes,
  });
  const weight = router.weight.data.readSync();
  for (let e = 0; e < experts; e += 1) weight[e * experts + e] = 1;
  const region = new Region(kernels, 'test');
  const inputs = new Region(kernels, 'inputs');
  const logits = (...scores: number[]): Tensor =>
    tensorFrom(
      inputs,
      [scores.length / experts, experts],
      Float32Array.from(scores, (score) => Math.log(score / (1 - score))),
    );
  const route = (x: Tensor): { indices: number[]; weights: number[] } => {
    const tape = new Tape(region, { grad: false });
    const result = { indices: [] as number[], weights: [] as number[] };
    tape.scoped(() => {
      const routing = router.forward(tape, x);
      result.indices = [...routing.indices.readSync()];
      result.weights = [...routing.weights.readSync()];
      return [];
    });
    return result;
  };
  /** One training micro-batch. */
  const train = (x: Tensor): void => {
    const tape = new Tape(region);
    const [weights] = tape.frame('micro-batch', () => [router.forward(tape, x).weights]);
    weights.block.release();
    tape.abandon();
  };
  return { router, region, inputs, logits, route, train };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  // vllm-project/vllm#12002, huggingface/transformers#41647
  test('bias leaks into gate weights', () => {
    const { router, logits, route } = identity(kernels, { scaling: 2.5 });
    router.bias.readSync().set([0, 5, 0, 0]);
    const { indices, weights } = route(logits(0.6, 0.1, 0.3, 0.2));
    expect(indices).toEqual([1, 0]); // the bias decides who is chosen
    expect(weights[0]).toBeCloseTo((2.5 * 0.1) / 0.7, 5); // and nothing else
    expect(weights[1]).toBeCloseTo((2.5 * 0.6) / 0.7, 5);
  });

  // vllm-project/vllm#13474, deepseek-ai/DeepSeek-V3#741, flashinfer-ai/flashinfer#2168
  test('masked groups are zero instead of minus infinity', () => {
    const { router, logits, route } = identity(kernels, { groups: 2 });
    router.bias.readSync().fill(-3); // every biased score is below zero
    expect(route(logits(0.9, 0.2, 0.8, 0.7)).indices).toEqual([2, 3]);
    expect(route(logits(0.9, 0.7, 0.8, 0.2)).indices).toEqual([0, 1]);
  });

  // vllm-project/vllm#13474
  test('a group counts by its best expert instead of its two best', () => {
    const { logits, route } = identity(kernels, { groups: 2 });
    expect(route(logits(0.95, 0.1, 0.6, 0.55)).indices).toEqual([2, 3]);
  });

  // AI-Hypercomputer/maxtext#2494
  test('the bias is never updated', () => {
    const { router, logits, train } = identity(kernels, {});
    const x = logits(0.9, 0.8, 0.1, 0.2);
    for (let step = 0; step < 3; step += 1) {
      train(x);
      router.updateBias(0.125);
    }
    expect([...router.bias.readSync()]).toEqual([-0.375, -0.375, 0.375, 0.375]);
    expect([...router.load.readSync()]).toEqual([0, 0, 0, 0]);
  });

  // AI-Hypercomputer/maxtext#4753, huggingface/transformers#35926
  test('the bias is a trained parameter', () => {
    const { router } = identity(kernels, {});
    expect([...router.parameters()].map(([name]) => name)).toEqual(['weight']);
    expect([...router.states()].map(([name]) => name)).toEqual(['bias']);
    expect([...new AdamW(kernels, router).moments()].map(([name]) => name)).toEqual(['weight']);
  });

  // The load is that of the whole batch of a step, all its micro-batches (arXiv 2408.15664, algorithm 1).
  test('only the last micro-batch is counted', () => {
    const { router, logits, train } = identity(kernels, {});
    train(logits(0.9, 0.8, 0.1, 0.2, 0.9, 0.1, 0.8, 0.2));
    train(logits(0.1, 0.2, 0.8, 0.9));
    expect([...router.load.readSync()]).toEqual([2, 1, 2, 1]);
  });

  test('recomputation or evaluation is counted as well', () => {
    const { router, region, logits, route } = identity(kernels, {});
    const x = logits(0.9, 0.8, 0.1, 0.2);
    route(x);
    expect([...router.load.readSync()]).toEqual([0, 0, 0, 0]);
    const tape = new Tape(region);
    const [weights] = tape.frame('test', () => [
      ...recompute(tape, [x], () => [router.forward(tape, x).weights]),
    ]);
    const g = tensorFrom(region, [1, 2], Float32Array.of(1, 2));
    const [dx] = tape.backFrame([weights], [g], [x]);
    expect(dx?.readSync().some((value) => value !== 0)).toBe(true);
    expect([...router.load.readSync()]).toEqual([1, 1, 0, 0]);
  });

  // pytorch/torchtitan#1246
  test('the router collapses for want of its bias', () => {
    const experts = 8;
    const { router, inputs, train } = identity(kernels, {}, experts);
    const random = randomFrom(4);
    // Tokens prefer the first experts strongly.
    const batch = (): Tensor =>
      tensorFrom(
        inputs,
        [256, experts],
        Float32Array.from({ length: 256 * experts }, (_v, i) => 2 * random() - 0.4 * (i % experts)),
      );
    const step = (): number => {
      train(batch());
      const violation = maxViolation(router.load.readSync());
      router.updateBias(0.01);
      return violation;
    };
    const first = step();
    expect(first).toBeGreaterThan(1.2);
    for (let i = 0; i < 80; i += 1) step();
    const last = [step(), step(), step(), step()];
    expect(Math.max(...last)).toBeLessThan(0.4);
  });

  // pytorch/torchtitan#3864
  test('the balance loss looks at the batch instead of each sequence', () => {
    const { router, region, inputs, logits } = identity(kernels, { expertsPerToken: 1 }, 2);
    const loss = tensorFrom(inputs, [1], new Float32Array(1));
    const lossOf = (sequences: number): number => {
      loss.readSync()[0] = 0;
      const tape = new Tape(region, { grad: false });
      tape.scoped(() => {
        // Each sequence goes to one expert alone, the batch as a whole to both alike.
        const x = logits(0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 0.1, 0.9);
        router.forward(tape, x, { factor: 1 / sequences, sequences, loss });
        return [];
      });
      return loss.readSync()[0];
    };
    // f = (2, 0), P = (0.9, 0.1) in each: Σ f·P = 1.8. Over the batch f = (1, 1) and P = (0.5, 0.5): Σ f·P = 1.
    expect(lossOf(2)).toBeCloseTo(1.8, 5);
    expect(lossOf(1)).toBeCloseTo(1, 5);
  });

  test('the balance loss counts the biased choice', () => {
    // f counts the top-K of the scores themselves (eq. 18); a bias that balances must not hide what it balances.
    const { router, region, inputs, logits } = identity(kernels, { expertsPerToken: 1 }, 2);
    initialize(router, 0, 0);
    const weight = router.weight.data.readSync();
    weight.set([1, 0, 0, 1]);
    router.bias.readSync().set([-1, 0]);
    const loss = tensorFrom(inputs, [1], new Float32Array(1));
    const tape = new Tape(region, { grad: false });
    tape.scoped(() => {
      const x = logits(0.9, 0.1);
      expect([...router.forward(tape, x).indices.readSync()]).toEqual([1]);
      router.forward(tape, x, { factor: 1, sequences: 1, loss });
      return [];
    });
    expect(loss.readSync()[0]).toBeCloseTo(1.8, 5);
  });
});
