// The package's door.
export type { Semantics } from './engine';
export { type ComputeLists, withMessages } from './messages';
export { generateSchedule, type Method, type MethodFacts, methods } from './methods/index';
export type { MethodSizes } from './methods/sizes';
export { parseSchedule } from './parse';
export {
  type Action,
  type Cell,
  type Compute,
  describeAction,
  type Message,
  type Overlap,
  type Pipeline,
  type PlainCompute,
  replicasOf,
  type Schedule,
} from './schedule';
export { type JsonSchema, scheduleSchema } from './schema';
export { type ScheduleReport, validateSchedule } from './validate';
