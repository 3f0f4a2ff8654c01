// The package's door.
export { maxViolation, routeTokens, type RoutingSizes, type TokenRouting, updateBias } from './functions';
export { permute, unpermuteAdd } from './permute';
export { type BalanceLoss, Router, type RouterSpec, type Routing } from './router';
