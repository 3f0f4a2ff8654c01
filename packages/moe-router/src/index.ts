// The package's door.
export { type BalanceSizes, type SequenceBalance, sequenceBalanceLoss } from './balance';
export {
  type ConformanceCase,
  type ConformanceRouting,
  type ConformanceSpec,
  type RouterAdapter,
  type RouterUnderTest,
  routerConformance,
} from './conformance';
export { drawLoads, loadClass } from './draw';
export {
  type ChoiceOptions,
  chooseExperts,
  type RoutingGradients,
  type RoutingSizes,
  routeTokens,
  routeTokensBackward,
  type TokenRouting,
} from './functions';
export type { Gate } from './gate';
export {
  type DomainColumn,
  type LayerSummary,
  type LoadSeries,
  type LoadSummary,
  type StepColumn,
  summarizeDomains,
  summarizeLoads,
} from './loads';
export { permute, unpermuteAdd } from './permute';
export { deviceLoads } from './placement/device-loads';
export { placeExpertsGreedily } from './placement/greedy';
export { placeExperts, placementBound } from './placement/place';
export { type Rebalance, rebalanceExperts } from './placement/rebalance';
export type { ExpertPlacement, PlacementSizes } from './placement/sizes';
export {
  type BalancedSizes,
  type BalancePolicy,
  Balancer,
  type BalancerState,
  type BiasRule,
  balancePolicy,
  type Schedule,
  type UpdateBiasOptions,
  updateBias,
  valueAt,
} from './policy';
export {
  type BalanceLoss,
  type BiasUpdateOptions,
  Router,
  type RouterSpec,
  type Routing,
} from './router';
export {
  type AlignedRows,
  alignRows,
  permuteTokens,
  type RowSizes,
  type UnpermuteGradients,
  unpermuteTokens,
  unpermuteTokensBackward,
} from './rows';
export {
  type ChoiceSizes,
  type Counts,
  coActivation,
  domainLoads,
  loadEntropy,
  loadHistogram,
  maxViolation,
} from './telemetry';
export {
  type ReplayOptions,
  type RoutingTrace,
  replayTrace,
  type TraceBatch,
  type TraceChoice,
  type TraceReplay,
} from './trace';
export { isTrace, readTrace, writeTrace } from './trace-file';
