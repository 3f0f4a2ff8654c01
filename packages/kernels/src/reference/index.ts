// The readable reference: every kernel in plain TypeScript, the specification that the fast ones are compared with.

import { checked } from '../checks';
import type { Kernels } from '../kernels';
import { createCpuStorage } from '../storage';
import { attention, attentionBackward } from './attention';
import { latentAttention, latentAttentionBackward, readLatents, writeLatents } from './latents';
import { rmsNorm, rmsNormBackward, rope, swiglu, swigluBackward } from './layers';
import { embedding, embeddingBackward, linearCrossEntropy } from './loss';
import { gemm, groupedGemm, groupedGemmWeight } from './matrix';
import { add, cast, copy, copyStrided, fill, scale } from './memory';
import { adamw, clipFactor, sum, sumOfSquares } from './optimizer';
import {
  dequantize,
  quantize,
  quantizeBoth,
  requantize,
  rmsNormQuantize,
  swigluQuantize,
} from './quantize';
import * as routing from './routing';

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
    quantizeBoth,
    requantize,
    dequantize,
    rmsNormQuantize,
    swigluQuantize,
    rmsNorm,
    rmsNormBackward,
    swiglu,
    swigluBackward,
    rope,
    attention,
    attentionBackward,
    latentAttention,
    latentAttentionBackward,
    writeLatents,
    readLatents,
    embedding,
    embeddingBackward,
    linearCrossEntropy,
    sigmoid: routing.sigmoid,
    sigmoidBackward: routing.sigmoidBackward,
    softmax: routing.softmax,
    softmaxBackward: routing.softmaxBackward,
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
