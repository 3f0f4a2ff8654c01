// A tokenizer whose tokens each stand for some bytes: decoding is one for all, encoding is given.
import { dataError } from './errors';
import type { TokenDecoder, Tokenizer } from './tokenizer';

/** What such a tokenizer is made of. */
export interface PieceTokenizerParts {
  /** Bytes, or byte-pair encoding. */
  kind: 'bytes' | 'bpe';
  /** Bytes of every token; null for special tokens and numbers that no token has. */
  pieces: readonly (Uint8Array | null)[];
  /** The separator. */
  documentEnd: number;
  /** Text as tokens. */
  encode: (text: string) => Int32Array;
  /** tokenizer.json. */
  json: () => object;
  /** tokenizer_config.json. */
  config: object;
}

/** A tokenizer over byte strings. */
export class PieceTokenizer implements Tokenizer {
  readonly kind: 'bytes' | 'bpe';
  readonly vocabSize: number;
  readonly documentEnd: number;

  /** @param parts - what it is made of */
  constructor(private readonly parts: PieceTokenizerParts) {
    this.kind = parts.kind;
    this.vocabSize = parts.pieces.length;
    this.documentEnd = parts.documentEnd;
  }

  /** {@inheritDoc Tokenizer.encode} */
  encode(text: string): Int32Array {
    return this.parts.encode(text);
  }

  /** {@inheritDoc Tokenizer.decode} */
  decode(ids: ArrayLike<number>): string {
    const decoder = this.decoder();
    const parts: string[] = [];
    for (const id of Array.from(ids)) parts.push(decoder.push(id));
    parts.push(decoder.end());
    return parts.join('');
  }

  /** {@inheritDoc Tokenizer.decoder} */
  decoder(): TokenDecoder {
    // A byte order mark is a character like others here: it may stand anywhere in generated text.
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return {
      push: (id) => {
        const piece = this.piece(id);
        return piece ? decoder.decode(piece, { stream: true }) : '';
      },
      end: () => decoder.decode(),
    };
  }

  /** {@inheritDoc Tokenizer.bytesOf} */
  bytesOf(id: number): number {
    return this.piece(id)?.length ?? 0;
  }

  /** {@inheritDoc Tokenizer.toJSON} */
  toJSON(): object {
    return this.parts.json();
  }

  /** {@inheritDoc Tokenizer.configJSON} */
  configJSON(): object {
    return this.parts.config;
  }

  private piece(id: number): Uint8Array | null {
    if (!Number.isInteger(id) || id < 0)
      throw dataError(
        'TOKENIZER_ID',
        `${id} is not a token`,
        `tokens are whole numbers from 0 to ${this.vocabSize - 1}`,
      );
    return this.parts.pieces[id] ?? null;
  }
}
