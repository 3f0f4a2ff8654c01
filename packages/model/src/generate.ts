// Text generation: one sequence through the latent cache, token by token or several at a time.
import { Region } from '@baleen/tensor';

import type { Decoder } from './decoder';
import { advance } from './pass';
import { type SamplingOptions, Sequence } from './sequence';

/** How to generate. */
export interface GenerateOptions extends SamplingOptions {
  /** Stops between tokens. */
  signal?: AbortSignal;
}

/**
 * Generates tokens after a prompt, as a stream.
 * @param model - the decoder
 * @param prompt - token ids, at least one
 * @param options - see {@link GenerateOptions}
 * @returns the new tokens one by one, without the stop token
 */
export function* generate(
  model: Decoder,
  prompt: Int32Array,
  options: GenerateOptions,
): Generator<number, void, void> {
  const region = new Region(model.kernels, 'generation');
  const sequence = new Sequence(model, region, prompt, options);
  try {
    while (!sequence.ended && !options.signal?.aborted)
      for (const token of advance(model, region, [sequence]).flat()) {
        if (options.signal?.aborted) return;
        yield token;
      }
  } finally {
    sequence.release();
  }
}
