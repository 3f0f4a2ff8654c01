// The package's door.
export { type Acceptance, accept, type DraftedTokens } from './accept';
export { MtpDepth, type MtpSpec } from './depth';
export { draw, probabilities, type SamplingShape } from './sampling';
export { lossWeights, mtpTargets, type TargetSizes } from './targets';
