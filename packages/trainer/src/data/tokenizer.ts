// What a tokenizer is.

/** Turns text into tokens and back. */
export interface Tokenizer {
  /** Bytes, or byte-pair encoding. */
  readonly kind: 'bytes' | 'bpe';
  /** Tokens: every id is below it. */
  readonly vocabSize: number;
  /** The separator that ends a document. */
  readonly documentEnd: number;
  /**
   * Text as tokens. No text gives a special token: a separator that is spelled out is ordinary text.
   * @param text - any text
   * @returns its tokens, without a separator
   */
  encode(text: string): Int32Array;
  /**
   * Tokens as text. Special tokens and ids beyond the vocabulary are empty, bytes that are no UTF-8 become U+FFFD.
   * @param ids - tokens
   * @returns their text
   */
  decode(ids: ArrayLike<number>): string;
  /** Decodes token by token: a character comes out when its last byte is there. */
  decoder(): TokenDecoder;
  /**
   * How many bytes of text a token stands for.
   * @param id - a token
   * @returns bytes; 0 for special tokens
   */
  bytesOf(id: number): number;
  /** tokenizer.json as Hugging Face's libraries load it. */
  toJSON(): object;
  /** tokenizer_config.json, which names the class and the special tokens. */
  configJSON(): object;
}

/** Text from a stream of tokens. */
export interface TokenDecoder {
  /**
   * Takes the next token.
   * @param id - a token
   * @returns the characters that are complete with it
   */
  push(id: number): string;
  /** Ends the stream; returns U+FFFD for a character that was never completed, or nothing. */
  end(): string;
}
