// The lab `loss-free-updates`: biases that move by the sign of the gap to the mean load, against biases that move by the gap
// itself (arXiv 2408.15664, table 3 and §4.3), at four speeds.
//
// The paper's gap is in tokens, which makes its speeds those of its batch; here it is 1 − load / mean, so a step of the
// proportional rule is at most as long as one of the sign's where an expert has at most twice the mean. The speeds are the
// paper's times ten, for runs of hundreds of steps, and what is judged is the pair at 0.01, chosen before any run.
import {
  armMeans,
  balanceArm,
  balanceSettings,
  globalViolation,
  perplexityOf,
  ratios,
  trainBalanced,
} from './balance';
import type { Lab } from './lab';
import { relativeDifferences } from './statistics';
import { type TrainingSettings, trainingSeconds } from './training';

const arms = {
  'sign 0.001': balanceArm({ speed: 0.001 }),
  'sign 0.003': balanceArm({ speed: 0.003 }),
  'sign 0.01': balanceArm({ speed: 0.01 }),
  'sign 0.1': balanceArm({ speed: 0.1 }),
  'proportional 0.001': balanceArm({ rule: 'proportional', speed: 0.001 }),
  'proportional 0.003': balanceArm({ rule: 'proportional', speed: 0.003 }),
  'proportional 0.01': balanceArm({ rule: 'proportional', speed: 0.01 }),
  'proportional 0.1': balanceArm({ rule: 'proportional', speed: 0.1 }),
} as const;

/** Sign against proportional updates of the router biases. */
export const lossFreeUpdates: Lab<TrainingSettings> = {
  name: 'loss-free-updates',
  claim: 'proportional updates balance better than those by sign',
  source: 'arXiv 2408.15664, table 3 and §4.3',
  published: 0.036 / 0.044,
  quantity: { name: 'global MaxVio, proportional over sign', unit: 'ratio' },
  effect: { name: 'held-out MaxVio at γ = 0.01, proportional over sign', unit: 'ratio' },
  inequality: { below: 1 },
  further: [
    {
      claim: 'and do not end at a lower perplexity',
      published: 9.51 / 9.5 - 1,
      quantity: { name: 'relative difference of perplexity', unit: 'percent' },
      effect: {
        name: 'mean of (proportional − sign) / sign perplexity at γ = 0.01',
        unit: 'percent',
      },
      inequality: { above: -0.0025 },
    },
    {
      claim: 'a speed ten times lower converges too slowly: more imbalance is left',
      published: 'slow, in a figure',
      quantity: { name: 'global MaxVio, γ = 0.001 over γ = 0.01, by sign', unit: 'ratio' },
      effect: { name: 'held-out MaxVio by sign, γ = 0.001 over γ = 0.01', unit: 'ratio' },
      inequality: { above: 1 },
    },
    {
      claim: 'a speed ten times higher oscillates: more imbalance is left',
      published: 'oscillates, in a figure',
      quantity: { name: 'global MaxVio, γ = 0.1 over γ = 0.01, by sign', unit: 'ratio' },
      effect: { name: 'held-out MaxVio by sign, γ = 0.1 over γ = 0.01', unit: 'ratio' },
      inequality: { above: 1 },
    },
  ],
  settings: balanceSettings({ quick: 3, full: 3 }, 130),
  estimate: (settings, context) => trainingSeconds(settings, Object.values(arms), context),
  async run(settings, context) {
    const all = await trainBalanced(settings, arms, context);
    const violation = (arm: keyof typeof arms): number[] => all(arm, globalViolation);
    const middle = violation('sign 0.01');
    const perplexity = (arm: keyof typeof arms): number[] => all(arm, perplexityOf);
    return {
      effect: { pairs: ratios(violation('proportional 0.01'), middle) },
      further: [
        relativeDifferences(perplexity('sign 0.01'), perplexity('proportional 0.01')),
        ratios(violation('sign 0.001'), middle),
        ratios(violation('sign 0.1'), middle),
      ].map((pairs) => ({ effect: { pairs } })),
      notes: armMeans(arms, all),
    };
  },
};
