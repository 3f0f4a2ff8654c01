// The readable reference: every kernel in plain TypeScript, the specification that the fast ones are compared with.

import { checked } from '../checks';
import { encodeBf16 } from '../codec';
import type { Kernels } from '../kernels';
import {
  bf16,
  bytesPerElement,
  cpuBuffer,
  createCpuStorage,
  f32,
  i32,
  type View,
} from '../storage';
import { attention, attentionBackward } from './attention';
import { rmsNorm, rmsNormBackward, rope, swiglu, swigluBackward } from './layers';
import { embedding, embeddingBackward, linearCrossEntropy } from './loss';
import { gemm, groupedGemm, groupedGemmWeight } from './matrix';
import { adamw, clipFactor, sum, sumOfSquares } from './optimizer';
import { cast, copyStrided, dequantize, quantize, requantize } from './quantize';
import * as routing from './routing';

function fill(out: View, value: number): void {
  if (out.dtype === 'f32') f32(out).fill(value);
  else if (out.dtype === 'i32') i32(out).fill(value);
  else if (out.dtype === 'bf16') bf16(out).fill(encodeBf16(value));
  else throw new TypeError('fill takes FP32, BF16 or I32');
}

function copy(out: View, x: View): void {
  const bytes = (view: View): Uint8Array =>
    new Uint8Array(cpuBuffer(view), view.byteOffset, view.size * bytesPerElement[view.dtype]);
  bytes(out).set(bytes(x));
}

function add(out: View, a: View, b: View): void {
  const read = out.dtype === 'i32' ? i32 : f32;
  const [result, left, right] = [read(out), read(a), read(b)];
  for (let i = 0; i < result.length; i += 1) result[i] = (left[i] as number) + (right[i] as number);
}

function scale(out: View, x: View, factor: number): void {
  const [result, values] = [f32(out), f32(x)];
  const rounded = Math.fround(factor);
  for (let i = 0; i < result.length; i += 1) result[i] = (values[i] as number) * rounded;
}

/**
 * The reference kernels. Slow and exact; every other implementation is tested against them.
 * @returns an implementation of `Kernels` in plain TypeScript
 */
export function referenceKernels(): Kernels {
  return checked({
    implementation: 'reference',
    isa: 'javascript',
    threads: 1,
    createStorage: createCpuStorage,
    flush: () => undefined,
    fill,
    copy,
    cast,
    copyStrided,
    add,
    scale,
    gemm,
    groupedGemm,
    groupedGemmWeight,
    quantize,
    requantize,
    dequantize,
    rmsNorm,
    rmsNormBackward,
    swiglu,
    swigluBackward,
    rope,
    attention,
    attentionBackward,
    embedding,
    embeddingBackward,
    linearCrossEntropy,
    sigmoid: routing.sigmoid,
    sigmoidBackward: routing.sigmoidBackward,
    topK: routing.topK,
    gateWeights: routing.gateWeights,
    gateWeightsBackward: routing.gateWeightsBackward,
    balanceLoss: routing.balanceLoss,
    route: routing.route,
    permute: routing.permute,
    unpermute: routing.unpermute,
    unpermuteBackward: routing.unpermuteBackward,
    updateRouterBias: routing.updateRouterBias,
    sum,
    sumOfSquares,
    clipFactor,
    adamw,
  });
}
