// The package's door.
export { type ClosedForm, closedForm } from './closed-forms';
export type { Costs, FullCosts } from './costs';
export { type DrawOptions, drawSchedule } from './draw';
export type { Semantics, Transfer } from './engine';
export { type ExecuteOptions, type Execution, execute, type MessageSpan } from './execute';
export { type MeasuredTimeline, measuredTimeline } from './measured';
export type { HeldBytes, MemoryStep } from './memory';
export { arrayLink, type MessageLink, type Messenger } from './message-link';
export { type ComputeLists, withMessages } from './messages';
export {
  checkSizes,
  generateSchedule,
  type Method,
  type MethodFacts,
  methods,
} from './methods/index';
export type { MethodSizes } from './methods/sizes';
export { parsePhases, parseSchedule } from './parse';
export {
  costsOfPhases,
  type Phase,
  type PhaseSpan,
  type PhaseTimeline,
  type PhaseTimes,
  type Processors,
  phaseTimeline,
} from './phases';
export { publishedProfile } from './profile';
export { type DivisibleGroup, ReplicaSums, type SummingGroup } from './replicas';
export {
  type Action,
  type Cell,
  type Compute,
  describeAction,
  forEachPart,
  isMessage,
  type Message,
  type Overlap,
  type Part,
  type Pipeline,
  type PlainCompute,
  replicasOf,
  type Schedule,
} from './schedule';
export { type JsonSchema, scheduleSchema } from './schema';
export { stageTimes } from './share';
export {
  type Link,
  type Simulation,
  type SimulationOptions,
  simulate,
} from './simulate';
export type { CommunicationPhase, ComputePhase, Handle, Stage, StagePhase } from './stage';
export { type TimedStageOptions, type TimedStageTimes, timedStage } from './timed-stage';
export type { ComputeSpan, RankTimeline, Timeline } from './timeline';
export { type ChromeTrace, readChromeTrace, type TraceEvent, toChromeTrace } from './trace';
export { type ScheduleReport, validateSchedule } from './validate';
