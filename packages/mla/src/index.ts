// The package's door.
export { LatentAttention, type MlaSpec } from './attention';
export { LatentCache } from './cache';
export { type CoreSizes, type HeadSizes, latentAttention } from './core';
export {
  Rotary,
  rotaryFrequencies,
  type RotaryTables,
  rotaryTables,
  softmaxScale,
  type YarnConfig,
} from './rotary';
