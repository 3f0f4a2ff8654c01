// The two tokenizers that a run makes: bytes as they are, and a byte-pair encoding of the training text.
//
// Both number their tokens alike: 0–255 are bytes, 256 is the separator between documents, merges follow from 257.
import { BpeEncoder, type Merge } from './bpe';
import { trainMerges } from './bpe-train';
import type { TextDocument } from './documents';
import { dataError } from './errors';
import { PieceTokenizer } from './pieces';
import type { Tokenizer } from './tokenizer';
import { tokenizerConfig, tokenizerJson } from './tokenizer-json';

/** Which tokenizer to make. */
export interface TokenizerSpec {
  /** Bytes, or byte-pair encoding. */
  kind: 'bytes' | 'bpe';
  /** Tokens of a byte-pair encoding, 256 bytes and the separator included; bytes have 257. */
  vocabSize?: number | null;
}

/** The separator of the tokenizers made here. */
const separator = 256;

/** Tokens of the byte tokenizer, and of a byte-pair encoding before its merges: 256 bytes and the separator. */
export const byteVocabulary: number = separator + 1;

/** How tokenizer.json spells the separator. */
const separatorText = '<|endoftext|>';

/**
 * Makes a tokenizer.
 * @param spec - which
 * @param trainDocuments - what byte-pair merges are learnt from; the same text gives the same tokenizer
 * @returns the tokenizer
 * @throws `ERR_BALEEN_CONFIG_VOCABULARY` for a size that the text does not give
 *
 * @example
 * ```ts
 * import { makeTokenizer } from '@baleen/trainer';
 * const text = 'the whale and the sea';
 * const tokenizer = await makeTokenizer({ kind: 'bpe', vocabSize: 262 }, [{ name: 'line', text }]);
 * const ids = tokenizer.encode(text);
 * console.log(ids.length, tokenizer.decode(ids)); // => 14 the whale and the sea
 * ```
 */
export async function makeTokenizer(
  spec: TokenizerSpec,
  trainDocuments: readonly TextDocument[],
): Promise<Tokenizer> {
  if (spec.kind === 'bytes') return byteTokenizer();
  const size = spec.vocabSize ?? 0;
  if (!Number.isInteger(size) || size <= byteVocabulary)
    throw dataError(
      'CONFIG_VOCABULARY',
      `data.tokenizer.vocabSize (${spec.vocabSize ?? 'null'}) must be a whole number above ${byteVocabulary}`,
      `bytes and the separator take ${byteVocabulary} tokens; 4096 suits a few megabytes of text`,
    );
  const { pieces, merges } = await trainMerges(
    trainDocuments.map(({ text }) => text),
    size - 1,
  );
  if (pieces.length + 1 < size)
    throw dataError(
      'CONFIG_VOCABULARY',
      `data.tokenizer.vocabSize (${size}) exceeds the ${pieces.length + 1} tokens that the training text gives`,
      `set data.tokenizer.vocabSize to ${pieces.length + 1} or less, or give more text`,
    );
  const id = (piece: number) => (piece < separator ? piece : piece + 1);
  return mergesTokenizer(
    [...pieces.slice(0, separator), null, ...pieces.slice(separator)],
    merges.map(({ left, right, merged }) => ({
      left: id(left),
      right: id(right),
      merged: id(merged),
    })),
  );
}

/** The tokenizer whose tokens are bytes and the separator. */
export function byteTokenizer(): Tokenizer {
  const pieces = [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), null];
  const encoder = new TextEncoder();
  return new PieceTokenizer({
    kind: 'bytes',
    pieces,
    documentEnd: separator,
    encode: (text) => Int32Array.from(encoder.encode(text)),
    json: () => tokenizerJson(pieces, [], { id: separator, text: separatorText }),
    config: tokenizerConfig(separatorText),
  });
}

function mergesTokenizer(
  pieces: readonly (Uint8Array | null)[],
  merges: readonly Merge[],
): Tokenizer {
  const byteTokens = Int32Array.from({ length: 256 }, (_, byte) => byte);
  const encoder = new BpeEncoder(byteTokens, merges, pieces.length);
  return new PieceTokenizer({
    kind: 'bpe',
    pieces,
    documentEnd: separator,
    encode: (text) => encoder.encode(text),
    json: () => tokenizerJson(pieces, merges, { id: separator, text: separatorText }),
    config: tokenizerConfig(separatorText),
  });
}
