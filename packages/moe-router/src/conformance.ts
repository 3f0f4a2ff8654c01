// Bugs that other implementations of this router shipped, as tests of anybody's router: write an adapter, and run each case in
// whatever test runner you have. Our own router is held to the same cases, and for each there is a patch that brings its bug
// back (test/conformance).
//
// Scores are given as the sigmoid's values, for they are what the paper speaks of; the adapter gets their logits.

/** How a router under test is made. */
export interface ConformanceSpec {
  /** Routed experts. */
  experts: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
  /** Groups of neighbouring experts. */
  groups: number;
  /** Groups a token may reach. */
  groupsPerToken: number;
  /** Factor on the gate weights, which are divided by their sum. */
  scaling: number;
}

/** What a router did with tokens. */
export interface ConformanceRouting {
  /** Chosen experts, best first [tokens · expertsPerToken]. */
  indices: ArrayLike<number>;
  /** Their gate weights. */
  weights: ArrayLike<number>;
}

/** Somebody's router, with sigmoid scores and loss-free balancing by sign. */
export interface RouterUnderTest {
  /**
   * Routes tokens outside training.
   * @param logits - [tokens, experts], row-major
   */
  evaluate(logits: Float32Array): ConformanceRouting;
  /**
   * Routes a micro-batch in training, forward and backward, and counts its loads.
   * @param logits - [tokens, experts], row-major
   * @param recompute - throw the forward's activations away, and compute it anew for its gradients
   */
  train(logits: Float32Array, recompute?: boolean): void;
  /**
   * Ends a step: moves the bias.
   * @param speed - γ
   */
  step(speed: number): void;
  /** The bias of each expert. */
  bias(): ArrayLike<number>;
  /**
   * Restores a bias as a checkpoint gives it.
   * @param bias - of each expert
   * @throws anything, where a value is not finite
   */
  restore(bias: readonly number[]): void;
  /** The optimizer takes a step on all that it trains, with gradients that are nowhere zero. */
  optimize(): void;
  /**
   * Ends a step of one rank among several, as `step` does where there is one. Left out where there are no ranks.
   * @param speed - γ
   * @param others - tokens each expert got on the other ranks
   */
  stepAmongRanks?: (speed: number, others: readonly number[]) => void;
  /**
   * The sequence-wise balance loss with α = 1 over all sequences: the mean over sequences of Σ fᵢPᵢ. Left out where there
   * is none.
   * @param logits - [sequences · length, experts], row-major
   * @param sequences - how many they are
   */
  balanceLoss?: (logits: Float32Array, sequences: number) => number;
}

/** Makes routers to test. */
export type RouterAdapter = (spec: ConformanceSpec) => RouterUnderTest;

/** One bug. */
export interface ConformanceCase {
  /** The bug, as the name of its test. */
  name: string;
  /** Where it was shipped. */
  seen: string;
  /** Passes, or throws an error that says what was expected. */
  run: () => void;
}

/** Logits of the sigmoid's values. */
function logitsOf(scores: readonly number[]): Float32Array {
  return Float32Array.from(scores, (score) => Math.log(score / (1 - score)));
}

function fault(what: string, expected: unknown, found: unknown): never {
  const shown = (value: unknown): string => JSON.stringify(value);
  throw Object.assign(new Error(`${what}: expected ${shown(expected)}, found ${shown(found)}`), {
    code: 'ERR_BALEEN_ROUTER_CONFORMANCE',
    hint: 'the name of the case says which bug this is',
  });
}

function expectList(what: string, found: ArrayLike<number>, expected: readonly number[]): void {
  const list = Array.from(found);
  const same = (value: number, i: number): boolean => Math.abs(list[i] - value) < 1e-4;
  if (list.length !== expected.length || !expected.every(same)) fault(what, expected, list);
}

/** Deterministic numbers from 0 to 1. */
function uniform(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

const plain: ConformanceSpec = {
  experts: 4,
  expertsPerToken: 2,
  groups: 1,
  groupsPerToken: 1,
  scaling: 1,
};
const grouped: ConformanceSpec = { ...plain, groups: 2 };

/** How far the busiest of the experts is above the mean, over tokens that prefer the first experts. */
function imbalanceOf(router: RouterUnderTest, experts: number, seed: number): number {
  const random = uniform(seed);
  const logits = Float32Array.from(
    { length: 256 * experts },
    (_, i) => 2 * random() - 0.4 * (i % experts),
  );
  const { indices } = router.evaluate(logits);
  const counts = new Array<number>(experts).fill(0);
  for (const e of Array.from(indices)) counts[e] += 1;
  router.train(logits);
  return (Math.max(...counts) * experts) / indices.length - 1;
}

/**
 * The cases for a router.
 * @param adapter - makes the router
 * @returns one case a bug; those about ranks and a balance loss only where the router has them
 *
 * @example
 * ```ts
 * import { routerConformance, type RouterAdapter } from '@baleen/moe-router';
 * // A router that forgot what its bias is for.
 * const adapter: RouterAdapter = ({ experts }) => ({
 *   evaluate: () => ({ indices: [0, 1], weights: [0.5, 0.5] }),
 *   train: () => undefined,
 *   step: () => undefined,
 *   bias: () => new Float32Array(experts),
 *   restore: () => undefined,
 *   optimize: () => undefined,
 * });
 * const failed = routerConformance(adapter).filter(({ run }) => {
 *   try {
 *     run();
 *     return false;
 *   } catch {
 *     return true;
 *   }
 * });
 * console.log(failed.map(({ name }) => name).includes('the bias is never updated')); // => true
 * ```
 */
export function routerConformance(adapter: RouterAdapter): ConformanceCase[] {
  const { balanceLoss, stepAmongRanks } = adapter(plain);
  return [
    ...choiceCases(adapter),
    ...biasCases(adapter),
    ...(stepAmongRanks ? [rankCase(adapter)] : []),
    ...(balanceLoss ? lossCases(adapter) : []),
  ];
}

function choiceCases(adapter: RouterAdapter): ConformanceCase[] {
  const routed = (
    spec: ConformanceSpec,
    bias: readonly number[],
    scores: readonly number[],
  ): ConformanceRouting => {
    const router = adapter(spec);
    router.restore(bias);
    return router.evaluate(logitsOf(scores));
  };
  return [
    {
      name: 'bias leaks into gate weights',
      seen: 'vllm-project/vllm#12002, huggingface/transformers#41647',
      run: () => {
        const spec = { ...plain, scaling: 2.5 };
        const { indices, weights } = routed(spec, [0, 5, 0, 0], [0.6, 0.1, 0.3, 0.2]);
        // The bias decides who is chosen, and nothing else.
        expectList('experts', indices, [1, 0]);
        expectList('gate weights', weights, [(2.5 * 0.1) / 0.7, (2.5 * 0.6) / 0.7]);
      },
    },
    {
      name: 'masked groups are zero instead of minus infinity',
      seen: 'vllm-project/vllm#13474, deepseek-ai/DeepSeek-V3#741, flashinfer-ai/flashinfer#2168',
      run: () => {
        // Every biased score is below zero.
        const bias = [-3, -3, -3, -3];
        expectList('experts', routed(grouped, bias, [0.9, 0.2, 0.8, 0.7]).indices, [2, 3]);
        expectList('experts', routed(grouped, bias, [0.9, 0.7, 0.8, 0.2]).indices, [0, 1]);
      },
    },
    {
      name: 'a group counts by its best expert instead of its two best',
      seen: 'vllm-project/vllm#13474',
      run: () => {
        const { indices } = routed(grouped, [0, 0, 0, 0], [0.95, 0.1, 0.6, 0.55]);
        expectList('experts', indices, [2, 3]);
      },
    },
    {
      name: 'groups are scored without the bias',
      seen: 'vllm-project/vllm#13474; the published code sums biased scores',
      run: () => {
        const { indices } = routed(grouped, [0, 0, 0.5, 0], [0.9, 0.6, 0.5, 0.55]);
        expectList('experts', indices, [2, 3]);
      },
    },
  ];
}

function biasCases(adapter: RouterAdapter): ConformanceCase[] {
  const x = logitsOf([0.9, 0.8, 0.1, 0.2]);
  return [
    {
      name: 'the bias is never updated',
      seen: 'AI-Hypercomputer/maxtext#2494',
      run: () => {
        const router = adapter(plain);
        for (let step = 0; step < 3; step += 1) {
          router.train(x);
          router.step(0.125);
        }
        expectList('bias', router.bias(), [-0.375, -0.375, 0.375, 0.375]);
      },
    },
    {
      name: 'the bias is a trained parameter',
      seen: 'AI-Hypercomputer/maxtext#4753, huggingface/transformers#35926',
      run: () => {
        const router = adapter(plain);
        const bias = [0.25, -0.5, 0, 0.125];
        router.restore(bias);
        router.optimize();
        expectList('bias', router.bias(), bias);
      },
    },
    {
      name: 'only the last micro-batch is counted',
      seen: 'the load is that of the whole batch of a step (arXiv 2408.15664, algorithm 1)',
      run: () => {
        const router = adapter(plain);
        router.train(logitsOf([0.9, 0.8, 0.1, 0.2, 0.9, 0.8, 0.1, 0.2]));
        router.train(logitsOf([0.1, 0.2, 0.8, 0.9]));
        router.step(0.125);
        expectList('bias', router.bias(), [-0.125, -0.125, 0.125, 0.125]);
      },
    },
    {
      name: 'recomputation or evaluation is counted as well',
      seen: 'loads are those of training, each token once (arXiv 2408.15664, algorithm 1)',
      run: () => {
        const router = adapter(plain);
        const other = logitsOf([0.1, 0.2, 0.8, 0.9]);
        // Two tokens choose the first experts once, one the last twice over, where recomputing counts.
        router.train(logitsOf([0.9, 0.8, 0.1, 0.2, 0.9, 0.8, 0.1, 0.2]));
        router.train(other, true);
        for (let i = 0; i < 3; i += 1) router.evaluate(other);
        router.step(0.125);
        expectList('bias', router.bias(), [-0.125, -0.125, 0.125, 0.125]);
        router.train(x);
        router.train(other, true);
        router.step(0.125);
        expectList('bias', router.bias(), [-0.125, -0.125, 0.125, 0.125]);
      },
    },
    {
      name: 'the router collapses for want of its bias',
      seen: 'pytorch/torchtitan#1246',
      run: () => {
        const experts = 8;
        const router = adapter({ ...plain, experts });
        const imbalances = Array.from({ length: 85 }, (_, i) => {
          const imbalance = imbalanceOf(router, experts, i + 1);
          router.step(0.01);
          return imbalance;
        });
        const last = Math.max(...imbalances.slice(-4));
        if (!(imbalances[0] > 1.2 && last < 0.4))
          fault('MaxVio at first and at last', 'above 1.2 and below 0.4', [imbalances[0], last]);
      },
    },
    {
      name: 'a bias that is not finite is restored',
      seen: 'TensorRT-Model-Connect PR 669',
      run: () => {
        for (const value of [NaN, Infinity, -Infinity]) {
          const router = adapter(plain);
          let restored = true;
          try {
            router.restore([0, value, 0, 0]);
          } catch {
            restored = false;
          }
          if (restored) fault('a restored bias', 'an error', String(value));
        }
      },
    },
  ];
}

function rankCase(adapter: RouterAdapter): ConformanceCase {
  return {
    name: 'the loads of other ranks are left out',
    seen: 'the load is that of the batch of all ranks (arXiv 2408.15664, algorithm 1)',
    run: () => {
      const router = adapter(plain);
      router.train(logitsOf([0.9, 0.8, 0.1, 0.2]));
      router.stepAmongRanks?.(0.125, [0, 0, 2, 2]);
      expectList('bias', router.bias(), [0.125, 0.125, -0.125, -0.125]);
    },
  };
}

function lossCases(adapter: RouterAdapter): ConformanceCase[] {
  const lossOf = (router: RouterUnderTest, scores: readonly number[], sequences: number): number =>
    router.balanceLoss?.(logitsOf(scores), sequences) ?? NaN;
  const spec = { ...plain, experts: 2, expertsPerToken: 1 };
  return [
    {
      name: 'the balance loss looks at the batch instead of each sequence',
      seen: 'pytorch/torchtitan#3864',
      run: () => {
        // Each sequence goes to one expert alone, the batch as a whole to both alike: f = (2, 0), P = (0.9, 0.1) in each.
        const scores = [0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 0.1, 0.9];
        expectList('loss of two sequences', [lossOf(adapter(spec), scores, 2)], [1.8]);
        expectList('loss of one', [lossOf(adapter(spec), scores, 1)], [1]);
      },
    },
    {
      name: 'the balance loss counts the biased choice',
      seen: 'eq. 18 counts the top-K of the scores themselves: a bias that balances must not hide what it balances',
      run: () => {
        const router = adapter(spec);
        router.restore([-1, 0]);
        expectList('loss', [lossOf(router, [0.9, 0.1], 1)], [1.8]);
      },
    },
  ];
}
