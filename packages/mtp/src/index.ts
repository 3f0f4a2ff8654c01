// The package's door.
export { MtpDepth, type MtpSpec } from './depth';
export { lossWeights, mtpTargets, type TargetSizes } from './targets';
