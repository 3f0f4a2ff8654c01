// The package's door.
export { type Acceptance, accept, type DraftedTokens } from './accept';
export { countDrafts, type DraftCounts, type DraftRates, draftCounts, draftRates } from './counts';
export { MtpDepth, type MtpSpec } from './depth';
export { draw, probabilities, type SamplingShape } from './sampling';
export { lossWeights, mtpTargets, type TargetSizes } from './targets';
