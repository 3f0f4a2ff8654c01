// tokenizer.json in Hugging Face's format: written for the tokenizers made here, checked for those from elsewhere.
import type { Merge } from './bpe';
import { byteCharacters, spelledBytes } from './byte-level';
import { type DataError, dataError } from './errors';

/** A token with a fixed spelling that is found before text is cut into words. */
export interface AddedToken {
  /** Its number. */
  id: number;
  /** Its spelling. */
  content: string;
  /** It is a mark, not text. */
  special: boolean;
}

/** What is read of a tokenizer.json. */
export interface ParsedTokenizer {
  /** The whole file. */
  json: Record<string, unknown>;
  /** Numbers of the ordinary tokens by their spelling. */
  vocab: Map<string, number>;
  /** Merges as the numbers of their parts, strongest first. */
  merges: Merge[];
  /** Tokens beside the vocabulary, or marked in it. */
  added: AddedToken[];
  /** Bytes of every token; null for special tokens and unused numbers. */
  pieces: (Uint8Array | null)[];
  /** Nothing but GPT-2's words and merges: {@link BpeEncoder} does all that the file says. */
  plain: boolean;
}

// Numbers above this are no vocabulary but damage; it bounds what a broken file can make us allocate.
const mostTokens = 1 << 22;

/**
 * Writes tokenizer.json.
 * @param pieces - bytes of every token; null for the separator
 * @param merges - merges, strongest first
 * @param end - the separator
 * @returns its contents
 */
export function tokenizerJson(
  pieces: readonly (Uint8Array | null)[],
  merges: readonly Merge[],
  end: { id: number; text: string },
): object {
  const spellings = pieces.map((piece) =>
    piece ? Array.from(piece, (byte) => byteCharacters[byte]).join('') : end.text,
  );
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: true,
  };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: end.id,
        content: end.text,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(spellings.map((spelling, id) => [spelling, id])),
      // One string a merge: every version of the libraries reads this form.
      merges: merges.map(({ left, right }) => `${spellings[left] ?? ''} ${spellings[right] ?? ''}`),
    },
  };
}

/**
 * Makes tokenizer_config.json, with which transformers' AutoTokenizer takes the file beside it.
 * @param end - how the separator is spelled
 * @returns its contents
 */
export function tokenizerConfig(end: string): object {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    // A document begins behind the end of another: one token serves as both, as in GPT-2.
    bos_token: end,
    eos_token: end,
    clean_up_tokenization_spaces: false,
  };
}

/**
 * Checks a tokenizer.json and takes out of it what encoding and decoding need.
 * @param value - the parsed file
 * @param path - its path, for errors
 * @returns its tokens and merges
 * @throws `ERR_BALEEN_TOKENIZER_CORRUPT` for a broken file, `_UNSUPPORTED` for what is not byte-level BPE
 */
export function parseTokenizerJson(value: unknown, path: string): ParsedTokenizer {
  const corrupt = (what: string): DataError =>
    dataError('TOKENIZER_CORRUPT', `${path}: ${what}`, 'take the file from its source again', {
      path,
    });
  if (!isObject(value)) throw corrupt('not an object');
  const { model } = value;
  if (!isObject(model)) throw corrupt('model is not an object');
  if (model.type !== undefined && model.type !== 'BPE')
    throw unsupported(path, `its model is ${JSON.stringify(model.type)}`);
  if (!isByteLevel(value.decoder) && !isByteLevel(value.pre_tokenizer))
    throw unsupported(path, 'its tokens are not spelled in bytes');
  if (!isObject(model.vocab)) throw corrupt('model.vocab is not an object');
  const added = readAdded(value.added_tokens ?? [], corrupt);
  const marks = new Set(added.map(({ id }) => id));
  const vocab = new Map<string, number>();
  const bytes = new Map<number, Uint8Array | null>();
  for (const [spelling, id] of Object.entries(model.vocab)) {
    if (!isId(id)) throw corrupt(`model.vocab gives ${JSON.stringify(spelling)} no number`);
    if (bytes.has(id)) throw corrupt(`model.vocab gives ${id} to two tokens`);
    vocab.set(spelling, id);
    // What is not written in byte characters is taken as it stands.
    bytes.set(id, marks.has(id) ? null : (spelledBytes(spelling) ?? utf8(spelling)));
  }
  for (const { id, content, special } of added) bytes.set(id, special ? null : utf8(content));
  if (bytes.size === 0) throw corrupt('model.vocab is empty');
  let length = 0;
  for (const id of bytes.keys()) length = Math.max(length, id + 1);
  const pieces = Array.from({ length }, (_, id) => bytes.get(id) ?? null);
  const merges = readMerges(model.merges, vocab, corrupt);
  return { json: value, vocab, merges, added, pieces, plain: isPlain(value, model, vocab, added) };
}

function readAdded(value: unknown, corrupt: (what: string) => DataError): AddedToken[] {
  if (!Array.isArray(value)) throw corrupt('added_tokens is not a list');
  return value.map((entry: unknown, index) => {
    if (!isObject(entry) || typeof entry.content !== 'string' || entry.content === '')
      throw corrupt(`added_tokens[${index}] has no content`);
    if (!isId(entry.id)) throw corrupt(`added_tokens[${index}] has no number`);
    return { id: entry.id, content: entry.content, special: entry.special === true };
  });
}

function readMerges(
  value: unknown,
  vocab: ReadonlyMap<string, number>,
  corrupt: (what: string) => DataError,
): Merge[] {
  if (!Array.isArray(value)) throw corrupt('model.merges is not a list');
  return value.map((entry: unknown, index) => {
    const parts: unknown[] =
      typeof entry === 'string' ? entry.split(' ') : Array.isArray(entry) ? entry : [];
    const [left, right] = parts;
    const known =
      parts.length === 2 && typeof left === 'string' && typeof right === 'string'
        ? [vocab.get(left), vocab.get(right), vocab.get(left + right)]
        : [];
    const [leftId, rightId, merged] = known;
    if (leftId === undefined || rightId === undefined || merged === undefined)
      throw corrupt(`model.merges[${index}] is not two tokens whose union is a token`);
    return { left: leftId, right: rightId, merged };
  });
}

function isPlain(
  json: Record<string, unknown>,
  model: Record<string, unknown>,
  vocab: ReadonlyMap<string, number>,
  added: readonly AddedToken[],
): boolean {
  const words = json.pre_tokenizer;
  return (
    isObject(words) &&
    words.type === 'ByteLevel' &&
    words.add_prefix_space === false &&
    words.use_regex !== false &&
    (json.normalizer ?? null) === null &&
    added.every(({ special }) => special) &&
    model.ignore_merges !== true &&
    !['dropout', 'continuing_subword_prefix', 'end_of_word_suffix'].some((key) => model[key]) &&
    byteCharacters.every((character) => vocab.has(character))
  );
}

/** A ByteLevel component, alone or in a sequence. */
function isByteLevel(part: unknown): boolean {
  if (!isObject(part)) return false;
  if (part.type === 'ByteLevel') return true;
  const parts = part.pretokenizers ?? part.decoders;
  return part.type === 'Sequence' && Array.isArray(parts) && parts.some(isByteLevel);
}

function unsupported(path: string, what: string): DataError {
  return dataError(
    'TOKENIZER_UNSUPPORTED',
    `${path}: ${what}, not byte-level BPE`,
    'use a byte-level BPE tokenizer, as DeepSeek and GPT-2 have, or data.tokenizer.kind bytes',
    { path },
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < mostTokens;
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
