// What the tests of FP8 checkpoints share: a model whose matrices have ragged blocks, and what FP8 makes of it.

import { dequantize, quantize } from '@baleen/fp8';
import { decodeBf16, encodeBf16, type Kernels, referenceKernels } from '@baleen/kernels';

import { checkpointPieces, type Decoder, type ModelConfig } from '../src/index';
import { smallConfig, smallModel } from './small';

/** Two layers, one with experts, one depth; 200 × 333 and other widths that 128 does not divide. */
const changes: Partial<ModelConfig> = {
  hiddenSize: 200,
  intermediateSize: 333,
  attention: { ...smallConfig.attention, queryRank: 140, kvRank: 129 },
  moe: { ...smallConfig.moe, intermediateSize: 130 },
  mtp: { depth: 1 },
};

/** A model of those widths with random weights. */
export function raggedModel(kernels: Kernels): Decoder {
  return smallModel(kernels, changes);
}

/** The same with every value 0.25. */
export function emptyModel(kernels: Kernels): Decoder {
  const model = raggedModel(kernels);
  for (const [, { data }] of [...model.parameters(), ...model.states()]) kernels.fill(data, 0.25);
  return model;
}

/** Whether the layout has a weight in FP8: told by hand, not by the code under test. */
export function inFp8(name: string): boolean {
  return name.endsWith('_proj.weight')
    ? !name.endsWith('eh_proj.weight')
    : name.endsWith('kv_a_proj_with_mqa.weight');
}

/**
 * What a model's tensors hold after an export to FP8 and back, by name: dequantise(quantise(master)) of the reference
 * kernels, BF16 for what stays out of FP8, router biases as they are.
 */
export function throughFp8(model: Decoder, powerOfTwo = false): Map<string, Float32Array> {
  const kernels = referenceKernels();
  return new Map(
    [...checkpointPieces(model)].map(({ name, data, isState }) => {
      const values = data.readSync() as Float32Array;
      if (isState) return [name, values.slice()];
      if (!inFp8(name)) return [name, values.map((value) => decodeBf16(encodeBf16(value)))];
      const [rows, cols] = data.shape;
      const options = { block: '128x128', powerOfTwo, kernels } as const;
      return [name, dequantize(quantize(values, { rows, cols }, options), { kernels })];
    }),
  );
}
