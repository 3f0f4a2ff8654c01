// Text generation: one token at a time through the latent cache.
import { mulberry32, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';

import type { Decoder } from './decoder';

/** How tokens are chosen. */
export interface SamplingOptions {
  /** Most tokens to make. */
  maxTokens: number;
  /** 0 takes the likeliest (default); higher flattens the distribution. */
  temperature?: number;
  /** Keep the likeliest tokens that together reach this probability (default 1: all). */
  topP?: number;
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
  const { maxTokens, temperature = 0, topP = 1, seed = 0, stop = [], signal } = options;
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
      const token = choose(logits, temperature, topP, random);
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

/**
 * Chooses a token.
 * @param logits - one a token
 * @param temperature - 0 for the likeliest
 * @param topP - probability kept
 * @param random - numbers in [0, 1)
 * @returns the token
 */
export function choose(
  logits: Float32Array,
  temperature: number,
  topP: number,
  random: () => number,
): number {
  let best = 0;
  for (let i = 1; i < logits.length; i += 1) if ((logits[i] ?? 0) > (logits[best] ?? 0)) best = i;
  if (temperature <= 0) return best;
  const top = logits[best] ?? 0;
  const order = Array.from(logits.keys()).sort(
    (a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b,
  );
  const weights = order.map((i) => Math.exp(((logits[i] ?? 0) - top) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let kept = 0;
  let count = 0;
  while (count < weights.length && kept < topP * total) kept += weights[count++] ?? 0;
  let rest = random() * kept;
  for (let i = 0; i < count; i += 1) {
    rest -= weights[i] ?? 0;
    if (rest < 0) return order[i] ?? best;
  }
  return order[Math.max(0, count - 1)] ?? best;
}
