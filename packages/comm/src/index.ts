// The package's door.
export { type CommArray, type ElementType } from './arrays';
export type {
  CallOptions,
  Communicator,
  ExchangeOptions,
  Handle,
  Operations,
  PieceOptions,
} from './communicator';
export { emulatedLink, type LinkOptions } from './emulated-link';
export { type ErrorReport, errorOfReport, reportOf } from './error-report';
export { type ExpertCalls, ExpertExchange } from './experts/exchange';
export type { ExchangeHandle } from './experts/progress';
export type { ExpertRoute } from './experts/route';
export type {
  CombineOptions,
  DispatchOptions,
  ExpertRows,
  ExpertTraffic,
  LevelBytes,
  RowsPer,
  ScaledRows,
} from './experts/rows';
export type { ExpertExchangeSpec } from './experts/spec';
export { type DispatchLayout, dispatchLayout, type LayoutSizes } from './layout';
export { self } from './self';
export {
  type Bottleneck,
  type Prediction,
  type PredictionOptions,
  predictTime,
  processorsToFill,
} from './topology/cost';
export {
  type DeviceProcessors,
  type Machine,
  type MachineName,
  machines,
  type TopologyLink,
} from './topology/machines';
export { fittedRates, type KernelRates, publishedRates } from './topology/rates';
export { type MachineChanges, ranksOf, type Topology, topologyOf } from './topology/topology';
export {
  type Copies,
  combineTraffic,
  dispatchTraffic,
  type LinkBytes,
  type LinkTraffic,
  type TrafficOptions,
  tokenBytes,
} from './topology/traffic';
export type { Operation, OperationTraffic, Traffic } from './traffic';
