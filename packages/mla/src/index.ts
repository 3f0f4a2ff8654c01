// The package's door.
export { LatentAttention, type MlaSpec } from './attention';
export { LatentCache } from './cache';
export { type CoreSizes, type HeadSizes, latentAttention } from './core';
export {
  Rotary,
  type RotaryTables,
  rotaryFrequencies,
  rotaryTables,
  softmaxScale,
  type YarnConfig,
} from './rotary';
