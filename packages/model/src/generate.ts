// Text generation through latent caches: one text, or many that share passes, each of them what it would be alone.
import type { CacheFormat, LatentCache } from '@baleen/mla';
import { Region } from '@baleen/tensor';

import { CachePools } from './caches';
import type { Decoder } from './decoder';
import { advance } from './pass';
import { demandOf, type SamplingOptions, Sequence } from './sequence';

/** How to generate. */
export interface GenerateOptions extends SamplingOptions {
  /** What cached latents take (default: FP32 where the model computes in it, else BF16). */
  cache?: CacheFormat;
  /** Remembers the text: the next one that begins like it reads only what is new (not with `drafts`). */
  memory?: TextMemory;
  /** Stops between tokens. */
  signal?: AbortSignal;
}

/** A text to make. */
export interface TextRequest extends SamplingOptions {
  /** Token ids, at least one. */
  prompt: Int32Array;
}

/** How to generate many texts. */
export interface ManyOptions extends Pick<GenerateOptions, 'cache' | 'signal'> {
  /** Most texts that run at once (default 8): as one ends, the next begins. */
  together?: number;
}

/** What a pass made of a text. */
export interface MadeTokens {
  /** Which text, from 0. */
  text: number;
  /** Its next tokens, without a stop token. */
  tokens: number[];
  /** Why it has ended: a stop token, its length; or null while it goes on. */
  ended: 'stop' | 'length' | null;
}

/**
 * The cache of a text that goes on in turns, as a chat does: kept between calls of `generate`, so that a turn costs what is
 * new in it.
 */
export class TextMemory {
  private readonly pools: CachePools;
  private tokens: readonly number[] = [];
  private cache: LatentCache;

  /**
   * @param model - the decoder
   * @param options - what cached latents take
   */
  constructor(
    private readonly model: Decoder,
    options: Pick<GenerateOptions, 'cache'> = {},
  ) {
    const region = new Region(model.kernels, 'text');
    this.pools = poolsFor(
      model,
      region,
      [{ capacity: model.config.maxSequence, depths: 0 }],
      options,
    );
    this.cache = this.pools.sequence(0).main;
  }

  /** Tokens remembered. */
  get length(): number {
    return this.tokens.length;
  }

  /**
   * A text that goes on from what it has in common with the one remembered.
   * @param prompt - token ids
   * @param options - how to go on
   * @returns its sequence
   */
  begin(prompt: Int32Array, options: SamplingOptions): Sequence {
    if ((options.drafts ?? 0) > 0)
      throw Object.assign(new Error(`${options.drafts ?? 0} drafts of a text in a memory`), {
        code: 'ERR_BALEEN_USAGE_DRAFTS',
        path: 'drafts',
        hint: 'draft without `memory`: depths would have to read the text again',
      });
    let common = 0;
    while (common < this.tokens.length && this.tokens[common] === prompt[common]) common += 1;
    // Of the last token the model has yet to say what comes after it.
    this.cache.truncate(Math.max(0, Math.min(common, prompt.length - 1)));
    this.tokens = [];
    return new Sequence(this.model, { main: this.cache, depths: [] }, prompt, options);
  }

  /**
   * Remembers a text.
   * @param sequence - begun here
   */
  keep(sequence: Sequence): void {
    this.tokens = sequence.tokens.slice(0, this.cache.length);
    this.cache.truncate(this.tokens.length);
  }

  /** Gives its memory back. */
  release(): void {
    this.tokens = [];
    this.cache.release();
    this.pools.release();
  }
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
 * the tokens it would get alone, whatever runs beside it.
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
  const running: Running[] = [];
  let next = 0;
  try {
    while (!signal?.aborted) {
      for (; running.length < together && next < texts.length; next += 1) {
        const { prompt, ...own } = texts[next];
        const caches = pools.sequence(demands[next].depths);
        running.push({ text: next, sequence: new Sequence(model, caches, prompt, own) });
      }
      if (running.length === 0) return;
      yield* step(model, region, running);
    }
  } finally {
    for (const { sequence } of running) sequence.release();
    pools.release();
  }
}

/** A text under way. */
interface Running {
  text: number;
  sequence: Sequence;
}

/** One pass; texts that have ended leave. */
function* step(model: Decoder, region: Region, running: Running[]): Generator<MadeTokens> {
  const open = running.filter(({ sequence }) => !sequence.ended);
  const sequences = open.map(({ sequence }) => sequence);
  const made = open.length > 0 ? advance(model, region, sequences) : [];
  const news = running.map(({ text, sequence }) => ({
    text,
    tokens: made[sequences.indexOf(sequence)] ?? [],
    ended: sequence.ended,
  }));
  for (const { sequence } of running) if (sequence.ended) sequence.release();
  running.splice(0, running.length, ...running.filter(({ sequence }) => !sequence.ended));
  yield* news;
}

/** A text in a memory. */
function* remembered(
  model: Decoder,
  memory: TextMemory,
  prompt: Int32Array,
  options: GenerateOptions,
): Generator<Pick<MadeTokens, 'tokens'>, void, void> {
  demandOf(model, prompt, options);
  const region = new Region(model.kernels, 'generation');
  const sequence = memory.begin(prompt, options);
  try {
    while (!sequence.ended && !options.signal?.aborted)
      yield { tokens: advance(model, region, [sequence]).flat() };
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
