// The package's door.
export {
  AdamW,
  type AdamWOptions,
  type AdamWSettings,
  type MomentForm,
  type Moments,
  type SharedParameter,
} from './adamw';
export { castTo, dequantize } from './cast';
export { checkGradients, type GradientCheck, type GradientCheckResult } from './gradient-check';
export { type KeptForm, type KeptForms, keepAs } from './keep';
export {
  type GroupedLinear,
  type GroupedLinearSpec,
  type InputForms,
  type Linear,
  type LinearFactory,
  type LinearRecipe,
  type LinearSpec,
  type RowGroups,
  type WeightProduct,
} from './linear';
export { linearFactory } from './linear-layer';
export {
  add,
  concatColumns,
  concatRows,
  embedding,
  matrixShape,
  rmsNorm,
  sliceSequences,
  splitColumns,
  swiglu,
} from './ops';
export {
  type Initializer,
  initialize,
  Module,
  Parameter,
  type ParameterOptions,
  type ParameterSlice,
  Pools,
  type StateTensor,
  weightView,
} from './parameter';
export {
  type Bundle,
  type BundleGrad,
  type CommunicationPhase,
  type ComputePhase,
  type Handle,
  type Phase,
  Run,
} from './phase';
export { plainLinears } from './plain-linears';
export { gaussian, mulberry32 } from './random';
export { recompute } from './recompute';
export { Block, type Rebuildable, Region, type RegionCounters } from './region';
export { RepeatedCalls } from './repeat';
export type { Piece, Share } from './shares';
export { Tape, type TapeOptions } from './tape';
export { holdAll, releaseAll, type TapeNode } from './tape-node';
export {
  blocksOf,
  emptyTensor,
  isTensor,
  ScaledTensor,
  type Shape,
  shapeError,
  sizeOf,
  Tensor,
  tensorBrand,
  tensorFrom,
  type Value,
  writeTensor,
} from './tensor';
export { carry, nodesOf, type TreeNode, treeSum } from './tree-sum';
