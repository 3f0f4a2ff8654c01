// Runs of phases: communication that is started and waited for apart, runs given up, calls in the wrong order.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf, values } from '../../../test/support';
import {
  type Bundle,
  type CommunicationPhase,
  type ComputePhase,
  type Handle,
  initialize,
  Module,
  Parameter,
  Pools,
  Region,
  Run,
  rmsNorm,
  swiglu,
  type Tape,
  type Tensor,
  tensorFrom,
} from '../src/index';

class Norm extends Module {
  readonly weight: Parameter;
  constructor(pools: Pools) {
    super();
    this.weight = this.parameter('weight', new Parameter(pools, [6]));
    initialize(this, 0.7, 3);
  }
}

function compute(name: string, forward: (tape: Tape, x: Tensor) => Tensor): ComputePhase {
  return {
    kind: 'compute',
    name,
    forward: (tape, { x, ...rest }) => ({ ...rest, x: forward(tape, x as Tensor) }),
  };
}

/** Sends a tensor to a peer that returns it: the receiving memory is taken at the start, the bytes land at the wait. */
function echo(log: string[]): CommunicationPhase {
  const send = (what: string, tape: Tape, x: Tensor): Handle<{ x: Tensor }> => {
    log.push(`${what} starts`);
    const landing = tape.empty(x.shape);
    return {
      done: Promise.resolve(),
      wait: () => {
        log.push(`${what} lands`);
        tape.kernels.copy(landing, x);
        return { x: landing };
      },
    };
  };
  return {
    kind: 'communication',
    name: 'echo',
    start: (tape, { x }) => send('forward', tape, x as Tensor),
    startBackward: (tape, { x }) => {
      if (!x) throw new Error('nothing to send back');
      return send('backward', tape, x);
    },
  };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  const inputs = new Region(kernels, 'inputs');
  const x = tensorFrom(inputs, [4, 6], values(24, 1));
  const g = tensorFrom(inputs, [4, 6], values(24, 2));

  function setup() {
    const norm = new Norm(new Pools(kernels));
    const region = new Region(kernels, 'test');
    const first = compute('first', (tape, h) => rmsNorm(tape, h, norm.weight, 1e-6));
    const last = compute('last', (tape, h) => swiglu(tape, h, h));
    return { norm, region, first, last, run: new Run(region) };
  }

  const copyOf = (tensor: unknown): Float32Array =>
    (tensor as Tensor).readSync().slice() as Float32Array;

  test('a communication phase between two others changes no bit, and other work fits inside', () => {
    const plain = setup();
    plain.run.forward(plain.first, { x });
    const expected = copyOf(plain.run.forward(plain.last).x);
    plain.run.backwardInput({ x: g });
    const dx = copyOf(plain.run.backwardInput().x);
    plain.run.finish();

    const log: string[] = [];
    const link = echo(log);
    const { norm, region, first, last, run } = setup();
    const other = setup();
    run.forward(first, { x });
    const sent = run.start(link);
    other.run.forward(other.first, { x: g });
    log.push('other work');
    const arrived = sent.wait();
    expect(sent.wait()).toBe(arrived); // once
    expect(copyOf(run.forward(last).x)).toEqual(expected);
    run.backwardInput({ x: g });
    const back = run.startBackward(link);
    log.push('other work');
    back.wait();
    expect(copyOf(run.backwardInput().x)).toEqual(dx);
    run.finish();
    other.run.abandon();
    expect(log).toEqual([
      'forward starts',
      'other work',
      'forward lands',
      'backward starts',
      'other work',
      'backward lands',
    ]);
    expect(region.liveBytes).toBe(0);
    expect(other.region.liveBytes).toBe(0);
    expect(run.tape.depth).toBe(0);
    expect(norm.weight.grad.readSync()).toEqual(plain.norm.weight.grad.readSync());
  });

  test('forward and backwardInput take a communication phase like any other', () => {
    const { region, first, run } = setup();
    run.forward(first, { x });
    const sent = copyOf(run.forward(echo([])).x);
    expect(sent).toEqual(copyOf(run.forward(echo([])).x));
    run.backwardInput({ x: g });
    const grads = copyOf(run.backwardInput().x);
    expect(grads).toEqual(g.readSync());
    run.backwardInput();
    run.finish();
    expect(region.liveBytes).toBe(0);
  });

  test('without recording, communication leaves nothing behind either', () => {
    const { region, first } = setup();
    const run = new Run(region, { grad: false });
    run.forward(first, { x });
    run.forward(echo([]));
    run.finish();
    expect(run.tape.depth).toBe(0);
    expect(region.liveBytes).toBe(0);
  });

  test('a run that is given up at any point gives all its memory back', () => {
    const link = echo([]);
    const { region, first, last, norm } = setup();
    const steps: ((run: Run) => void)[] = [
      (run) => run.forward(first, { x }),
      (run) => run.start(link).wait(),
      (run) => run.forward(last),
      (run) => run.backwardInput({ x: g }),
      (run) => run.startBackward(link).wait(),
      (run) => run.backwardInput(),
    ];
    for (let done = 0; done <= steps.length; done += 1) {
      const run = new Run(region, { deferWeightGrads: true });
      for (const step of steps.slice(0, done)) step(run);
      if (done > 0) expect(region.liveBytes).toBeGreaterThan(0);
      run.abandon();
      expect(region.liveBytes).toBe(0);
    }
    for (const started of [1, 4]) {
      const run = new Run(region);
      for (const step of steps.slice(0, started)) step(run);
      if (started === 1) run.start(link);
      else run.startBackward(link);
      run.abandon();
      expect(region.liveBytes).toBe(0);
    }
    kernels.fill(norm.weight.grad, 0);
    // The region serves the next run as if nothing had happened.
    const run = new Run(region);
    for (const step of steps) step(run);
    run.finish();
    expect(region.liveBytes).toBe(0);
  });

  test('weight gradients wait in the queue, and an order must name each of them once', () => {
    const { norm, region, first, last } = setup();
    const pools = new Pools(kernels);
    const second = new Norm(pools);
    const run = new Run(region, { deferWeightGrads: true });
    const grads = [second.weight, second.weight, second.weight];
    const record = compute('deferring', (tape, h) => {
      const out = tape.empty(h.shape);
      kernels.copy(out, h);
      tape.record({
        name: 'deferring',
        inputs: [h],
        outputs: [out],
        saved: [],
        backward: ([grad]) => {
          grads.forEach((weight, index) => {
            tape.deferWeightGrad(`weight ${index}`, grad ? [grad] : [], () => {
              if (grad) kernels.add(weight.grad, weight.grad, grad.rows(index, 1).reshape([6]));
            });
          });
          return [grad];
        },
      });
      return out;
    });
    run.forward(first, { x });
    run.forward(record);
    run.forward(last);
    const rows = copyOf(run.backwardInput({ x: g }).x);
    run.backwardInput();
    run.backwardInput();
    run.finish();
    expect(run.tape.pendingWeightGrads).toBe(3);
    expect(region.liveBytes).toBeGreaterThanOrEqual(96);
    for (const order of [[0, 1], [0, 0, 1, 2], [0, 1, 3], [0, 0, 1], [1.5, 0, 2], []])
      expect(() => {
        run.tape.drainWeightGrads(order);
      }).toThrow(/is no order of the/);
    expect(second.weight.grad.readSync()).toEqual(new Float32Array(6));
    run.tape.drainWeightGrads([2, 0, 1]);
    const expected = Float32Array.from(
      { length: 6 },
      (_value, c) => Math.fround(rows[12 + c] + rows[c]) + rows[6 + c],
    );
    expect(second.weight.grad.readSync()).toEqual(expected);
    expect(region.liveBytes).toBe(0);
    expect(norm.weight.grad.readSync().some((value) => value !== 0)).toBe(true);
  });

  test('calls in the wrong order are refused', () => {
    const link = echo([]);
    const { region, first, last, run } = setup();
    expect(() => run.forward(first)).toThrow('was given no input');
    expect(() => run.backwardInput({ x: g })).toThrow('more often than forward');
    run.forward(first, { x });
    expect(() => run.startBackward(link, { x: g })).toThrow('while first is next');
    run.start(link);
    expect(() => run.forward(last)).toThrow('echo is under way');
    expect(() => run.backwardInput({ x: g })).toThrow('echo is under way');
    run.abandon();
    run.forward(first, { x });
    expect(() => {
      run.finish();
    }).toThrow('first');
    run.abandon();
    const strange: ComputePhase = {
      kind: 'compute',
      name: 'strange',
      forward: () => ({ x: new Float32Array(4) }) as unknown as Bundle,
    };
    expect(() => run.forward(strange, { x })).toThrow('no tensor under "x"');
    run.abandon();
    expect(region.liveBytes).toBe(0);
  });

  test('a value under two names, and one that passes through, get their gradient once', () => {
    const { region, run } = setup();
    const twice: ComputePhase = {
      kind: 'compute',
      name: 'twice',
      forward: (_tape, input) => ({ ...input, again: input.x }),
    };
    const product = compute('product', (tape, h) => swiglu(tape, h, h));
    const join: ComputePhase = {
      kind: 'compute',
      name: 'join',
      forward: (tape, { x: a, again }) => ({ x: swiglu(tape, a as Tensor, again as Tensor) }),
    };
    run.forward(product, { x });
    run.forward(twice);
    run.forward(join);
    run.backwardInput({ x: g });
    run.backwardInput();
    const got = copyOf(run.backwardInput().x);
    run.finish();
    const plain = setup();
    plain.run.forward(
      compute('all', (tape, h) => {
        const y = swiglu(tape, h, h);
        return swiglu(tape, y, y);
      }),
      { x },
    );
    expect(got).toEqual(copyOf(plain.run.backwardInput({ x: g }).x));
    plain.run.finish();
    expect(region.liveBytes).toBe(0);
  });

  test('where no gradient arrives, none is made, and what was kept goes back', () => {
    const { region, first, last, run } = setup();
    run.forward(first, { x });
    run.forward(last);
    expect(run.backwardInput({})).toEqual({ x: undefined });
    expect(run.backwardInput()).toEqual({ x: undefined });
    run.finish();
    expect(region.liveBytes).toBe(0);
  });
});
