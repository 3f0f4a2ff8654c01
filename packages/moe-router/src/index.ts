// The package's door.
export { type BalanceSizes, type SequenceBalance, sequenceBalanceLoss } from './balance';
export {
  maxViolation,
  type RoutingGradients,
  type RoutingSizes,
  routeTokens,
  routeTokensBackward,
  type TokenRouting,
  updateBias,
} from './functions';
export { permute, unpermuteAdd } from './permute';
export { placeExpertsGreedily } from './placement/greedy';
export { placeExperts, placementBound } from './placement/place';
export { type Rebalance, rebalanceExperts } from './placement/rebalance';
export type { ExpertPlacement, PlacementSizes } from './placement/sizes';
export { type BalanceLoss, Router, type RouterSpec, type Routing } from './router';
export {
  permuteTokens,
  type RowSizes,
  type UnpermuteGradients,
  unpermuteTokens,
  unpermuteTokensBackward,
} from './rows';
