// DualPipe and DualPipeV: every rank holds two stages, one near each end of the model, and has work in two directions, so a
// forward of one can be overlapped with a backward of the other (§3.2.1; the order is that of github.com/deepseek-ai/DualPipe).
//
// Both follow one list. `near` counts ranks from the outside in: an outer rank (near 0) is the first that a micro-batch meets.
// Micro-batches enter there, in *lane* 0, and leave the middle in lane 1 on their way out again. In DualPipe the ranks are two
// mirrored halves, and the middle two exchange lanes; in DualPipeV the halves are folded onto each other, one rank is the
// middle, and a micro-batch goes in and out again on the same ranks.
import type { ComputeLists } from '../messages';
import type { Cell, Compute } from '../schedule';
import type { FullSizes } from './single';

/** A lane of a rank: the stage it computes, and the micro-batches it takes, in order. */
interface Lane {
  stage: number;
  microBatches: readonly number[];
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);

/**
 * DualPipe: two pipelines that run towards each other, each with half of the micro-batches. Stage s lies on ranks s and
 * R − 1 − s.
 */
export function dualPipe({ ranks, microBatches }: FullSizes): ComputeLists {
  const half = microBatches / 2;
  const away = range(0, ranks);
  const pipelines = [
    { rankOfStage: away, microBatches: range(0, half) },
    { rankOfStage: away.toReversed(), microBatches: range(half, microBatches) },
  ];
  return {
    method: 'dualpipe',
    ranks,
    stages: ranks,
    microBatches,
    pipelines,
    maxInFlight: away.map(() => ranks + 1),
    computations: away.map((rank) => {
      const mirrored = ranks - 1 - rank;
      // Lane 0 begins at the end of the pipeline that is nearer.
      const lanes: [Lane, Lane] = [
        { stage: rank, microBatches: pipelines[0].microBatches },
        { stage: mirrored, microBatches: pipelines[1].microBatches },
      ];
      const near = Math.min(rank, mirrored);
      return fold(near, ranks / 2, half, rank < mirrored ? lanes : [lanes[1], lanes[0]]);
    }),
  };
}

/** DualPipeV: one pipeline of 2R stages, laid out as a V: rank r holds stages r and 2R − 1 − r. */
export function dualPipeV({ ranks, microBatches }: FullSizes): ComputeLists {
  const batches = range(0, microBatches);
  const inward = range(0, ranks);
  return {
    method: 'dualpipev',
    ranks,
    stages: 2 * ranks,
    microBatches,
    pipelines: [{ rankOfStage: [...inward, ...inward.toReversed()], microBatches: batches }],
    maxInFlight: inward.map(() => 2 * ranks + 1),
    computations: inward.map((rank) =>
      fold(rank, ranks, microBatches, [
        { stage: rank, microBatches: batches },
        { stage: 2 * ranks - 1 - rank, microBatches: batches },
      ]),
    ),
  };
}

/**
 * The list of one rank, in the eight steps of the published code.
 * @param near - ranks outside of it, h
 * @param depth - ranks from the outside to the middle, H
 * @param each - micro-batches of a lane
 * @param lanes - its lanes
 */
function fold(near: number, depth: number, each: number, lanes: readonly [Lane, Lane]): Compute[] {
  const list: Compute[] = [];
  const forwards = [0, 0];
  const backwards = [0, 0];
  const waiting: Cell[] = [];
  const cell = (lane: 0 | 1, counts: number[]): Cell => {
    const { stage, microBatches } = lanes[lane];
    const microBatch = microBatches[counts[lane]];
    counts[lane] += 1;
    return { stage, microBatch };
  };
  const forward = (lane: 0 | 1): void => {
    list.push({ kind: 'forward', ...cell(lane, forwards) });
  };
  // Leaving the gradients of weights for later is what shortens the bubble: the rank before gets its gradient sooner.
  const backward = (lane: 0 | 1, later: boolean): void => {
    const own = cell(lane, backwards);
    if (later) waiting.push(own);
    list.push({ kind: later ? 'inputGrad' : 'fullBackward', ...own });
  };
  const weight = (): void => {
    const own = waiting.shift();
    if (own) list.push({ kind: 'weightGrad', ...own });
  };
  const overlap = (lane: 0 | 1): void => {
    const other = lane === 0 ? 1 : 0;
    list.push({
      kind: 'overlap',
      forward: cell(lane, forwards),
      backward: cell(other, backwards),
    });
  };
  const times = (count: number, body: (i: number) => void): void => {
    for (let i = 0; i < count; i += 1) body(i);
  };
  const inside = depth - near - 1;

  // 1: forwards until the first micro-batch of lane 1 arrives.
  times(2 * inside, () => {
    forward(0);
  });
  // 2: forwards of both lanes.
  times(near + 1, () => {
    forward(0);
    forward(1);
  });
  // 3: backwards of lane 1 have begun.
  times(inside, () => {
    backward(1, true);
    weight();
    forward(1);
  });
  // 4: the steady state, all overlapped but the first pair of the middle: there nothing is gained by it, and the gradient
  // would leave later.
  times(each - 2 * depth + near + 1, (i) => {
    if (i === 0 && inside === 0) {
      forward(0);
      backward(1, false);
    } else overlap(0);
    overlap(1);
  });
  // 5: no forwards of lane 0 are left.
  times(inside, () => {
    backward(1, false);
    overlap(1);
  });
  // 6: no forwards at all. From half-way on gradients of weights wait.
  const turn = Math.floor((near + 1) / 2);
  times(near + 1, (i) => {
    const odd = near % 2 === 1;
    backward(1, odd ? i >= turn : i > turn);
    backward(0, i >= turn);
  });
  // 7 and 8: what is left of lane 0, and the gradients of weights that waited.
  times(inside, () => {
    weight();
    backward(0, true);
  });
  times(near + 1, weight);
  return list;
}
