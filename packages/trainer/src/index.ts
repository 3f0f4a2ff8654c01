// The package's door.

export type { OperandAudit, OperandKind } from './audit/operands';
export { auditStep, type StepAudit, type StepAuditOptions } from './audit/step';
export type { PeakName } from './bench-case';
export {
  benchDecode,
  type DecodeBenchmark,
  type DecodeBenchmarkOptions,
  type DecodeResult,
} from './bench-decode';
export {
  benchKernels,
  type KernelBenchmark,
  type KernelBenchmarkOptions,
  type KernelResult,
  type ThreadPeaks,
} from './bench-kernels';
export { benchStep, type StepBenchmark, type StepBenchmarkOptions } from './bench-step';
export type { TrainerState } from './checkpoint';
export { type CheckpointFolder, listCheckpoints } from './checkpoint-files';
export type { ChromeTrace, Span, TraceEvent } from './chrome-trace';
export {
  type BalanceConfig,
  type FinalRate,
  type ScheduleConfig,
  type TrainConfig,
  type TrainModelConfig,
  trainConfigSchema,
} from './config';
export { type ConfigKey, configJsonSchema, configKeys } from './config-keys';
export * from './data/index';
export type { DepthScore } from './depth-scores';
export { type Estimate, estimate, type MemoryEstimate, type Peaks } from './estimate';
export type { SentEstimate } from './estimate-layout';
export {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type RoutedBatch,
  type RoutingWatcher,
  type WindowRunOptions,
} from './evaluate';
export type {
  Baseline,
  CheckpointEvent,
  EndEvent,
  EvaluationEvent,
  KernelsUsed,
  RestartEvent,
  SlowEvent,
  StartEvent,
  StepEvent,
  StoppedEvent,
  TrainEvent,
  TrainResult,
} from './events';
export { labs } from './labs/index';
export type {
  ClaimMeasurement,
  ClaimPlan,
  ClaimResult,
  ExactEffect,
  Lab,
  LabBudget,
  LabClaim,
  LabContext,
  LabInequality,
  LabMeasurements,
  LabPlan,
  LabQuantity,
  LabRecord,
  LabResult,
  LabRow,
  LabSettings,
  LabUnit,
  LabVerdict,
  PairedEffect,
} from './labs/lab';
export { type LabOptions, runLab } from './labs/run';
export { inequalityText, labFigure } from './labs/verdict';
export { makeFolder } from './make-folder';
export { didYouMean, nearest } from './nearest';
export { type NumberLimits, numberInWords } from './number-limits';
export { type OpenedRun, openRun } from './open-run';
export { type PresetName, presetDescriptions, presets } from './presets';
export { type Fault, faultOf } from './ranks/faults';
export { Layout, type LayoutConfig, type LayoutReport, type Range } from './ranks/layout';
export { type ConfigLayer, checkTrainConfig, modelConfigOf, resolveConfig } from './resolve';
export { TraceRecorder } from './routing-trace';
export { type FoundRun, findRun, type RunConfig, readMetrics } from './run-folder';
export { drawRunLoads, type RunLoads, runLoads } from './run-loads';
export { checkRunLock, isRunLock } from './run-lock';
export {
  batchAt,
  biasSpeedAt,
  learningRateAt,
  mtpWeightAt,
  planOf,
  type RunPlan,
  type StepPlan,
} from './schedule';
export type { TrainOptions } from './session';
export { train } from './train';
