// tokenizer.json on disk: saved beside a checkpoint, and loaded from any checkpoint with a byte-level BPE.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { writeFile } from '@baleen/model/node';

import { BpeEncoder } from './bpe';
import { byteCharacters } from './byte-level';
import { dataError } from './errors';
import { byteTokenizer, byteVocabulary } from './make-tokenizer';
import { PieceTokenizer } from './pieces';
import type { Tokenizer } from './tokenizer';
import { type ParsedTokenizer, parseTokenizerJson, tokenizerConfig } from './tokenizer-json';

const tokenizerName = 'tokenizer.json';
const configName = 'tokenizer_config.json';

// How well-known tokenizers spell the end of a document; asked only where tokenizer_config.json does not name it.
const knownEnds = ['<|endoftext|>', '<｜end▁of▁sentence｜>', '<|end_of_text|>', '</s>', '<eos>'];

/**
 * Saves a tokenizer: tokenizer.json, and the tokenizer_config.json with which transformers' AutoTokenizer takes it.
 * @param tokenizer - the tokenizer
 * @param folder - a folder that exists
 */
export function saveTokenizer(tokenizer: Tokenizer, folder: string): void {
  writeFile(join(folder, tokenizerName), indented(tokenizer.toJSON()));
  writeFile(join(folder, configName), indented(tokenizer.configJSON()));
}

/**
 * Loads a tokenizer.
 * @param path - tokenizer.json, or a folder that holds it
 * @returns the tokenizer
 * @throws `ERR_BALEEN_TOKENIZER_ABSENT`, `_CORRUPT`, `_UNSUPPORTED`
 */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const file = isFolder ? join(path, tokenizerName) : path;
  const parsed = parseTokenizerJson(readJson(file), file);
  const config = readConfig(join(dirname(file), configName));
  const { documentEnd, content } = findEnd(parsed, config, file);
  if (isBytes(parsed, documentEnd)) return byteTokenizer();
  return new PieceTokenizer({
    kind: 'bpe',
    pieces: parsed.pieces,
    documentEnd,
    encode: parsed.plain ? plainEncoder(parsed) : await libraryEncoder(parsed, file),
    json: () => parsed.json,
    config: config ?? tokenizerConfig(content),
  });
}

function plainEncoder({ vocab, merges, pieces }: ParsedTokenizer): (text: string) => Int32Array {
  const byteTokens = Int32Array.from(byteCharacters, (character) => vocab.get(character) ?? 0);
  const encoder = new BpeEncoder(byteTokens, merges, pieces.length);
  return (text) => encoder.encode(text);
}

/** Other ways to normalise text and cut it into words: Hugging Face's library knows them all, if slowly. */
async function libraryEncoder(
  { json, added }: ParsedTokenizer,
  path: string,
): Promise<(text: string) => Int32Array> {
  const { Tokenizer: Library } = await import('@huggingface/tokenizers');
  const special = new Set(added.filter((token) => token.special).map(({ content }) => content));
  try {
    // Without its special tokens, so that no text gives one.
    const plain = (json.added_tokens as { content: string }[] | undefined) ?? [];
    const added_tokens = plain.filter(({ content }) => !special.has(content));
    const whole = { normalizer: null, pre_tokenizer: null, decoder: null, ...json };
    const library = new Library({ ...whole, post_processor: null, added_tokens }, {});
    library.encode('a');
    return (text) => {
      const { ids } = library.encode(text, { add_special_tokens: false });
      // A character that the tokenizer has no token for has no number.
      return Int32Array.from(ids.filter((id) => (id as number | undefined) !== undefined));
    };
  } catch (error) {
    throw dataError(
      'TOKENIZER_CORRUPT',
      `${path}: ${(error as Error).message}`,
      'take the file from its source again',
      { path, cause: error },
    );
  }
}

/** The token that ends a document, and its spelling. */
function findEnd(
  { added, vocab }: ParsedTokenizer,
  config: { eos_token?: unknown } | null,
  path: string,
): { documentEnd: number; content: string } {
  const named = config?.eos_token;
  const spelled = typeof named === 'object' ? (named as { content?: unknown } | null) : null;
  for (const content of [spelled ? spelled.content : named, ...knownEnds]) {
    if (typeof content !== 'string') continue;
    const documentEnd = added.find((token) => token.content === content)?.id ?? vocab.get(content);
    if (documentEnd !== undefined) return { documentEnd, content };
  }
  throw dataError(
    'TOKENIZER_UNSUPPORTED',
    `${path} has no token that ends a document`,
    `put a ${configName} beside it that names its eos_token`,
    { path },
  );
}

function readConfig(path: string): object | null {
  const config = existsSync(path) ? readJson(path) : null;
  return typeof config === 'object' ? config : null;
}

/** Whether it is the byte tokenizer: 256 bytes in their order, and the separator. */
function isBytes({ pieces, merges, plain }: ParsedTokenizer, documentEnd: number): boolean {
  return (
    plain &&
    merges.length === 0 &&
    pieces.length === byteVocabulary &&
    documentEnd === 256 &&
    pieces.every((piece, id) => id === 256 || (piece?.length === 1 && piece[0] === id))
  );
}

function readJson(path: string): unknown {
  if (!existsSync(path))
    throw dataError(
      'TOKENIZER_ABSENT',
      `${path} does not exist`,
      'name a tokenizer.json, or a checkpoint folder that holds one',
      { path },
    );
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw dataError(
      'TOKENIZER_CORRUPT',
      `${path} is not JSON: ${(error as Error).message}`,
      'take the file from its source again',
      { path, cause: error },
    );
  }
}

function indented(value: object): string {
  return `${JSON.stringify(value, null, 1)}\n`;
}
