// The package's door.
export {
  type BlockSizes,
  type Blocks,
  blockScale,
  decodeBlocks,
  encodeBlocks,
  forBlocks,
  type ScaleOptions,
  scaleBlocks,
} from './blocks';
export {
  decodeArray,
  decodeBf16,
  decodeBf16Array,
  decodeE4M3,
  decodeE4M3Array,
  type EncodeOptions,
  e4m3Max,
  e4m3Table,
  emptyCodes,
  encodeArray,
  encodeBf16,
  encodeBf16Array,
  encodeE4M3,
  encodeE4M3Array,
  encoder,
  formatTable,
} from './codec';
export {
  type CodesOf,
  type FormatName,
  formats,
  type NumberFormat,
  type NumberFormats,
} from './formats';
export type * from './kernels';
export { type LatentType, latentBytes } from './latents';
export {
  describeKernels,
  type KernelsReport,
  loadKernels,
  measurePeaks,
  nativeKernels,
  setThreads,
} from './load';
export type { NativeKernels, Peaks } from './native';
export { costOf, type KernelCost, nullKernels } from './null';
export { type KernelCall, observeKernels } from './observe';
export { pack12, packed12Length, unpack12 } from './packed12';
export { type KernelProfile, profileKernels } from './profile';
export { referenceKernels } from './reference';
export {
  type Matrix as DecodedMatrix,
  multiply as multiplyDecoded,
  transpose as transposeDecoded,
} from './reference/product';
export { exponentsOf } from './reference/tensor-core';
export { groupedScaleRows } from './signature';
export { type KernelName, kernelNames } from './signatures';
export { alignedRows } from './signatures-routing';
export { type SizeChecks, sizeChecks } from './size-checks';
export type { KernelSizes, KernelSpan, OperandSize } from './span';
export {
  bf16,
  byteSize,
  bytesPerElement,
  type CodeType,
  type CpuStorage,
  cpuBuffer,
  createCpuStorage,
  type DType,
  e4m3,
  type Fp8Type,
  f32,
  formatOf,
  i32,
  isFp8,
  isScaled,
  type Operand,
  type ScaledView,
  type Storage,
  type View,
  type ViewArray,
  viewOf,
} from './storage';
export {
  hopper,
  type Summation,
  type SummationFault,
  type SummationSizes,
  summationFault,
  summationSizes,
  type TensorCore,
  v3Promotion,
} from './summation';
