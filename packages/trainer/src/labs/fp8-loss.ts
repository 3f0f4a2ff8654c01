// The lab `fp8-loss`: how far FP8 training ends from BF16 training, in held-out loss (§3.3).
//
// Two runs that differ in anything, were it one rounding, soon take different ways, and their losses differ by chance. At
// this size that chance is larger than the claim. So runs are paired by seed and data order, the mean of many pairs is
// judged by its interval, and `quick` keeps runs from drifting apart: V3's speed of the router biases instead of the
// presets' faster ones, a low learning rate, few steps. Sizes were chosen by the spread of pilot pairs with seeds from 1001
// up, which no run here uses by default.
import type { Lab } from './lab';
import { relativeDifferences } from './statistics';
import { type Arm, type TrainingSettings, trainingSeconds, trainPairs } from './training';

const arms = {
  bf16: { changes: { precision: 'bf16' } },
  fp8: { changes: { precision: 'fp8' } },
} as const satisfies Record<string, Arm>;

/** V3's FP8 recipe against BF16: the gap of held-out loss. */
export const fp8Loss: Lab<TrainingSettings> = {
  name: 'fp8-loss',
  claim: 'training in FP8 ends within 0.25 % of the loss of training in BF16',
  source: 'arXiv 2412.19437, §3.3',
  published: 0.0025,
  quantity: { name: 'relative loss error', unit: 'percent' },
  effect: { name: 'mean of (FP8 − BF16) / BF16 held-out loss', unit: 'percent' },
  inequality: { above: -0.0025, below: 0.0025 },
  settings: {
    quick: {
      preset: 'tiny',
      pairs: 12,
      changes: {
        steps: 80,
        model: { mtp: { depth: 0 } },
        schedule: {
          learningRate: { peak: 1e-3, end: 1e-4, finalShares: [] },
          biasSpeed: { speed: 1e-3 },
        },
        evaluation: { every: 0, stride: 0 },
      },
    },
    full: {
      preset: 'small',
      pairs: 4,
      changes: {
        steps: 2000,
        schedule: { biasSpeed: { speed: 1e-3 } },
        evaluation: { every: 0 },
      },
    },
  },
  estimate: (settings, context) => trainingSeconds(settings, Object.values(arms), context),
  async run(settings, context) {
    const losses: { bf16: number[]; fp8: number[] } = { bf16: [], fp8: [] };
    await trainPairs(settings, arms, context, (seed, { bf16, fp8 }) => {
      losses.bf16.push(bf16.loss);
      losses.fp8.push(fp8.loss);
      const [gap] = relativeDifferences([bf16.loss], [fp8.loss]);
      context.row({ seed, 'BF16 loss': bf16.loss, 'FP8 loss': fp8.loss, 'gap, %': 100 * gap });
    });
    return { effect: { pairs: relativeDifferences(losses.bf16, losses.fp8) } };
  },
};
