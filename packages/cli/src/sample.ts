// The sample that a report quotes: the model continues a held-out document.
import type { Decoder } from '@baleen/model';
import { loadDocuments, splitDocuments, type Tokenizer, type TrainConfig } from '@baleen/trainer';

import { printable } from './format';
import type { Sample } from './report';
import { write } from './writing';

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
