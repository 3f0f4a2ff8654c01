// The package's door.
export {
  type FinalRate,
  type ScheduleConfig,
  type TrainConfig,
  type TrainModelConfig,
  trainConfigSchema,
} from './config';
export type {
  Baseline,
  CheckpointEvent,
  EndEvent,
  EvaluationEvent,
  KernelsUsed,
  StartEvent,
  StepEvent,
  StoppedEvent,
  TrainEvent,
  TrainResult,
} from './events';
export { type PresetName, presetDescriptions, presets } from './presets';
export {
  type ConfigKey,
  type ConfigLayer,
  checkTrainConfig,
  configJsonSchema,
  configKeys,
  modelConfigOf,
  resolveConfig,
} from './resolve';
