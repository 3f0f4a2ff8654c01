// How tests of AdamW update.
import type { AdamWSettings } from '../src/index';

/** V3's, but for a learning rate that shows within a few updates. */
export const settings: AdamWSettings = {
  learningRate: 0.02,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxNorm: 1,
};
