// The lab `dualpipe-bubble`: how long DualPipe's ranks stand still, simulated action by action, beside the published formula
// (Table 2 of §3.2.1): (PP/2 − 1)(F&B + B − 3W), with B = Bᵢ + W a full backward and F&B an overlapped pair.
//
// The report gives no condition. The formula cannot hold always: it knows F only through F&B. So the verdict is about times at
// which a forward takes as long as a gradient of an input and one of weights no longer (F = Bᵢ, W ≤ F), and a pair no shorter
// than F + W, and about the ranks in the middle. Other times are measured beside them, and have no part in the verdict.
// Nothing is random: the effect is the largest difference over all cases of the verdict, and rounding is all that may be left.
//
// What was known before: an event simulation of the same order, elsewhere, had given the same figures as the formula at the
// times of the first three cases, and the differences of the last three.
import { closedForm, generateSchedule, simulate } from '@baleen/dualpipe';

import type { Lab } from './lab';

/** A case: sizes and times. */
export type BubbleCase = readonly [
  ranks: number,
  microBatches: number,
  forward: number,
  inputGrad: number,
  weightGrad: number,
  overlap: number,
];

/** Settings, as [ranks, micro-batches, F, Bᵢ, W, F&B]: the cases of the verdict, and those beside them. */
export type BubbleSettings = Readonly<{
  /** Cases that the verdict is about. */
  within: readonly BubbleCase[];
  /** Cases outside of the condition. */
  beside: readonly BubbleCase[];
}>;

const unit = [1, 1, 1, 3] as const;
const shorter = [1, 1, 1, 2.5] as const;
const beside: readonly BubbleCase[] = [
  [8, 20, 1, 0.8, 0.5, 2.3],
  [8, 20, 1, 1.5, 0.5, 3],
  [8, 20, 1, 1, 1.2, 3],
];

/** Rounding: times are sums of some hundred numbers near 1. */
const rounding = 1e-9;

/** DualPipe's bubble. */
export const dualpipeBubble: Lab<BubbleSettings> = {
  name: 'dualpipe-bubble',
  claim:
    'DualPipe’s ranks stand still for (PP/2 − 1)(F&B + B − 3W), where F = Bᵢ, W ≤ F and F&B ≥ F + W',
  source: 'arXiv 2412.19437, §3.2.1, Table 2',
  published: 6,
  quantity: {
    name: 'idle time of 8 ranks, 20 micro-batches, F = Bᵢ = W = 1, F&B = 3',
    unit: 'number',
  },
  effect: { name: 'largest difference between simulation and formula', unit: 'number' },
  inequality: { below: rounding },
  settings: {
    quick: {
      within: [
        [8, 20, ...unit],
        [4, 20, ...unit],
        [16, 40, ...unit],
        [8, 64, ...unit],
        [8, 20, ...shorter],
        [8, 64, ...shorter],
        [8, 20, 1, 1, 0.4, 1.9],
      ],
      beside,
    },
    full: {
      within: [8, 16, 32, 64].flatMap((ranks) =>
        [2 * ranks, 4 * ranks, 15 * ranks].flatMap((microBatches) =>
          [unit, shorter, [1, 1, 0.4, 1.9] as const, [2, 2, 0.5, 3.5] as const].map(
            (times): BubbleCase => [ranks, microBatches, ...times],
          ),
        ),
      ),
      beside,
    },
  },
  estimate: ({ within }) => Promise.resolve(within.length / 4),
  async run({ within, beside: others }, { row, progress, signal }) {
    const cases = [...within, ...others];
    const differences: number[] = [];
    const idles: number[] = [];
    let asPromised = 0;
    for (const [index, each] of cases.entries()) {
      const measured = bubbleOf(each);
      const [ranks, microBatches, forward, inputGrad, weightGrad, overlap] = each;
      differences.push(measured.middle - measured.formula);
      idles.push(measured.middle);
      if (measured.held === ranks + 1) asPromised += 1;
      row({
        ranks,
        'micro-batches': microBatches,
        F: forward,
        Bᵢ: inputGrad,
        W: weightGrad,
        'F&B': overlap,
        total: measured.total,
        'idle, middle': measured.middle,
        'idle, edges': measured.edge,
        formula: measured.formula,
        held: measured.held,
        judged: index < within.length ? 'yes' : 'no',
      });
      progress((index + 1) / cases.length, `${ranks} ranks, ${microBatches} micro-batches`);
      // Simulations block this thread: let Ctrl-C through.
      await new Promise(setImmediate);
      signal.throwIfAborted();
    }
    const largest = (list: readonly number[]): number => Math.max(0, ...list.map(Math.abs));
    const apart = differences.slice(within.length);
    return {
      effect: { exact: largest(differences.slice(0, within.length)), n: within.length },
      measured: idles[0],
      notes: [
        `a rank holds R + 1 activations at most in ${asPromised} of ${cases.length} cases, as published`,
        'ranks at the edges have fewer pairs, and stand still F + B − F&B less for each',
        `outside of the condition the formula is off by ${apart.map((d) => signed(-d)).join(', ')}: neither a lower nor an upper bound`,
        'a planner should simulate, and show the formula beside it',
      ],
    };
  },
};

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;
}

/** A case's bubble, simulated and by the formula. */
export function bubbleOf([
  ranks,
  microBatches,
  forward,
  inputGrad,
  weightGrad,
  overlap,
]: BubbleCase): {
  total: number;
  middle: number;
  edge: number;
  formula: number;
  held: number;
} {
  const times = { forward, inputGrad, weightGrad, overlap };
  const schedule = generateSchedule('dualpipe', { ranks, microBatches });
  const { total, ranks: timelines } = simulate(schedule, { times });
  return {
    total,
    middle: timelines[ranks / 2].idle,
    edge: timelines[0].idle,
    formula: closedForm(schedule, times)?.bubble ?? NaN,
    held: Math.max(...timelines.map(({ peakInFlight }) => peakInFlight)),
  };
}
