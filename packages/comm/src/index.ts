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
export { self } from './self';
export type { Operation, OperationTraffic, Traffic } from './traffic';
