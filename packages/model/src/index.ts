// The package's door.
export {
  type AuditOptions,
  type AuditProgress,
  auditCheckpoint,
  type CheckpointAudit,
} from './audit';
export {
  type AuditFinding,
  leastSignalToNoise,
  signalToNoiseOf,
  type WeightAudit,
} from './audit-checks';
export { CachePools, type CacheSizes, type SequenceCaches } from './caches';
export {
  type CheckpointPiece,
  checkpointPieces,
  loadWeights,
  type WeightsFormat,
  type WrittenDepths,
  weightsToWrite,
} from './checkpoint';
export {
  decodeTensor,
  encodeTensor,
  type TensorSource,
  type TensorToWrite,
} from './checkpoint-tensors';
export { type AttentionConfig, checkConfig, type ModelConfig, type MoeConfig } from './config';
export { countParameters, flopsPerToken, type ParameterCounts, type TokenFlops } from './counts';
export { Decoder, type DecoderOptions, type ForwardOptions, type Precision } from './decoder';
export { ExpertGroup, type ExpertGroupOptions, type ExpertPhases } from './expert-group';
export {
  type GenerateOptions,
  generate,
  generateMany,
  type ManyOptions,
} from './generate';
export {
  configFromHuggingFace,
  configToHuggingFace,
  type HuggingFaceConfig,
  quantizationFromHuggingFace,
  type WeightQuantization,
} from './hugging-face';
export {
  type CheckpointNames,
  checkpointNames,
  isMtpTensor,
  isSharedCopy,
} from './hugging-face-names';
export { DecoderLayer, type LayerLinears, type LayerOptions } from './layer';
export { advance } from './pass';
export { type RecomputedPart, recomputedParts } from './recomputed';
export {
  headerLength,
  makeHeader,
  parseHeader,
  type SafetensorsHeader,
  type SafetensorsType,
  type TensorEntry,
} from './safetensors';
export {
  type CacheDemand,
  type DraftState,
  type DraftWindow,
  demandOf,
  type SamplingOptions,
  Sequence,
  type SequenceStart,
} from './sequence';
export { cutStages, type ModelStage, stageOf, stageTensors } from './stages';
export type { MadeTokens, TextRequest } from './table';
export { type MemoryOptions, TextMemory } from './text-memory';
export { type NamedShape, wholeModel } from './whole';
