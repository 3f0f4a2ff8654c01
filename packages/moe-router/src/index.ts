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
export { type BalanceLoss, Router, type RouterSpec, type Routing } from './router';
export {
  permuteTokens,
  type RowSizes,
  type UnpermuteGradients,
  unpermuteTokens,
  unpermuteTokensBackward,
} from './rows';
