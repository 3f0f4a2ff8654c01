// Text from a model, as a stream: one text, many that share passes, or a talk in turns; the same words whether a report
// quotes them or a terminal shows them. A text that fills the context goes on from its second half.
import {
  type Decoder,
  type GenerateOptions,
  generate,
  generateMany,
  type TextMemory,
  type TextRequest,
} from '@baleen/model';
import type { Tokenizer } from '@baleen/trainer';

/** How to write. */
export interface WriteOptions
  extends Pick<GenerateOptions, 'cache' | 'signal' | 'drafts' | 'counts'> {
  /** Most tokens. */
  tokens: number;
  /** 0 takes the likeliest. */
  temperature: number;
  /** Probability kept. */
  topP: number;
  /** The same seed writes the same text. Of many texts the first has it, and each next one the number after. */
  seed: number;
  /** Most texts that run at once (default 8). */
  together?: number;
}

/** A piece of a text. */
export interface Piece {
  /** Which text, from 0. */
  text: number;
  /** Complete characters. */
  piece: string;
  /** Tokens made of it so far. */
  tokens: number;
  /** Whether it is the text's last. */
  ended: boolean;
}

/** A text that grows: what the model reads of it, and how it goes on. */
class GrowingText {
  /** Tokens made. */
  made = 0;
  /** Nothing more is to come. */
  ended = false;
  /** The document ended, rather than its room. */
  closed = false;
  private round = 0;
  private asked = 0;
  private readonly decoder: ReturnType<Tokenizer['decoder']>;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly maxSequence: number,
    readonly context: number[],
    private readonly options: WriteOptions & { seed: number },
  ) {
    this.decoder = tokenizer.decoder();
  }

  /** What to generate next. */
  request(): TextRequest {
    const { context, maxSequence, options } = this;
    const { tokens, temperature, topP, seed, drafts, counts } = options;
    // The context is full: go on from its second half.
    if (context.length >= maxSequence)
      context.splice(0, context.length - Math.max(1, maxSequence >> 1));
    this.asked = Math.min(tokens - this.made, Math.max(1, maxSequence - context.length));
    return {
      prompt: Int32Array.from(context),
      maxTokens: this.asked,
      temperature,
      topP,
      seed: seed + this.round++,
      stop: [this.tokenizer.documentEnd],
      ...(drafts && { drafts }),
      ...(counts && { counts }),
    };
  }

  /** The characters that are complete with a token. */
  take(token: number): string {
    this.made += 1;
    this.asked -= 1;
    this.context.push(token);
    return this.decoder.push(token);
  }

  /** Ends what was asked for; the characters that end with the text. */
  settle(): string {
    this.closed = this.asked > 0;
    this.ended = this.closed || this.made >= this.options.tokens;
    return this.ended ? this.decoder.end() : '';
  }
}

/** What the model reads of a prompt: a document begins after a separator; of one longer than the context the end counts. */
function contextOf(tokenizer: Tokenizer, prompt: string, maxSequence: number): number[] {
  return [tokenizer.documentEnd, ...tokenizer.encode(prompt)].slice(1 - maxSequence);
}

/** Tokens are made without a pause: lets output be written and signals be heard. */
async function pause(): Promise<void> {
  await new Promise(setImmediate);
}

/**
 * Continues a text.
 * @param model - the decoder
 * @param tokenizer - its tokenizer
 * @param prompt - text; when empty, a document begins
 * @param options - how to write
 * @returns pieces of text, complete characters only, and the number of tokens made
 */
export async function* write(
  model: Decoder,
  tokenizer: Tokenizer,
  prompt: string,
  options: WriteOptions,
): AsyncGenerator<string, number, void> {
  let made = 0;
  for await (const { piece, tokens } of writeMany(model, tokenizer, [prompt], options)) {
    made = tokens;
    if (piece !== '') yield piece;
  }
  return made;
}

/**
 * Continues many texts, each as {@link write} does alone.
 * @param model - the decoder
 * @param tokenizer - its tokenizer
 * @param prompts - texts
 * @param options - how to write
 * @returns pieces of all texts, as they are made
 */
export async function* writeMany(
  model: Decoder,
  tokenizer: Tokenizer,
  prompts: readonly string[],
  options: WriteOptions,
): AsyncGenerator<Piece, void, void> {
  const { maxSequence } = model.config;
  const { cache, signal, together } = options;
  const shared = {
    ...(cache && { cache }),
    ...(signal && { signal }),
    ...(together && { together }),
  };
  let open = prompts.map((prompt, text) => {
    const own = { ...options, seed: options.seed + text };
    const context = contextOf(tokenizer, prompt, maxSequence);
    return { text, growing: new GrowingText(tokenizer, maxSequence, context, own) };
  });
  while (open.length > 0 && !signal?.aborted) {
    const requests = open.map(({ growing }) => growing.request());
    for (const { text: at, tokens, ended } of generateMany(model, requests, shared)) {
      const { text, growing } = open[at];
      for (const token of tokens) {
        const piece = growing.take(token);
        if (piece !== '') yield { text, piece, tokens: growing.made, ended: false };
        await pause();
      }
      if (!ended) continue;
      const rest = growing.settle();
      if (growing.ended) yield { text, piece: rest, tokens: growing.made, ended: true };
    }
    open = open.filter(({ growing }) => !growing.ended);
  }
}

/** A talk in turns: one text to which both sides add, read once. */
export class Talk {
  private readonly context: number[];
  private turn = 0;

  /**
   * @param model - the decoder
   * @param tokenizer - its tokenizer
   * @param memory - keeps its cache
   */
  constructor(
    private readonly model: Decoder,
    private readonly tokenizer: Tokenizer,
    private readonly memory: TextMemory,
  ) {
    this.context = [tokenizer.documentEnd];
  }

  /**
   * Adds a line to the text and lets the model go on.
   * @param said - the line; from the second on it begins a new one
   * @param options - how to write
   * @returns pieces of the answer, and the number of tokens made
   */
  async *answer(said: string, options: WriteOptions): AsyncGenerator<string, number, void> {
    const { model, tokenizer, memory, context } = this;
    const { maxSequence } = model.config;
    const begins = context.at(-1) === tokenizer.documentEnd;
    context.push(...tokenizer.encode(begins ? said : `\n${said}`));
    // Of more than the context the end counts.
    if (context.length >= maxSequence) context.splice(0, context.length - (maxSequence >> 1));
    const own = { ...options, seed: options.seed + this.turn++ };
    const growing = new GrowingText(tokenizer, maxSequence, context, own);
    const { signal } = options;
    while (!growing.ended && !signal?.aborted) {
      const { prompt, ...request } = growing.request();
      for (const token of generate(model, prompt, {
        ...request,
        memory,
        ...(signal && { signal }),
      })) {
        const piece = growing.take(token);
        if (piece !== '') yield piece;
        await pause();
      }
      const rest = growing.settle();
      if (rest !== '') yield rest;
    }
    if (growing.closed && !signal?.aborted) context.push(tokenizer.documentEnd);
    return growing.made;
  }
}
