// Text generation: one token at a time through the latent cache.
import { draw, probabilities, type SamplingShape } from '@baleen/mtp';
import { mulberry32, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';

import type { Decoder } from './decoder';

/** How tokens are chosen. */
export interface SamplingOptions extends SamplingShape {
  /** Most tokens to make. */
  maxTokens: number;
  /** Seeds the choice: the same seed gives the same text. */
  seed?: number;
  /** Tokens that end the text. */
  stop?: readonly number[];
  /** Stops between tokens. */
  signal?: AbortSignal;
}

/**
 * Generates tokens after a prompt, as a stream.
 * @param model - the decoder
 * @param prompt - token ids, at least one
 * @param options - see {@link SamplingOptions}
 * @returns the new tokens one by one, without the stop token
 */
export function* generate(
  model: Decoder,
  prompt: Int32Array,
  options: SamplingOptions,
): Generator<number, void, void> {
  const { maxTokens, seed = 0, stop = [], signal } = options;
  if (prompt.length === 0)
    throw Object.assign(new Error('the prompt holds no tokens'), {
      code: 'ERR_BALEEN_USAGE_PROMPT',
      hint: 'give at least one token',
    });
  const capacity = Math.min(model.config.maxSequence, prompt.length + maxTokens);
  if (prompt.length > model.config.maxSequence)
    throw Object.assign(
      new Error(
        `the prompt's ${prompt.length} tokens exceed config.maxSequence (${model.config.maxSequence})`,
      ),
      { code: 'ERR_BALEEN_USAGE_PROMPT', hint: 'shorten the prompt' },
    );
  const region = new Region(model.kernels, 'generation');
  const caches = model.caches(region, capacity);
  const phases = model.hiddenPhases(caches);
  const random = mulberry32(seed);
  let next: Int32Array = prompt;
  try {
    for (let made = 0; made < maxTokens; made += 1) {
      if (signal?.aborted) return;
      const logits = lastLogits(model, region, phases, next);
      const shape = { ...options, out: logits };
      const token = draw(probabilities(logits, { vocab: logits.length }, shape), random());
      if (stop.includes(token)) return;
      yield token;
      if (prompt.length + made + 1 >= capacity) return;
      next = Int32Array.of(token);
    }
  } finally {
    for (const cache of caches.values()) cache.release();
  }
}

function lastLogits(
  model: Decoder,
  region: Region,
  phases: ReturnType<Decoder['hiddenPhases']>,
  tokens: Int32Array,
): Float32Array {
  const run = new Run(region, { grad: false });
  const ids = tensorFrom(region, [1, tokens.length], tokens);
  let bundle = { ids } as Record<string, unknown>;
  phases.forEach((phase, index) => {
    bundle = run.forward(phase, index === 0 ? { ids } : undefined);
  });
  let values = new Float32Array(0);
  run.tape.scoped(() => {
    const h = (bundle.h as Tensor).reshape([tokens.length, model.config.hiddenSize]);
    const logits = model.logits(run.tape, h.rows(tokens.length - 1, 1));
    model.kernels.flush();
    values = Float32Array.from(logits.readSync());
    return [];
  });
  run.finish();
  ids.block.release();
  return values;
}
