// The lab `fp8-accumulation`: what Hopper's accumulation of FP8 products costs, and what promotion to FP32 every 128
// products saves (§3.3.2, §3.5.2).
//
// The report has one sentence: with two random matrices and K = 4096 the maximum relative error is nearly 2 %. It does not
// say how the matrices were drawn, how the error was taken, or whether 14 bits count the leading one. So the whole grid is
// measured, and one of its cells was chosen for the verdict before any was (what was known were fp8's own tests, in which
// operands of one sign lost more than 1 % without promotion and less than 0.1 % with):
//
// - Normal operands of mean 0: what activations and weights are nearest to, and what kernels for this recipe are tested with.
// - 13 bits below the leading one, 14 with it, of products and of the accumulator, which is aligned and cut with them: how
//   H100's instruction was measured to work (arXiv 2511.10909), and how §3.5.2 counts ("highest 14 bits").
// - The relative Frobenius error, in which every output counts. A maximum grows with the number of outputs, and the one of
//   |error| / |output| is made by whichever sum of signed products came out nearest to 0.
//
// Beside the published figure stands the maximum that is a figure of the matrix, not of its smallest output: the largest
// error over the largest output, of the same operands and the same core. Which cell comes nearest to the published figure
// is said as well, and has no part in the verdict.
//
// Every matrix has one scale. Scales of 128 values, which the recipe has, would end partial sums every 128 products whatever
// promotion says: without promotion there is nothing but one scale a row or a matrix. The exact product is that of the same
// codes, so that only accumulation is measured.
import { hopper, multiply, type QuantizedMatrix, quantize, type TensorCore } from '@baleen/fp8';
import type { Kernels } from '@baleen/kernels';
import { gaussian, mulberry32 } from '@baleen/tensor';

import { largestError, largestRelativeError, relativeError } from './errors';
import type { Lab, LabContext } from './lab';
import { summarizeRatios } from './statistics';
import { labFigure } from './verdict';

/** A way to draw operands. */
export type InputName = 'normal (0, 1)' | 'uniform (−1, 1)' | 'uniform (0, 1)';

/** From a seed, a stream of numbers. */
const draws: Readonly<Record<InputName, (seed: number) => () => number>> = {
  'normal (0, 1)': gaussian,
  'uniform (−1, 1)': (seed) => {
    const random = mulberry32(seed);
    return () => 2 * random() - 1;
  },
  'uniform (0, 1)': mulberry32,
};

/** A way to take an error. */
export type MetricName =
  | '√(Σ error² / Σ output²)'
  | 'max error / max output'
  | 'max (error / output)';

const metrics: Readonly<Record<MetricName, typeof relativeError>> = {
  '√(Σ error² / Σ output²)': relativeError,
  'max error / max output': largestError,
  'max (error / output)': largestRelativeError,
};

/** Metrics that are a maximum relative error, one way or the other. */
const maxima: readonly MetricName[] = ['max error / max output', 'max (error / output)'];

/** The published maximum relative error. */
const published = 0.02;

/** What promotion is held to. */
const tenfold = 10;

/** More bits than products of 32 FP8 numbers span: the sum is exact up to one rounding to FP32. */
const exactly: TensorCore = { fractionBits: 45, accumulator: 'aligned' };

/** Settings: the grid, and the cells that the lab's figures are taken from. */
export type AccumulationSettings = Readonly<{
  /** Products of a sum. */
  k: number;
  /** Outputs of a product [rows, cols]. */
  rows: number;
  cols: number;
  /** Pairs of operands, from the lab's first seed up. */
  seeds: number;
  /** Products after which partial sums are promoted, in the arm that does so. */
  promotion: number;
  /** How operands are drawn. */
  inputs: readonly InputName[];
  /** Bits kept below the leading one. */
  fractionBits: readonly number[];
  /** Whether the accumulator is aligned and cut like products. */
  accumulators: readonly TensorCore['accumulator'][];
  /** How errors are taken. */
  metrics: readonly MetricName[];
  /** The cell that the verdict is about. */
  verdict: Readonly<{ inputs: InputName; metric: MetricName } & TensorCore>;
  /** How the error beside the published one is taken, in that cell. */
  measured: MetricName;
}>;

const grid = {
  k: 4096,
  promotion: 128,
  inputs: ['normal (0, 1)', 'uniform (−1, 1)', 'uniform (0, 1)'],
  fractionBits: [13, 14],
  accumulators: ['aligned', 'fp32'],
  metrics: ['√(Σ error² / Σ output²)', 'max error / max output', 'max (error / output)'],
  verdict: { inputs: 'normal (0, 1)', ...hopper, metric: '√(Σ error² / Σ output²)' },
  measured: 'max error / max output',
} as const satisfies Partial<AccumulationSettings>;

/** Hopper's accumulation with and without promotion. */
export const fp8Accumulation: Lab<AccumulationSettings> = {
  name: 'fp8-accumulation',
  claim:
    'with K = 4096, promotion to FP32 every 128 products lowers the error of Hopper’s accumulation at least tenfold',
  source: 'arXiv 2412.19437, §3.3.2 and §3.5.2',
  published,
  quantity: { name: 'maximum relative error without promotion', unit: 'percent' },
  effect: { name: 'geometric mean of the error without promotion / with', unit: 'ratio' },
  inequality: { above: tenfold },
  settings: {
    quick: { rows: 48, cols: 48, seeds: 8, ...grid },
    full: { rows: 128, cols: 128, seeds: 24, ...grid },
  },
  estimate: (settings, context) => Promise.resolve(estimated(settings, context)),
  async run(settings, context) {
    const cells = await measured(settings, context);
    const { promotion, verdict } = settings;
    for (const cell of cells) {
      const { mean, ci95 } = summarizeRatios(ratios(cell));
      context.row({
        inputs: cell.inputs,
        'fraction bits': cell.core.fractionBits,
        accumulator: cell.core.accumulator,
        error: cell.metric,
        'never, %': 100 * meanOf(cell.never),
        [`every ${promotion}, %`]: 100 * meanOf(cell.promoted),
        ratio: mean,
        ...(ci95 && { from: ci95[0], to: ci95[1] }),
      });
    }
    const ofVerdict = (metric: MetricName): Cell | undefined =>
      cells.find(
        ({ inputs, core, metric: own }) =>
          own === metric &&
          inputs === verdict.inputs &&
          core.fractionBits === verdict.fractionBits &&
          core.accumulator === verdict.accumulator,
      );
    const [judged, beside] = [ofVerdict(verdict.metric), ofVerdict(settings.measured)];
    if (!judged || !beside) throw lacking(settings);
    return {
      effect: { pairs: ratios(judged) },
      measured: meanOf(beside.never),
      notes: [nearestNote(cells), rangeNote(cells)],
    };
  },
};

function lacking({ verdict }: AccumulationSettings): Error {
  const error = new Error(`settings.verdict (${JSON.stringify(verdict)}) is no cell of the grid`);
  return Object.assign(error, {
    code: 'ERR_BALEEN_LAB_SETTINGS',
    path: 'settings.verdict',
    hint: 'name inputs, bits, accumulator and metric that the grid has',
  });
}

/** A cell of the grid: its setting, and the errors of every seed. */
interface Cell {
  inputs: InputName;
  core: TensorCore;
  metric: MetricName;
  never: number[];
  promoted: number[];
}

/** Operands of a product, and what it is exactly. */
export interface Operands {
  /** [rows, k] and [cols, k]. */
  sides: readonly [QuantizedMatrix, QuantizedMatrix];
  /** [rows, cols]. */
  exact: Float32Array;
}

/** Measures every cell with every seed. */
async function measured(
  settings: AccumulationSettings,
  { kernels, seed, signal, progress }: LabContext,
): Promise<Cell[]> {
  const { inputs, seeds, promotion } = settings;
  const cores = coresOf(settings);
  const cells: Cell[] = inputs.flatMap((name) =>
    cores.flatMap((core) =>
      settings.metrics.map((metric) => ({ inputs: name, core, metric, never: [], promoted: [] })),
    ),
  );
  let done = 0;
  for (const name of inputs)
    for (let i = 0; i < seeds; i += 1) {
      const operands = drawn(settings, name, seed + i, kernels);
      for (const core of cores) {
        const own = cells.filter((cell) => cell.inputs === name && cell.core === core);
        const errors = (every: number): number[] =>
          accumulationErrors(operands, core, every, settings.metrics);
        const [never, promoted] = [errors(Infinity), errors(promotion)];
        own.forEach((cell, c) => {
          cell.never.push(never[c]);
          cell.promoted.push(promoted[c]);
        });
        done += 1;
        progress(done / (inputs.length * seeds * cores.length), name, `seed ${i + 1}/${seeds}`);
        // The emulation blocks this thread: let Ctrl-C through.
        await new Promise(setImmediate);
        signal.throwIfAborted();
      }
    }
  return cells;
}

function coresOf({ fractionBits, accumulators }: AccumulationSettings): TensorCore[] {
  return fractionBits.flatMap((bits) =>
    accumulators.map((accumulator) => ({ fractionBits: bits, accumulator })),
  );
}

/** Operands of a seed. */
function drawn(
  { rows, cols, k }: AccumulationSettings,
  inputs: InputName,
  seed: number,
  kernels: Kernels,
): Operands {
  const next = draws[inputs](seed);
  const side = (count: number): QuantizedMatrix => {
    const values = new Float32Array(count * k).map(() => next());
    return quantize(values, { rows: count, cols: k }, { block: 'tensor', kernels });
  };
  return operandsOf(side(rows), side(cols));
}

/**
 * Operands with their exact product.
 * @param x - [rows, k]
 * @param w - [cols, k]
 * @returns both, and x · wᵀ, rounded to FP32 once
 */
export function operandsOf(x: QuantizedMatrix, w: QuantizedMatrix): Operands {
  return {
    sides: [x, w],
    exact: multiply(x, w, { promotion: Infinity, tensorCore: exactly }),
  };
}

/**
 * Errors of a product as a tensor core accumulates it.
 * @param operands - what is multiplied
 * @param core - how it accumulates
 * @param promotion - products between promotions
 * @param wanted - the metrics
 * @returns an error for each
 */
export function accumulationErrors(
  { sides: [x, w], exact }: Operands,
  core: TensorCore,
  promotion: number,
  wanted: readonly MetricName[],
): number[] {
  const product = multiply(x, w, { promotion, tensorCore: core });
  return wanted.map((metric) => metrics[metric](exact, product));
}

/** Errors without promotion over errors with, seed by seed. */
function ratios({ never, promoted }: Cell): number[] {
  return never.map((error, i) => error / promoted[i]);
}

/** The geometric mean, so that the ratio of two means is the mean ratio. */
function meanOf(errors: readonly number[]): number {
  return summarizeRatios(errors).mean;
}

function nearestNote(cells: readonly Cell[]): string {
  const away = ({ never }: Cell): number => Math.abs(Math.log(meanOf(never) / published));
  const nearest = cells
    .filter(({ metric }) => maxima.includes(metric))
    .reduce((best, cell) => (away(cell) < away(best) ? cell : best));
  const { inputs, core, metric, never } = nearest;
  const setting = `${inputs}, ${core.fractionBits} fraction bits, accumulator ${core.accumulator}, ${metric}`;
  const lowers = labFigure(summarizeRatios(ratios(nearest)).mean, 'ratio');
  return `of both maxima, nearest to the published ${labFigure(published, 'percent')}, chosen after: ${labFigure(meanOf(never), 'percent')} (${setting}); promotion lowers it ${lowers}`;
}

function rangeNote(cells: readonly Cell[]): string {
  const means = cells.map((cell) => summarizeRatios(ratios(cell)).mean);
  const [least, most] = [Math.min(...means), Math.max(...means)];
  const enough = means.filter((mean) => mean > tenfold).length;
  return `over the grid promotion lowers errors ${labFigure(least, 'ratio')} to ${labFigure(most, 'ratio')}, more than tenfold in ${enough} of ${cells.length} cells`;
}

/** Seconds that all products take, by those of one seed and one core. */
function estimated(
  settings: AccumulationSettings,
  { kernels, seed }: Pick<LabContext, 'kernels' | 'seed'>,
): number {
  const begin = performance.now();
  const operands = drawn(settings, settings.inputs[0], seed, kernels);
  for (const promotion of [settings.promotion, Infinity])
    accumulationErrors(operands, settings.verdict, promotion, []);
  const each = (performance.now() - begin) / 1000 / 3; // with the exact product
  return each * settings.inputs.length * settings.seeds * (1 + 2 * coresOf(settings).length);
}
