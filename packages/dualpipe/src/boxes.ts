// What is drawn of a computation: a box for each of its parts. A full backward is split where its gradient of the weights
// begins; in an overlapped pair the forward stands above the backward. Where phases are known, they stand on two lanes
// instead, compute above communication.
import type { FullCosts } from './costs';
import type { PhaseSpan } from './phases';
import type { Cell, Compute, Part, Schedule } from './schedule';
import type { ComputeSpan } from './timeline';

/** A box of one part of a computation. */
export interface Box extends Cell {
  /** The part. */
  part: Part;
  /** Begin. */
  start: number;
  /** End. */
  end: number;
  /** Upper edge, as a share of the row's height. */
  top: number;
  /** Height, likewise. */
  height: number;
  /** The end of a full backward: its micro-batch stands in the box before. */
  continued: boolean;
}

/** A lane of a rank: further stages have another shade. */
export type Shade = 0 | 1;

/** Share of a full backward that its gradient of the input takes. */
export function turnOf(costs: Pick<FullCosts, 'inputGrad' | 'weightGrad'> | null): number {
  return costs ? costs.inputGrad / (costs.inputGrad + costs.weightGrad || 1) : 0.5;
}

/** A computation's parts, side by side; those of a pair above each other. `turn` as of {@link turnOf}. */
export function boxesOf({ action, start, end }: ComputeSpan, turn: number): Box[] {
  const whole = { top: 0, height: 1, continued: false };
  const backward = ({ stage, microBatch }: Cell, track: typeof whole): Box[] => {
    const middle = start + (end - start) * turn;
    const own = { stage, microBatch, ...track };
    return [
      { part: 'inputGrad', ...own, start, end: middle },
      { part: 'weightGrad', ...own, start: middle, end, continued: true },
    ];
  };
  if (action.kind === 'overlap') {
    const upper = { ...whole, height: 0.5 };
    return [
      { part: 'forward', ...action.forward, start, end, ...upper },
      ...backward(action.backward, { ...upper, top: 0.5 }),
    ];
  }
  if (action.kind === 'fullBackward') return backward(action, whole);
  const { kind: part, stage, microBatch } = action;
  return [{ part, stage, microBatch, start, end, ...whole }];
}

/** A computation's phases on two lanes. */
export function phaseBoxes({ action, start }: ComputeSpan, spans: readonly PhaseSpan[]): Box[] {
  return spans.map(({ lane, part, start: from, end: to }) => ({
    part,
    ...cellOf(action, part),
    start: start + from,
    end: start + to,
    top: lane === 'compute' ? 0 : 0.5,
    height: 0.5,
    continued: false,
  }));
}

function cellOf(action: Compute, part: Part): Cell {
  const { stage, microBatch } =
    action.kind !== 'overlap' ? action : part === 'forward' ? action.forward : action.backward;
  return { stage, microBatch };
}

/** Of each rank, the shade of each of its stages. */
export function shadesOf({ ranks, pipelines }: Schedule): Map<number, Shade>[] {
  return Array.from({ length: ranks }, (_, rank) => {
    const own = pipelines.flatMap(({ rankOfStage }) =>
      rankOfStage.flatMap((at, stage) => (at === rank ? [stage] : [])),
    );
    const stages = [...new Set(own)].sort((a, b) => a - b);
    return new Map(stages.map((stage, i) => [stage, (i % 2) as Shade]));
  });
}
