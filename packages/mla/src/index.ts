// The package's door.
export { LatentAttention, type MlaSpec } from './attention';
export { LatentCache } from './cache';
export { latentAttention } from './core';
export {
  type AttentionShape,
  cacheBytes,
  cacheElements,
  type DecodeSizes,
  type DecodeWork,
  decodeWork,
  type GroupedShape,
  type LatentShape,
  type Peaks,
  type Roofline,
  roofline,
  type Work,
} from './costs';
export { documentBorders } from './documents';
export { type AttentionForm, attentionForm } from './form';
export {
  type Attended,
  type AttendedLatents,
  type AttendGradients,
  type AttendLatentsGradients,
  type AttendLatentsSizes,
  type AttendSizes,
  attend,
  attendBackward,
  attendLatents,
  attendLatentsBackward,
  type FullHeads,
} from './functions';
export {
  type AttendedPages,
  type AttendPagesSizes,
  attendPages,
  decodeLatents,
  encodeLatents,
  type LatentRows,
  type LatentRowWidths,
  type PagedInput,
} from './functions-cached';
export type { CoreSizes, HeadSizes } from './heads';
export {
  type AbsorbedGroup,
  type CachedRows,
  DecodePass,
  type ExpandedGroup,
  type RowGroup,
} from './pass';
export { type CacheFormat, LatentPool, type LatentPoolSizes } from './pool';
export { Rotary, type RotaryTables, rotaryFrequencies, rotaryTables } from './rotary';
export { convertRotary, type RotaryLayout, type RotaryLayoutSizes } from './rotary-layout';
export { softmaxScale, type YarnConfig, type YarnFault, yarnBeyond, yarnFault } from './yarn';
