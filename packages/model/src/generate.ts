// Text generation: one sequence through the latent cache, token by token or several at a time.
import type { CacheFormat } from '@baleen/mla';
import { Region } from '@baleen/tensor';

import { CachePools } from './caches';
import type { Decoder } from './decoder';
import { advance } from './pass';
import { demandOf, type SamplingOptions, Sequence } from './sequence';

/** How to generate. */
export interface GenerateOptions extends SamplingOptions {
  /** What cached latents take (default: FP32 where the model computes in it, else BF16). */
  cache?: CacheFormat;
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
  const { capacity, depths } = demandOf(model, prompt, options);
  const { cache: format } = options;
  const sizes = { capacities: [capacity], depths, ...(format && { format }) };
  const pools = new CachePools(model, region, sizes);
  const sequence = new Sequence(model, pools, prompt, options);
  try {
    while (!sequence.ended && !options.signal?.aborted)
      for (const token of advance(model, region, [sequence]).flat()) {
        if (options.signal?.aborted) return;
        yield token;
      }
  } finally {
    sequence.release();
    pools.release();
  }
}
