// The package's door.
export {
  maxViolation,
  type RoutingSizes,
  routeTokens,
  type TokenRouting,
  updateBias,
} from './functions';
export { permute, unpermuteAdd } from './permute';
export { type BalanceLoss, Router, type RouterSpec, type Routing } from './router';
