// The lab `router-collapse`: a router with neither bias nor loss goes on choosing the experts it chose at first, and others
// starve (arXiv 2408.15664, §1; pytorch/torchtitan#1246).
import {
  balanceArm,
  balanceSettings,
  globalViolation,
  idlestShare,
  lossOf,
  ratios,
  trainBalanced,
} from './balance';
import type { Lab } from './lab';
import { relativeDifferences } from './statistics';
import { type TrainingSettings, trainingSeconds } from './training';

const arms = { none: balanceArm(), lossFree: balanceArm({ speed: 0.01 }) } as const;

/** Routers without any balance. */
export const routerCollapse: Lab<TrainingSettings> = {
  name: 'router-collapse',
  claim:
    'without bias or loss routers collapse: the idlest expert of a layer gets less than a quarter of the mean load',
  source: 'pytorch/torchtitan#1246; arXiv 2408.15664, §1',
  published: 'few experts get nearly all tokens',
  quantity: { name: 'idlest expert over the mean, mean over layers', unit: 'percent' },
  effect: { name: 'held-out load of the idlest expert over the mean', unit: 'percent' },
  inequality: { below: 0.25 },
  further: [
    {
      claim:
        'and the busiest is at least three times as far above the mean as with loss-free balancing',
      published: 'no figure',
      quantity: { name: 'global MaxVio, unbalanced over loss-free', unit: 'ratio' },
      effect: { name: 'held-out MaxVio, unbalanced over loss-free', unit: 'ratio' },
      inequality: { above: 3 },
    },
    {
      claim: 'which costs loss',
      published: 'no figure',
      quantity: { name: 'relative difference of loss', unit: 'percent' },
      effect: {
        name: 'mean of (unbalanced − loss-free) / loss-free held-out loss',
        unit: 'percent',
      },
      inequality: { above: 0 },
    },
  ],
  settings: balanceSettings({ quick: 8, full: 4 }),
  estimate: (settings, context) => trainingSeconds(settings, Object.values(arms), context),
  async run(settings, context) {
    const all = await trainBalanced(settings, arms, context);
    return {
      effect: { pairs: all('none', idlestShare) },
      further: [
        ratios(all('none', globalViolation), all('lossFree', globalViolation)),
        relativeDifferences(all('lossFree', lossOf), all('none', lossOf)),
      ].map((pairs) => ({ effect: { pairs } })),
    };
  },
};
