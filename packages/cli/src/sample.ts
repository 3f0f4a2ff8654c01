// Text from a model, as a stream: the same words whether a report quotes them or a terminal shows them.
import { type Decoder, generate } from '@baleen/model';
import { loadDocuments, splitDocuments, type Tokenizer, type TrainConfig } from '@baleen/trainer';

import { printable } from './format';
import type { Sample } from './report';

/** How to write. */
export interface WriteOptions {
  /** Most tokens. */
  tokens: number;
  /** 0 takes the likeliest. */
  temperature: number;
  /** Probability kept. */
  topP: number;
  /** The same seed writes the same text. */
  seed: number;
  /** Stops between tokens. */
  signal?: AbortSignal;
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
  const { tokens, seed, ...sampling } = options;
  const { maxSequence } = model.config;
  const decoder = tokenizer.decoder();
  // A document begins after a separator; of a prompt longer than the context the end counts.
  let context = [tokenizer.documentEnd, ...tokenizer.encode(prompt)].slice(1 - maxSequence);
  let made = 0;
  for (let round = 0; made < tokens; round += 1) {
    const room = Math.min(tokens - made, maxSequence - context.length);
    let here = 0;
    for (const token of generate(model, Int32Array.from(context), {
      ...sampling,
      seed: seed + round,
      maxTokens: room,
      stop: [tokenizer.documentEnd],
    })) {
      here += 1;
      context.push(token);
      const text = decoder.push(token);
      if (text !== '') yield text;
      // Tokens are made without a pause: let output be written and signals be heard.
      await new Promise(setImmediate);
    }
    made += here;
    if (here < room) break; // the document ended
    // The context is full: go on from its second half.
    context = context.slice(-Math.max(1, maxSequence >> 1));
  }
  const rest = decoder.end();
  if (rest !== '') yield rest;
  return made;
}

/**
 * A sample for a report: the model continues the beginning of a held-out document.
 * @param model - the decoder
 * @param tokenizer - its tokenizer
 * @param config - the run's
 * @param seconds - most time to take
 * @returns the prompt and what the model wrote
 */
export async function sampleOf(
  model: Decoder,
  tokenizer: Tokenizer,
  config: TrainConfig,
  seconds = 5,
): Promise<Sample> {
  const documents = await loadDocuments(config.data.sources);
  const { heldOut } = splitDocuments(documents, config.data.heldOutEvery);
  const prompt = opening(heldOut[0]?.text ?? '');
  const until = performance.now() + seconds * 1000;
  let text = '';
  for await (const piece of write(model, tokenizer, prompt, {
    tokens: tokenizer.kind === 'bytes' ? 320 : 100,
    temperature: 0.7,
    topP: 0.95,
    seed: config.seed,
  })) {
    text += piece;
    if (performance.now() > until) break;
  }
  return {
    prompt,
    text: printable(text)
      .replaceAll(/\s*\n\s*/g, '\n')
      .trimEnd(),
  };
}

/** A document's first words, on one line. */
function opening(text: string): string {
  const words = printable(text).trim().slice(0, 200).split(/\s+/);
  let line = words[0] ?? '';
  for (const word of words.slice(1)) {
    if (line.length + word.length > 40) break;
    line += ` ${word}`;
  }
  return line;
}
