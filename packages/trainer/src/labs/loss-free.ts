// The lab `loss-free`: what balancing without an auxiliary loss costs and brings (arXiv 2408.15664, table 2; V3, §4.5.3).
//
// Four arms at equal budget on real text: not balanced at all; an auxiliary loss over the batch with the paper's α; the same
// loss over each sequence; loss-free. The paper's γ of 0.001 had tens of thousands of steps to find the biases: a run of
// hundreds takes the preset's 0.01. Sizes were chosen by two pilot pairs with seeds 1001 and 1002, which no run here uses by
// default.
import {
  armMeans,
  balanceArm,
  balanceSettings,
  globalViolation,
  lossOf,
  perplexityOf,
  ratios,
  trainBalanced,
} from './balance';
import type { Lab } from './lab';
import { relativeDifferences } from './statistics';
import { type TrainingSettings, trainingSeconds } from './training';

const factor = 1e-3;

const arms = {
  none: balanceArm(),
  auxiliary: balanceArm({ factor, lossOver: 'batch' }),
  sequenceWise: balanceArm({ factor, lossOver: 'sequence' }),
  lossFree: balanceArm({ speed: 0.01 }),
} as const;

/** Loss-free balancing against losses and against none. */
export const lossFree: Lab<TrainingSettings> = {
  name: 'loss-free',
  claim: 'loss-free balancing leaves less than half of the imbalance that an auxiliary loss leaves',
  source: 'arXiv 2408.15664, table 2; arXiv 2412.19437, §4.5.3',
  published: 0.04 / 0.72,
  quantity: { name: 'global MaxVio, loss-free over auxiliary', unit: 'ratio' },
  effect: { name: 'held-out MaxVio, loss-free over auxiliary', unit: 'ratio' },
  inequality: { below: 0.5 },
  further: [
    {
      claim: 'loss-free balancing ends at a lower perplexity than an auxiliary loss',
      published: 9.5 / 9.56 - 1,
      quantity: { name: 'relative difference of perplexity', unit: 'percent' },
      effect: { name: 'mean of (loss-free − auxiliary) / auxiliary perplexity', unit: 'percent' },
      inequality: { below: 0 },
    },
    {
      claim: 'loss-free balancing ends at a lower loss than a sequence-wise loss',
      published: 2.253 / 2.258 - 1,
      quantity: { name: 'relative difference of loss', unit: 'percent' },
      effect: { name: 'mean of (loss-free − sequence-wise) / sequence-wise loss', unit: 'percent' },
      inequality: { below: 0 },
    },
    {
      claim: 'a loss over the batch ends within 0.25 % of the loss of loss-free balancing',
      published: 0,
      quantity: { name: 'relative difference of loss', unit: 'percent' },
      effect: { name: 'mean of (batch-wise − loss-free) / loss-free loss', unit: 'percent' },
      inequality: { above: -0.0025, below: 0.0025 },
    },
  ],
  settings: balanceSettings({ quick: 4, full: 4 }),
  estimate: (settings, context) => trainingSeconds(settings, Object.values(arms), context),
  async run(settings, context) {
    const all = await trainBalanced(settings, arms, context);
    return {
      effect: {
        pairs: ratios(all('lossFree', globalViolation), all('auxiliary', globalViolation)),
      },
      further: [
        relativeDifferences(all('auxiliary', perplexityOf), all('lossFree', perplexityOf)),
        relativeDifferences(all('sequenceWise', lossOf), all('lossFree', lossOf)),
        relativeDifferences(all('lossFree', lossOf), all('auxiliary', lossOf)),
      ].map((pairs) => ({ effect: { pairs } })),
      notes: [
        ...armMeans(arms, all),
        'the paper has 9.56 and MaxVio 0.72 with the auxiliary loss, 9.50 and 0.04 without',
      ],
    };
  },
};
