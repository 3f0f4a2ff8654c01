// The package's door.
export {
  decodeE4M3,
  decodeE4M3Array,
  e4m3Max,
  e4m3Table,
  encodeE4M3,
  encodeE4M3Array,
} from '@baleen/kernels';

export { fp8Linears, quantizeActivations } from './linear';
export {
  type BlockShape,
  dequantize,
  multiply,
  type QuantizedMatrix,
  type QuantizeOptions,
  quantize,
  signalToNoise,
} from './quantize';
