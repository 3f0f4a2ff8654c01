// Packing: training documents become one endless stream of tokens, cut into sequences.
//
// Every document is followed by the separator; the order is shuffled anew in every epoch. Nothing is padded or dropped.
// Batches say which document every token belongs to: V3 does not mask attention at the borders (§4.1), `documentMask` does.
import { mulberry32 } from '@baleen/tensor';

import { dataError } from './errors';

/** A batch of sequences, as the model and `mtpTargets` of @baleen/mtp take it; B sequences of S tokens. */
export interface TokenBatch {
  /** B. */
  sequences: number;
  /** S. */
  sequence: number;
  /** Input tokens [B × S]. */
  ids: Int32Array;
  /** The token after each, [B × S]; −1 where it does not count. */
  targets: Int32Array;
  /** Numbers of the documents that inputs and targets belong to, each [B × S]; a separator belongs to the one it ends. */
  documents: {
    /** Of the inputs. */
    inputs: Int32Array;
    /** Of the targets. */
    targets: Int32Array;
  };
}

/** Where a packer stands: plain JSON, exact to the token. */
export interface PackerState {
  /** Whole passes over the documents. */
  epoch: number;
  /** Place in the epoch's order. */
  document: number;
  /** Tokens of that document already given. */
  offset: number;
  /** Tokens given since the beginning. */
  tokens: number;
  /** The shuffling's seed. */
  seed: number;
  /** Of every token and border: a cursor is only good for the data it was made with. */
  checksum: number;
}

/** What a packer needs beside documents. */
export interface PackerOptions {
  /** The separator. */
  documentEnd: number;
  /** Decides the order of documents. */
  seed: number;
}

/**
 * Packs tokenised documents into batches of next-token prediction, for ever.
 *
 * @example
 * ```ts
 * import { Packer } from '@baleen/trainer';
 * const packer = new Packer([Int32Array.of(1, 2), Int32Array.of(3, 4, 5)], { documentEnd: 0, seed: 1 });
 * const { ids, targets } = packer.next(1, 6);
 * console.log(ids.join(' '), '|', targets.join(' ')); // => 1 2 0 3 4 5 | 2 0 3 4 5 0
 * ```
 */
export class Packer {
  /** Tokens of one pass over the documents, separators included. */
  readonly tokensPerEpoch: number;
  private readonly checksum: number;
  private order: Int32Array;
  private passes = 0;
  private place = 0;
  private offset = 0;
  private given = 0;

  /**
   * @param documents - tokens of each document, without separators; empty ones are passed over
   * @param options - separator and seed
   * @throws `ERR_BALEEN_DATA_EMPTY` where there is no token
   */
  constructor(
    documents: readonly Int32Array[],
    private readonly options: PackerOptions,
  ) {
    this.documents = documents.filter(({ length }) => length > 0);
    if (this.documents.length === 0)
      throw dataError(
        'DATA_EMPTY',
        'there is no training text',
        'give more text in data.sources, or hold less of it out (data.heldOutEvery)',
      );
    this.tokensPerEpoch = this.documents.reduce((sum, { length }) => sum + length + 1, 0);
    this.checksum = checksum(this.documents);
    this.order = shuffled(this.documents.length, options.seed, 0);
  }

  private readonly documents: readonly Int32Array[];

  /** Passes over the documents so far, with the fraction of the current one. */
  get epoch(): number {
    return this.given / this.tokensPerEpoch;
  }

  /** Tokens given so far. */
  get tokens(): number {
    return this.given;
  }

  /**
   * Refuses sequences that are longer than all the text. `next` does so too; a trainer asks before it builds a model.
   * @param sequence - tokens of a sequence
   * @throws `ERR_BALEEN_DATA_SHORT`
   */
  checkSequence(sequence: number): void {
    if (this.tokensPerEpoch <= sequence)
      throw dataError(
        'DATA_SHORT',
        `the training text has ${this.tokensPerEpoch} tokens: a sequence of ${sequence} and the token after it do not fit`,
        'give more text in data.sources, or a smaller batch.sequence',
      );
  }

  /**
   * The next batch. A sequence begins with the last target of the one before it: every token of the stream is
   * predicted once.
   * @param sequences - B
   * @param sequence - S
   * @param out - an earlier batch to write into, if it has this size
   * @returns the batch
   * @throws `ERR_BALEEN_DATA_SHORT` where all the text is shorter than a sequence
   */
  next(sequences: number, sequence: number, out?: TokenBatch): TokenBatch {
    this.checkSequence(sequence);
    const size = sequences * sequence;
    const fits = out?.sequences === sequences && out.sequence === sequence;
    const batch = fits ? out : emptyBatch(sequences, sequence);
    const { inputs, targets } = batch.documents;
    for (let i = 0; i < size; i += 1) {
      batch.ids[i] = this.token();
      inputs[i] = this.number();
      this.advance();
      batch.targets[i] = this.token();
      targets[i] = this.number();
    }
    return batch;
  }

  /** The cursor. */
  state(): PackerState {
    return {
      epoch: this.passes,
      document: this.place,
      offset: this.offset,
      tokens: this.given,
      seed: this.options.seed,
      checksum: this.checksum,
    };
  }

  /**
   * Goes to where another packer of the same documents and seed stood; the next batch is the one it would have given.
   * @param state - what `state` gave
   * @throws `ERR_BALEEN_DATA_CHANGED` for a cursor of other data, another seed, or no cursor at all
   */
  restore(state: PackerState): void {
    const { seed } = this.options;
    const fault =
      state.checksum !== this.checksum
        ? 'the training text, its split or its tokenizer is not the one it was saved with'
        : state.seed !== seed
          ? `it was saved with seed ${state.seed}, not ${seed}`
          : null;
    if (fault)
      throw dataError(
        'DATA_CHANGED',
        `the data cursor does not fit: ${fault}`,
        'resume with the data and seed of the run, or begin a new run from its weights',
      );
    const { epoch, document, offset, tokens } = state;
    const counts = [epoch, document, offset, tokens].every(
      (n) => Number.isSafeInteger(n) && n >= 0,
    );
    const order = counts ? shuffled(this.documents.length, seed, epoch) : this.order;
    const length = counts ? this.documents[order[document] ?? -1]?.length : undefined;
    if (length === undefined || offset > length)
      throw dataError(
        'DATA_CHANGED',
        `the data cursor is damaged: ${JSON.stringify(state)}`,
        'resume from an earlier checkpoint',
      );
    this.order = order;
    this.passes = epoch;
    this.place = document;
    this.offset = offset;
    this.given = tokens;
  }

  /** The token at the cursor. */
  private token(): number {
    return this.current()[this.offset] ?? this.options.documentEnd;
  }

  /** The running number of the document at the cursor. */
  private number(): number {
    return (this.passes * this.documents.length + this.place) & 0x7fffffff;
  }

  private advance(): void {
    this.given += 1;
    this.offset += 1;
    if (this.offset <= this.current().length) return;
    this.offset = 0;
    this.place += 1;
    if (this.place < this.documents.length) return;
    this.place = 0;
    this.passes += 1;
    this.order = shuffled(this.documents.length, this.options.seed, this.passes);
  }

  private current(): Int32Array {
    return this.documents[this.order[this.place]] ?? new Int32Array(0);
  }
}

/** The order of an epoch: Fisher–Yates over mulberry32, begun anew from seed and epoch, so that no state is kept. */
function shuffled(count: number, seed: number, epoch: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  const random = mulberry32(Math.imul(seed | 0, 0x9e3779b1) ^ Math.imul(epoch + 1, 0x85ebca6b));
  for (let last = count - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    const kept = order[last];
    order[last] = order[other];
    order[other] = kept;
  }
  return order;
}

/** FNV-1a over tokens and borders. */
function checksum(documents: readonly Int32Array[]): number {
  let hash = 0x811c9dc5;
  for (const document of documents) {
    for (const token of document) hash = Math.imul(hash ^ token, 0x01000193);
    hash = Math.imul(hash ^ -1, 0x01000193);
  }
  return hash >>> 0;
}

function emptyBatch(sequences: number, sequence: number): TokenBatch {
  const list = (): Int32Array => new Int32Array(sequences * sequence);
  return {
    sequences,
    sequence,
    ids: list(),
    targets: list(),
    documents: { inputs: list(), targets: list() },
  };
}
