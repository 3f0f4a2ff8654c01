// What a whole model holds, for ranks that have a part of it.
import { nullKernels } from '@baleen/kernels';
import type { Shape } from '@baleen/tensor';

import type { ModelConfig } from './config';
import { Decoder } from './decoder';

/** A parameter or a state by name. */
export interface NamedShape {
  /** Its dotted name. */
  name: string;
  /** Its sizes, experts all together. */
  shape: Shape;
}

/**
 * Lists what a model holds without making it.
 * @param config - its sizes
 * @returns names and sizes, in the order of `Decoder.parameters` and `Decoder.states`
 */
export function wholeModel(config: ModelConfig): {
  /** Trained. */
  parameters: NamedShape[];
  /** Kept beside them: router biases. */
  states: NamedShape[];
} {
  const model = new Decoder(nullKernels(), config, 'bf16');
  return {
    parameters: [...model.parameters()].map(([name, { shape }]) => ({ name, shape })),
    states: [...model.states()].map(([name, { data }]) => ({ name, shape: data.shape })),
  };
}
