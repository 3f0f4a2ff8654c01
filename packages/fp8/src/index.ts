// The package's door.
export {
  type CodesOf,
  decodeArray,
  decodeE4M3,
  decodeE4M3Array,
  type EncodeOptions,
  e4m3Max,
  e4m3Table,
  encodeArray,
  encodeE4M3,
  encodeE4M3Array,
  encoder,
  type FormatName,
  type Fp8Type,
  formats,
  formatTable,
  hopper,
  type NumberFormat,
  type NumberFormats,
  pack12,
  packed12Length,
  type ScaleOptions,
  type Summation,
  type TensorCore,
  unpack12,
} from '@baleen/kernels';

export { type CodeStatistics, codeStatistics, emptyCodeStatistics } from './code-statistics';
export { type DelayedScale, delayedScale, quantizeDelayed } from './delayed';
export {
  type GroupedOptions,
  inputGradient,
  multiply,
  type ProductOptions,
  weightGradient,
} from './gemm';
export { type Codes, fp8Linears, quantizeActivations, recipeLinears } from './linear';
export type { BlockShape, ElementFormat, MatrixSizes, QuantizedMatrix } from './matrix';
export {
  dequantize,
  type QuantizeOptions,
  quantize,
  type RequantizeOptions,
  requantize,
} from './quantize';
export {
  type Fp8Changes,
  type Fp8Recipe,
  fp8Recipe,
  type ScaleChoice,
} from './recipe';
export { isPowerOfTwo, type ScaleStatistics, scaleStatistics } from './scale-statistics';
export {
  type ErrorStatistics,
  emptyStatistics,
  errorStatistics,
  signalToNoise,
} from './statistics';
