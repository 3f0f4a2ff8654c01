// Bugs that other implementations of this router shipped: our routers, on tensors and on arrays, through the adapter that
// anybody's router may be tested with. Each test is named after its bug, and test/conformance holds the patch that brings the
// bug back.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { AdamW, Pools, Region, recompute, Tape, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import {
  Balancer,
  balancePolicy,
  Router,
  type RouterAdapter,
  routerConformance,
  routeTokens,
  sequenceBalanceLoss,
} from '../src/index';

/** The router as a module: its weight is the identity, so that its logits are its input. */
function onTensors(kernels: Kernels): RouterAdapter {
  return (spec) => {
    const { experts, expertsPerToken } = spec;
    const router = new Router(new Pools(kernels), { ...spec, hidden: experts, normalize: true });
    const weight = router.weight.data.readSync();
    for (let e = 0; e < experts; e += 1) weight[e * experts + e] = 1;
    const region = new Region(kernels, 'test');
    const inputs = new Region(kernels, 'inputs');
    const input = (logits: Float32Array): Tensor =>
      tensorFrom(inputs, [logits.length / experts, experts], logits);
    const apart = (body: (tape: Tape) => void): void => {
      const tape = new Tape(region, { grad: false });
      tape.scoped(() => {
        body(tape);
        return [];
      });
    };
    return {
      evaluate: (logits) => {
        const found = { indices: [] as number[], weights: [] as number[] };
        apart((tape) => {
          const routing = router.forward(tape, input(logits));
          found.indices = [...routing.indices.readSync()];
          found.weights = [...routing.weights.readSync()];
        });
        return found;
      },
      train: (logits, again = false) => {
        const x = input(logits);
        const tape = new Tape(region);
        const forward = (): Tensor[] => [router.forward(tape, x).weights];
        const [weights] = tape.frame('micro-batch', () =>
          again ? [...recompute(tape, [x], forward)] : forward(),
        );
        const grad = values(weights.size);
        const [dx] = tape.backFrame([weights], [tensorFrom(inputs, weights.shape, grad)], [x]);
        // The way back did run.
        expect(dx?.readSync().some((value) => value !== 0)).toBe(true);
        expect(weights.size).toBe((logits.length / experts) * expertsPerToken);
      },
      step: (speed) => {
        router.updateBias(speed);
      },
      bias: () => router.bias.readSync(),
      restore: (bias) => {
        router.restoreBias(bias);
      },
      optimize: () => {
        const before = Float32Array.from(router.weight.data.readSync());
        for (const [, { grad }] of router.parameters()) grad.readSync().fill(1);
        new AdamW(kernels, router).update(tensorFrom(inputs, [1], Float32Array.of(1)), {
          ...{ learningRate: 0.5, beta1: 0.9, beta2: 0.95, epsilon: 1e-8 },
          ...{ weightDecay: 0.1, maxNorm: 1 },
        });
        // The step was one.
        expect(router.weight.data.readSync()).not.toEqual(before);
      },
      stepAmongRanks: (speed, others) => {
        router.updateBias(speed, {
          reduce: (load) => {
            const counts = load.readSync();
            others.forEach((count, e) => {
              counts[e] += count;
            });
          },
        });
      },
      balanceLoss: (logits, sequences) => {
        const loss = tensorFrom(inputs, [1], new Float32Array(1));
        const x = input(logits);
        const tape = new Tape(region);
        const balance = { factor: 1 / sequences, sequences, loss };
        const forward = (): Tensor[] => [router.forward(tape, x, balance).weights];
        // Computed anew for its gradients, as in training: it must be counted once.
        const [weights] = tape.frame('loss', () => [...recompute(tape, [x], forward)]);
        tape.backFrame([weights], [tensorFrom(inputs, weights.shape, values(weights.size))], [x]);
        return loss.readSync()[0];
      },
    };
  };
}

/** Gradients that differ. */
function values(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => 1 + (i % 3));
}

/** The functions on typed arrays. */
function onArrays(kernels: Kernels): RouterAdapter {
  return (spec) => {
    const { experts } = spec;
    let speed = 0;
    const balancer = new Balancer(experts, balancePolicy({ speed: () => speed }), { kernels });
    const route = (logits: Float32Array): ReturnType<typeof routeTokens> =>
      routeTokens(
        logits,
        { ...spec, tokens: logits.length / experts },
        { bias: balancer.bias, kernels },
      );
    return {
      evaluate: route,
      train: (logits, again = false) => {
        balancer.count(route(logits).counts);
        if (again) route(logits);
      },
      step: (given) => {
        speed = given;
        balancer.update(0);
      },
      bias: () => balancer.bias,
      restore: (bias) => {
        balancer.restore({ ...balancer.state(), bias: [...bias] });
      },
      optimize: () => undefined,
      stepAmongRanks: (given, others) => {
        speed = given;
        balancer.update(0, (counts) => {
          others.forEach((count, e) => {
            counts[e] += count;
          });
        });
      },
      balanceLoss: (logits, sequences) => {
        const sequenceLength = logits.length / experts / sequences;
        const { scores } = route(logits);
        const sizes = { ...spec, sequences, sequenceLength };
        return sequenceBalanceLoss(scores, sizes, { kernels }).loss[0];
      },
    };
  };
}

const bugs = [
  'bias leaks into gate weights',
  'masked groups are zero instead of minus infinity',
  'a group counts by its best expert instead of its two best',
  'groups are scored without the bias',
  'the bias is never updated',
  'the bias is a trained parameter',
  'only the last micro-batch is counted',
  'recomputation or evaluation is counted as well',
  'the router collapses for want of its bias',
  'a bias that is not finite is restored',
  'the loads of other ranks are left out',
  'the balance loss looks at the batch instead of each sequence',
  'the balance loss counts the biased choice',
];

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each([
    ['on tensors', onTensors(kernels)],
    ['on arrays', onArrays(kernels)],
  ] as const)('%s', (_name, adapter) => {
    const cases = routerConformance(adapter);

    test('every bug has its case', () => {
      expect(cases.map(({ name }) => name)).toEqual(bugs);
    });

    for (const { name, run } of cases) test(name, run);
  });
});

test('a router without a balance loss or ranks is not asked for them', () => {
  const without: RouterAdapter = (spec) => {
    const router = onArrays(referenceKernels())(spec);
    delete router.balanceLoss;
    delete router.stepAmongRanks;
    return router;
  };
  expect(routerConformance(without).map(({ name }) => name)).toEqual(bugs.slice(0, -3));
});

test('what was expected and what was found stand in the error', () => {
  const adapter: RouterAdapter = (spec) => ({
    ...onArrays(referenceKernels())(spec),
    bias: () => [1, 2, 3, 4],
  });
  const [, , , , updated] = routerConformance(adapter);
  expect(() => {
    updated.run();
  }).toThrow(
    expect.objectContaining({
      code: 'ERR_BALEEN_ROUTER_CONFORMANCE',
      message: 'bias: expected [-0.375,-0.375,0.375,0.375], found [1,2,3,4]',
    }),
  );
});
