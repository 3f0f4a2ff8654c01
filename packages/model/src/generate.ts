// Text generation through latent caches: one text, or many that share passes, each of them what it would be alone.
import type { CacheFormat } from '@baleen/mla';
import { Region } from '@baleen/tensor';

import { CachePools } from './caches';
import type { Decoder } from './decoder';
import { advance } from './pass';
import { demandOf, type SamplingOptions } from './sequence';
import { type MadeTokens, Table, type TextRequest } from './table';
import type { TextMemory } from './text-memory';

/** How to generate. */
export interface GenerateOptions extends SamplingOptions {
  /** What cached latents take (default: FP32 where the model computes in it, else BF16). */
  cache?: CacheFormat;
  /** Remembers the text: the next one that begins like it reads only what is new. */
  memory?: TextMemory;
  /** Stops between tokens. */
  signal?: AbortSignal;
}

/** How to generate many texts. */
export interface ManyOptions extends Pick<GenerateOptions, 'cache' | 'signal'> {
  /** Most texts that run at once (default 8): as one ends, the next begins. */
  together?: number;
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
  const { memory, signal } = options;
  const many = memory
    ? remembered(model, memory, prompt, options)
    : generateMany(model, [{ ...options, prompt }], options);
  for (const { tokens } of many)
    for (const token of tokens) {
      if (signal?.aborted) return;
      yield token;
    }
}

/**
 * Generates many texts, some of them at a time, in passes that they share: one that ends makes room for the next. Each gets
 * the tokens it would get alone, whatever runs beside it. What prompts have in common, in whole pages of 64 tokens, is read
 * once and kept once: a text waits while another one reads what both begin with.
 * @param model - the decoder
 * @param texts - what to make, each by its own options
 * @param options - see {@link ManyOptions}
 * @returns what passes make, text by text; each text's last is the one with `ended`
 * @throws ERR_BALEEN_USAGE_PROMPT, ERR_BALEEN_USAGE_DRAFTS, ERR_BALEEN_USAGE_TOGETHER before anything is made
 */
export function* generateMany(
  model: Decoder,
  texts: readonly TextRequest[],
  options: ManyOptions = {},
): Generator<MadeTokens, void, void> {
  const { together = 8, signal } = options;
  if (!Number.isInteger(together) || together < 1)
    throw Object.assign(new Error(`together (${together}) is not a whole number from 1`), {
      code: 'ERR_BALEEN_USAGE_TOGETHER',
      path: 'together',
      hint: 'count the texts that may run at once',
    });
  const demands = texts.map((text) => demandOf(model, text.prompt, text));
  const region = new Region(model.kernels, 'generation');
  // Room for the longest of them, so that whichever come together fit.
  const longest = [...demands].sort((a, b) => b.capacity - a.capacity).slice(0, together);
  const pools = poolsFor(model, region, longest, options);
  const table = new Table(model, pools, texts, demands);
  try {
    for (let next = 0; !signal?.aborted; ) {
      for (; table.size < together && next < texts.length; next += 1) table.seat(next);
      table.begin();
      if (table.size === 0) return;
      yield* table.pass(region);
    }
  } finally {
    table.release();
    pools.release();
  }
}

/** A text in a memory. */
function* remembered(
  model: Decoder,
  memory: TextMemory,
  prompt: Int32Array,
  options: GenerateOptions,
): Generator<Pick<MadeTokens, 'tokens'>, void, void> {
  demandOf(model, prompt, options);
  const sequence = memory.begin(prompt, options);
  try {
    while (!sequence.ended && !options.signal?.aborted)
      yield { tokens: advance(model, memory.region, [sequence]).flat() };
  } finally {
    memory.keep(sequence);
  }
}

/** Pages for sequences that are there at once. */
function poolsFor(
  model: Decoder,
  region: Region,
  demands: readonly { capacity: number; depths: number }[],
  { cache: format }: Pick<GenerateOptions, 'cache'>,
): CachePools {
  return new CachePools(model, region, {
    capacities: demands.map(({ capacity }) => capacity),
    depths: Math.max(0, ...demands.map(({ depths }) => depths)),
    ...(format && { format }),
  });
}
