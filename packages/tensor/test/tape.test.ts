// The tape's promises: right gradients, no memory left behind, the same bits in any order of work.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import {
  add,
  type Bundle,
  type ComputePhase,
  checkGradients,
  concatColumns,
  initialize,
  Module,
  Parameter,
  Pools,
  plainLinears,
  Region,
  Run,
  recompute,
  rmsNorm,
  splitColumns,
  swiglu,
  Tape,
  type Tensor,
  tensorFrom,
} from '../src/index';

function values(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(seed * 7.1 + i * 1.3));
}

/** A small gated block with a recompute region, enough to meet every kind of node. */
class Block extends Module {
  readonly norm: Parameter;
  readonly wide;
  readonly down;
  constructor(
    readonly pools: Pools,
    width: number,
    precision: 'fp32' | 'bf16' = 'fp32',
  ) {
    super();
    const factory = plainLinears(precision);
    this.norm = this.parameter('norm.weight', new Parameter(pools, [width], { init: 'ones' }));
    this.wide = this.child(
      'wide',
      factory.linear(pools, { in: width, outs: { gate: 12, up: 12 } }),
    );
    this.down = this.child('down', factory.linear(pools, { in: 12, outs: { out: width } }));
  }

  forward(tape: Tape, x: Tensor): Tensor {
    const [normed] = recompute(tape, [x], () => [
      this.wide.prepare(tape, rmsNorm(tape, x, this.norm, 1e-6)),
    ]);
    const { gate, up } = this.wide.forward(tape, normed);
    const { out } = this.down.forward(tape, swiglu(tape, gate, up));
    return add(tape, x, out);
  }
}

function phaseOf(block: Block, name: string): ComputePhase {
  return {
    kind: 'compute',
    name,
    forward: (tape, { x }: Bundle) => ({ x: block.forward(tape, x as Tensor) }),
  };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test('gradients agree with finite differences, through recomputation and fan-out', () => {
    const pools = new Pools(kernels);
    const block = new Block(pools, 8);
    initialize(block, 0.5, 1);
    const region = new Region(kernels, 'test');
    const x = tensorFrom(new Region(kernels, 'inputs'), [5, 8], values(40, 3));
    const results = checkGradients({
      region,
      inputs: { x },
      module: block,
      body: (tape) => {
        const y = block.forward(tape, x);
        const [left, right] = splitColumns(tape, y, [3, 5]) as [Tensor, Tensor];
        return add(tape, concatColumns(tape, [right, left]), y);
      },
    });
    for (const { name, error } of results) expect(error, name).toBeLessThan(2e-3);
    expect(region.liveBytes).toBe(0);
  });

  describe('runs of phases', () => {
    const width = 8;
    function step(order: 'plain' | 'interleaved', deferred: number[] | undefined): Float32Array[] {
      const pools = new Pools(kernels);
      const blocks = [new Block(pools, width, 'bf16'), new Block(pools, width, 'bf16')];
      blocks.forEach((block, i) => {
        initialize(block, 0.4, i);
      });
      const phases = blocks.map((block, i) => phaseOf(block, `block ${i}`));
      const regions = [new Region(kernels, 'a'), new Region(kernels, 'b')];
      const inputs = new Region(kernels, 'inputs');
      const runs = regions.map(
        (region) => new Run(region, { deferWeightGrads: deferred !== undefined }),
      );
      const xs = [0, 1].map((i) => tensorFrom(inputs, [4, width], values(32, i)));
      const gs = [0, 1].map((i) => tensorFrom(inputs, [4, width], values(32, i + 5)));
      const forward = (i: number, p: number): void => {
        runs[i]?.forward(phases[p], p === 0 ? { x: xs[i] } : undefined);
      };
      const backward = (i: number, p: number): void => {
        runs[i]?.backwardInput(p === 1 ? { x: gs[i] } : undefined);
      };
      if (order === 'plain')
        for (const i of [0, 1]) {
          forward(i, 0);
          forward(i, 1);
          backward(i, 1);
          backward(i, 0);
        }
      else {
        forward(0, 0);
        forward(1, 0);
        forward(1, 1);
        forward(0, 1);
        backward(0, 1);
        backward(1, 1);
        backward(1, 0);
        backward(0, 0);
      }
      for (const run of [...runs].reverse()) {
        run.finish();
        run.tape.drainWeightGrads(deferred);
      }
      for (const region of regions) expect(region.liveBytes).toBe(0);
      return blocks.flatMap((block) =>
        [...block.parameters()].map(([, p]) => p.grad.readSync().slice() as Float32Array),
      );
    }

    test('two micro-batches interleaved, weight gradients drained last in any order: the same bits', () => {
      const plain = step('plain', undefined);
      expect(plain.some((grad) => grad.some((value) => value !== 0))).toBe(true);
      expect(step('interleaved', [0, 1, 2, 3])).toEqual(plain);
      expect(step('interleaved', [3, 1, 0, 2])).toEqual(plain);
    });
  });

  test('an abandoned run gives all its memory back', () => {
    const pools = new Pools(kernels);
    const block = new Block(pools, 8);
    const region = new Region(kernels, 'test');
    const x = tensorFrom(new Region(kernels, 'inputs'), [5, 8], values(40, 3));
    const run = new Run(region);
    run.forward(phaseOf(block, 'one'), { x });
    expect(region.liveBytes).toBeGreaterThan(0);
    run.abandon();
    expect(region.liveBytes).toBe(0);
  });

  test.each([0, 1, 2])(
    'a gradient that cannot be computed leaves no memory behind (operation %i of 3)',
    (failing) => {
      const region = new Region(kernels, 'test');
      const x = tensorFrom(new Region(kernels, 'inputs'), [2, 8], values(16, 3));
      const run = new Run(region);
      const scaled = (tape: Tape, input: Tensor, index: number): Tensor => {
        const out = tape.empty(input.shape);
        kernels.scale(out, input, 2);
        tape.record({
          name: `scale ${index}`,
          inputs: [input],
          outputs: [out],
          saved: [input],
          backward: ([grad]) => {
            const dx = tape.empty(input.shape);
            if (index === failing) throw new Error('from within');
            if (grad) kernels.scale(dx, grad, 2);
            return [dx];
          },
        });
        return out;
      };
      run.forward(
        {
          kind: 'compute',
          name: 'phase',
          forward: (tape, input) => {
            const first = scaled(tape, input.x as Tensor, 0);
            const [second] = recompute(tape, [first], () => [scaled(tape, first, 1)]);
            return { x: scaled(tape, add(tape, second, first), 2) };
          },
        },
        { x },
      );
      expect(() => run.backwardInput({ x })).toThrow('from within');
      run.abandon();
      expect(region.liveBytes).toBe(0);
    },
  );
});
