// Memory as it is really taken: one region of @baleen/tensor a rank, micro-batches of different sizes, gradients of weights at
// once or later. A region's peak is the simulator's count, to the byte, where a stage takes its activation whole and computes
// within it; with layers on the tape, whose norms and activations backward makes again, what a rank holds between computations
// is, and the peak is that and what a layer takes for itself while it computes.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import {
  type Block,
  type Bundle,
  initialize,
  Module,
  Parameter,
  Pools,
  plainLinears,
  Region,
  Run,
  recompute,
  releaseAll,
  rmsNorm,
  swiglu,
  type Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import {
  type Action,
  type Cell,
  generateSchedule,
  type Method,
  type Schedule,
  type Stage,
  simulate,
} from '../src/index';
import { runAll } from './in-memory';

const width = 8;

/** Rows of a micro-batch. */
const rowsOf = (microBatch: number): number => 3 + ((microBatch * 7) % 11);

function values(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(seed * 7.1 + i * 1.3));
}

/** y = x + W₂ swiglu(W₁ norm(x)); stages differ in their inner width, and so in what they hold. */
class Layer extends Module {
  readonly norm: Parameter;
  readonly up;
  readonly down;

  constructor(pools: Pools, stage: number) {
    super();
    const inner = 12 + 4 * stage;
    const factory = plainLinears('fp32');
    this.norm = this.parameter('norm', new Parameter(pools, [width], { init: 'ones' }));
    this.up = this.child('up', factory.linear(pools, { in: width, outs: { g: inner, u: inner } }));
    this.down = this.child('down', factory.linear(pools, { in: inner, outs: { y: width } }));
    initialize(this, 0.4, stage);
  }

  forward(tape: Tape, x: Tensor): Tensor {
    const [normed] = recompute(tape, [x], () => [rmsNorm(tape, x, this.norm, 1e-6)]);
    const { g, u } = this.up.forward(tape, normed);
    const [gated] = recompute(tape, [g, u], () => [swiglu(tape, g, u)]);
    return this.down.forward(tape, gated).y;
  }
}

/** What the executor asks of a stage that computes. */
interface Parted {
  forward: (microBatch: number, input: Float32Array | null) => Float32Array | null;
  inputGrad: (microBatch: number, outputGrad: Float32Array | null) => Float32Array | null;
  weightGrad: (microBatch: number) => void;
}

/** A layer as a stage; a micro-batch's tape keeps what its way back needs. */
function stageOf(
  { stages }: Schedule,
  stage: number,
  region: Region,
  results: Float32Array[] = [],
): Parted {
  const layer = new Layer(new Pools(region.kernels), stage);
  const runs = new Map<number, Run>();
  const runOf = (microBatch: number): Run => {
    const run = runs.get(microBatch);
    if (!run) throw new Error(`micro-batch ${microBatch} is not under way`);
    return run;
  };
  const tensorOf = (array: Float32Array): Tensor =>
    tensorFrom(region, [array.length / width, width], array);
  const chain = {
    kind: 'compute' as const,
    name: `stage ${stage}`,
    forward: (tape: Tape, { x }: Bundle) => ({ y: layer.forward(tape, x as Tensor) }),
  };
  return {
    forward(microBatch, input) {
      const run = new Run(region, { deferWeightGrads: true });
      runs.set(microBatch, run);
      const x = tensorOf(input ?? values(rowsOf(microBatch) * width, microBatch));
      const { y } = run.forward(chain, { x });
      releaseAll([x]); // the run holds it
      const output = (y as Tensor).readSync().slice() as Float32Array;
      if (stage < stages - 1) return output;
      results[microBatch] = output;
      return null;
    },
    inputGrad(microBatch, outputGrad) {
      const run = runOf(microBatch);
      const grad = tensorOf(outputGrad ?? values(rowsOf(microBatch) * width, 100));
      const { x } = run.backwardInput({ y: grad });
      const dx = x?.readSync().slice() as Float32Array;
      releaseAll([grad]);
      run.finish();
      return stage > 0 ? dx : null;
    },
    weightGrad(microBatch) {
      runOf(microBatch).tape.drainWeightGrads();
      runs.delete(microBatch);
    },
  };
}

/** Bytes of a micro-batch of a stage, alone: what it holds after each part, and the most within it. */
interface Alone {
  activation: number;
  waiting: number;
  within: Record<'forward' | 'inputGrad' | 'weightGrad', number>;
}

function alone(schedule: Schedule, { stage, microBatch }: Cell, kernels: Region['kernels']): Alone {
  const region = new Region(kernels, 'alone', 1 << 16);
  const phase = stageOf(schedule, stage, region);
  const array = values(rowsOf(microBatch) * width, 1);
  const peak = (run: () => void): number => {
    region.resetPeak();
    run();
    return region.peakBytes;
  };
  const forward = peak(() => {
    phase.forward(microBatch, array);
  });
  const activation = region.liveBytes;
  const inputGrad = peak(() => {
    phase.inputGrad(microBatch, array);
  });
  const waiting = region.liveBytes;
  const weightGrad = peak(() => {
    phase.weightGrad(microBatch);
  });
  expect(region.liveBytes).toBe(0);
  return { activation, waiting, within: { forward, inputGrad, weightGrad } };
}

type Parts = [keyof Alone['within'], Cell][];

/** Parts of a computation in the order in which the executor has them; a message has none. */
function partsOf(action: Action): Parts {
  const back = (cell: Cell): Parts => [
    ['inputGrad', cell],
    ['weightGrad', cell],
  ];
  switch (action.kind) {
    case 'send':
    case 'receive':
      return [];
    case 'fullBackward':
      return back(action);
    // A pair of stages that compute only: the way back goes first.
    case 'overlap':
      return [...back(action.backward), ['forward', action.forward]];
    default:
      return [[action.kind, action]];
  }
}

const cases = [
  ['1f1b', 4],
  ['zb1p', 4],
  ['gpipe', 2],
  ['interleaved', 2],
  ['dualpipe', 4],
  ['dualpipe', 6],
  ['dualpipev', 3],
] as const satisfies readonly (readonly [Method, number])[];
const times = { forward: 1, inputGrad: 1, weightGrad: 1 };
const at = ({ stage, microBatch }: Cell): string => `${stage} ${microBatch}`;

/** Phases of a layer that hold blocks: attention takes all that the stage holds, and its way back gives it up. */
function blockStage(
  region: Region,
  bytesOf: Record<'activation' | 'waiting', (m: number) => number>,
) {
  const activations = new Map<number, Block>();
  const operands = new Map<number, Block>();
  const end = (blocks: Map<number, Block>, m: number): void => {
    blocks.get(m)?.release();
    blocks.delete(m);
  };
  const arrived = (m: number) => ({ done: Promise.resolve(), wait: () => m });
  const stage: Stage<number> = [
    {
      kind: 'compute', // attention
      forward: (m) => {
        activations.set(m, region.allocate(bytesOf.activation(m)));
        return m;
      },
      inputGrad: (m) => {
        end(activations, m);
        operands.set(m, region.allocate(bytesOf.waiting(m)));
        return m;
      },
      weightGrad: (m) => {
        end(operands, m);
      },
    },
    { kind: 'communication', forward: arrived, inputGrad: arrived },
    { kind: 'compute', forward: (m) => m, inputGrad: (m) => m },
    { kind: 'communication', forward: arrived, inputGrad: arrived },
  ];
  return stage;
}

test.each(cases)('blocks: %s on %i ranks peaks at the simulator’s count', async (method, ranks) => {
  const schedule = generateSchedule(method, { ranks, microBatches: 2 * ranks });
  const kernels = referenceKernels();
  // Of 64 bytes each, as regions round.
  const held = {
    activation: ({ stage, microBatch }: Cell) => 64 * (20 + 3 * rowsOf(microBatch) + stage),
    waiting: ({ stage, microBatch }: Cell) => 64 * (2 + rowsOf(microBatch) + stage),
  };
  const { peakBytes } = simulate(schedule, { times, held });
  const regions = peakBytes.map((_, rank) => new Region(kernels, `rank ${rank}`, 1 << 18));
  await runAll<number>(schedule, (stage, rank) =>
    blockStage(regions[rank], {
      activation: (microBatch) => held.activation({ stage, microBatch }),
      waiting: (microBatch) => held.waiting({ stage, microBatch }),
    }),
  );
  expect(regions.map((region) => region.peakBytes)).toEqual(peakBytes);
  expect(regions.map((region) => region.liveBytes)).toEqual(peakBytes.map(() => 0));
});

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each(cases.filter(([, ranks]) => ranks < 6))(
    'layers: %s on %i ranks',
    async (method, ranks) => {
      const schedule = generateSchedule(method, { ranks, microBatches: 2 * ranks });
      const known = new Map<string, Alone>();
      const aloneOf = (cell: Cell): Alone => {
        const found = known.get(at(cell)) ?? alone(schedule, cell, kernels);
        known.set(at(cell), found);
        return found;
      };
      const held = {
        activation: (cell: Cell) => aloneOf(cell).activation,
        waiting: (cell: Cell) => aloneOf(cell).waiting,
      };
      const simulation = simulate(schedule, { times, held });

      const regions = schedule.actions.map(
        (_each, rank) => new Region(kernels, `rank ${rank}`, 1 << 18),
      );
      // What a rank holds after each part of its computations.
      const live: number[][] = regions.map(() => []);
      const results: Float32Array[] = [];
      await runAll<Float32Array>(schedule, (stage, rank) => {
        const { forward, inputGrad, weightGrad } = stageOf(schedule, stage, regions[rank], results);
        const noted =
          <Given extends unknown[], Result>(call: (...given: Given) => Result) =>
          (...given: Given): Result => {
            const result = call(...given);
            live[rank].push(regions[rank].liveBytes);
            return result;
          };
        return [
          {
            kind: 'compute',
            forward: noted(forward),
            inputGrad: noted(inputGrad),
            weightGrad: noted(weightGrad),
          },
        ];
      });

      for (const [rank, region] of regions.entries()) {
        const { memory } = simulation.ranks[rank];
        const steps = memory.map(({ bytes = NaN }) => bytes).values();
        const noted = live[rank].values();
        let [before, most] = [0, 0];
        for (const action of schedule.actions[rank]) {
          const parts = partsOf(action);
          if (parts.length === 0) continue;
          let now = NaN;
          for (const [part, cell] of parts) {
            const { activation, waiting, within } = aloneOf(cell);
            const own = { forward: 0, inputGrad: activation, weightGrad: waiting }[part];
            most = Math.max(most, before - own + within[part]);
            before = now = noted.next().value ?? NaN;
          }
          // Of a pair, the simulator also has the moment at which both are held.
          if (action.kind === 'overlap') steps.next();
          expect(now).toBe(steps.next().value);
        }
        expect(before).toBe(0);
        expect(region.peakBytes).toBe(most);
      }
      // Outputs have the bits of one stage after the other, one micro-batch at a time.
      expect(results).toHaveLength(schedule.microBatches);
      for (const [microBatch, output] of results.entries()) {
        const single: Float32Array[] = [];
        let value: Float32Array | null = null;
        for (let stage = 0; stage < schedule.stages; stage += 1)
          value = stageOf(schedule, stage, new Region(kernels, 'single', 1 << 16), single).forward(
            microBatch,
            value,
          );
        expect(output).toEqual(single[microBatch]);
      }
    },
  );
});
