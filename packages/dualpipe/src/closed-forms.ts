// The published formulas for a pipeline's bubble (Table 2 of §3.2.1), and when they hold. They are short and often quoted, and
// away from the conditions below they are neither an upper nor a lower bound: what a schedule really does, `simulate` says.
import { type Costs, fullCosts } from './costs';
import { isGenerated, type Method } from './methods/index';
import type { FullSizes } from './methods/single';
import type { Schedule } from './schedule';

/** A method's formulas, with their values. */
export interface ClosedForm {
  /** Time that a rank stands still, by the formula; of the middle ranks where ranks differ. */
  bubble: number;
  /** The formula, with R ranks, F, B = Bᵢ + W, W, and F&B for an overlapped pair. */
  formula: string;
  /** Activations that the busiest rank holds at most, each of one stage and one micro-batch. */
  activations: number;
  /** Copies of each parameter. */
  copies: number;
  /** When the bubble is exact, for the lists that the method makes and messages that are buffered and take no time. */
  condition: string;
  /** Whether these lists, sizes and costs are so; if not, the bubble may still come out right. */
  holds: boolean;
}

interface Formula {
  text: string;
  condition: string;
  bubble: (ranks: number, costs: Times) => number;
  holds: (sizes: Pick<FullSizes, 'ranks' | 'microBatches'>, costs: Times) => boolean;
}

interface Times {
  F: number;
  Bi: number;
  B: number;
  W: number;
  pair: number;
}

const always = 'always';

const whole: Formula = {
  text: '(R − 1)(F + B)',
  condition: always,
  bubble: (ranks, { F, B }) => (ranks - 1) * (F + B),
  holds: () => true,
};

/** What DualPipe and DualPipeV share; `depth` is the number of ranks from the outside to the middle. */
function folded(text: string, depthOf: (ranks: number) => number): Formula {
  return {
    text,
    condition:
      'F = Bᵢ, W ≤ F and F&B ≥ F + W; of the middle ranks, and of all where F&B = F + B: a rank with fewer pairs than ' +
      'they have stands still F + B − F&B less for each',
    bubble: (ranks, { B, W, pair }) => (depthOf(ranks) - 1) * (pair + B - 3 * W),
    holds: ({ ranks }, { F, Bi, W, pair }) =>
      depthOf(ranks) === 1 || (near(F, Bi) && atMost(W, F) && atMost(F + W, pair)),
  };
}

const formulas: Readonly<Record<Method, Formula>> = {
  gpipe: whole,
  '1f1b': whole,
  interleaved: { ...whole, condition: 'always; F and B are those of one of a rank’s stages' },
  zb1p: {
    text: '(R − 1)(F + B − 2W)',
    condition: 'W ≤ F, W ≤ Bᵢ, and at least R micro-batches',
    bubble: (ranks, { F, B, W }) => (ranks - 1) * (F + B - 2 * W),
    holds: ({ ranks, microBatches }, { F, Bi, W }) =>
      ranks === 1 || (atMost(W, F) && atMost(W, Bi) && microBatches >= ranks),
  },
  dualpipe: folded('(R/2 − 1)(F&B + B − 3W)', (ranks) => ranks / 2),
  dualpipev: folded('(R − 1)(F&B + B − 3W)', (ranks) => ranks),
};

/** Rounding must not decide. */
const tolerance = 1e-9;
const near = (a: number, b: number): boolean => Math.abs(a - b) <= tolerance * Math.max(a, b);
const atMost = (a: number, b: number): boolean => a <= b || near(a, b);

/**
 * The published formulas of a schedule's method.
 * @param schedule - a valid one; `holds` is false where its lists are not those that {@link generateSchedule} makes
 * @param costs - of a stage
 * @returns the formulas with their values, or null for a method without any
 * @throws ERR_BALEEN_SCHEDULE_COSTS for times that are negative or not finite
 *
 * @example
 * ```ts
 * import { closedForm, generateSchedule, simulate } from '@baleen/dualpipe';
 * const schedule = generateSchedule('dualpipe', { ranks: 8, microBatches: 20 });
 * const times = { forward: 1, inputGrad: 1.5, weightGrad: 0.5 };
 * const { bubble, holds } = closedForm(schedule, times)!;
 * console.log(bubble, holds, simulate(schedule, { times }).ranks[0].idle); // => 10.5 false 9.5
 * ```
 */
export function closedForm(schedule: Schedule, costs: Costs): ClosedForm | null {
  return closedFormOf(schedule, costs, () => isGenerated(schedule));
}

/** The same, by whoever remembers which schedules are as their methods make them. */
export function closedFormOf(
  { method, ranks, microBatches, pipelines, maxInFlight }: Schedule,
  costs: Costs,
  generated: () => boolean,
): ClosedForm | null {
  if (!Object.hasOwn(formulas, method)) return null;
  const { text, condition, bubble, holds } = formulas[method as Method];
  const { forward: F, inputGrad: Bi, weightGrad: W, overlap: pair } = fullCosts(costs);
  const times = { F, Bi, B: Bi + W, W, pair };
  return {
    bubble: bubble(ranks, times),
    formula: text,
    activations: Math.max(0, ...(maxInFlight ?? [])),
    copies: pipelines.length,
    condition,
    holds: holds({ ranks, microBatches }, times) && generated(),
  };
}
