// Byte n-gram models with Witten–Bell smoothing: the ladder that a neural model's bits per byte stand beside.
//
// Order n predicts a byte w from the n − 1 bytes h before it, in the same document (Witten & Bell 1991, interpolated):
//   P_n(w | h) = (c(h w) + T(h) · P_{n−1}(w | h')) / (N(h) + T(h))
// where c counts in the training text, N(h) = Σ_w c(h w), T(h) is the number of different bytes seen after h, h' is h
// without its first byte, and P_0 = 1/256. A context never seen leaves P_{n−1} as it is; so does a document's beginning
// that is shorter than n − 1 bytes.

/** How well a byte n-gram model predicts held-out text. */
export interface NgramBaseline {
  /** n: it sees n − 1 bytes of context. */
  order: number;
  /** Mean of −log2 P over every held-out byte. */
  bitsPerByte: number;
}

/**
 * Trains byte n-gram models and scores held-out text.
 * @param train - training documents
 * @param heldOut - held-out documents, with at least one byte
 * @param orders - whole numbers ≥ 0 in any sequence; order 0 knows nothing and needs 8 bits
 * @returns one entry an order, in their sequence
 *
 * @example
 * ```ts
 * import { ngramBaselines } from '@baleen/trainer';
 * const text = (value: string) => [new TextEncoder().encode(value)];
 * const [one, two] = ngramBaselines(text('abababababababab'), text('abab'), [1, 2]);
 * console.log(one?.bitsPerByte.toFixed(2), two?.bitsPerByte.toFixed(2)); // => 1.17 0.36
 * ```
 */
export function ngramBaselines(
  train: readonly Uint8Array[],
  heldOut: readonly Uint8Array[],
  orders: readonly number[],
): NgramBaseline[] {
  const bytes = heldOut.reduce((sum, { length }) => sum + length, 0);
  const seen = new Corpus(train);
  const scored = new Corpus(heldOut);
  const probabilities = new Float64Array(scored.bytes.length).fill(1 / 256);
  const bits = new Map([[0, 8]]);
  const highest = Math.max(0, ...orders);
  for (let order = 1; order <= highest; order += 1) {
    const grams = new Grams(seen.contexts);
    seen.count(grams);
    scored.score(grams, probabilities);
    bits.set(order, meanBits(scored, probabilities, bytes));
  }
  return orders.map((order) => ({ order, bitsPerByte: bits.get(order) ?? NaN }));
}

function meanBits(corpus: Corpus, probabilities: Float64Array, bytes: number): number {
  let sum = 0;
  for (let i = 0; i < corpus.bytes.length; i += 1)
    if (!corpus.starts[i]) sum -= Math.log2(probabilities[i]);
  return sum / bytes;
}

/**
 * Documents behind each other, each after a place that is no byte, with the number of the (n − 1)-gram that ends at
 * every place: the context of the place after it. −1: none, or none that the training text has.
 */
class Corpus {
  readonly bytes: Uint8Array;
  /** 1 at the place before a document. */
  readonly starts: Uint8Array;
  private readonly ids: Int32Array;
  /** Different contexts of the order to come. */
  contexts = 1;

  constructor(documents: readonly Uint8Array[]) {
    const length = documents.reduce((sum, document) => sum + document.length + 1, 0);
    this.bytes = new Uint8Array(length);
    this.starts = new Uint8Array(length);
    // The empty context of order 1 has the number 0 everywhere, before a document too.
    this.ids = new Int32Array(length);
    let place = 0;
    for (const document of documents) {
      this.starts[place] = 1;
      this.bytes.set(document, place + 1);
      place += document.length + 1;
    }
  }

  /** Counts the n-grams and moves on to the next order. */
  count(grams: Grams): void {
    const { bytes, starts, ids } = this;
    // From the end, as every place needs what the place before it had at the order below.
    for (let i = bytes.length - 1; i >= 0; i -= 1) {
      const context = i === 0 ? -1 : ids[i - 1];
      ids[i] = starts[i] || context < 0 ? -1 : grams.add(context, bytes[i]);
    }
    this.contexts = grams.size;
  }

  /** Interpolates the order's probability of every byte and moves on to the next order. */
  score(grams: Grams, probabilities: Float64Array): void {
    const { bytes, starts, ids } = this;
    for (let i = bytes.length - 1; i >= 0; i -= 1) {
      const context = i === 0 ? -1 : ids[i - 1];
      if (starts[i] || context < 0) {
        ids[i] = -1;
        continue;
      }
      const gram = grams.find(context, bytes[i]);
      const total = grams.totals[context];
      const kinds = grams.kinds[context];
      const below = probabilities[i];
      if (total > 0) probabilities[i] = (grams.countOf(gram) + kinds * below) / (total + kinds);
      ids[i] = gram;
    }
  }
}

/** The n-grams of one order: an open hash table from (context, byte) to a number, with counts. */
class Grams {
  /** N of each context. */
  readonly totals: Float64Array;
  /** T of each context. */
  readonly kinds: Uint16Array;
  /** Different n-grams. */
  size = 0;
  // Slots hold an n-gram's number + 1; what the number stands for is in the lists below.
  private slots = new Int32Array(1 << 12);
  private contexts = new Int32Array(1 << 11);
  private bytes = new Uint8Array(1 << 11);
  private counts = new Float64Array(1 << 11);

  constructor(contexts: number) {
    this.totals = new Float64Array(contexts);
    this.kinds = new Uint16Array(contexts);
  }

  add(context: number, byte: number): number {
    if (this.size === this.counts.length) this.grow();
    const slot = this.slotOf(context, byte);
    let gram = this.slots[slot] - 1;
    if (gram < 0) {
      gram = this.size;
      this.size += 1;
      this.slots[slot] = this.size;
      this.contexts[gram] = context;
      this.bytes[gram] = byte;
      this.kinds[context] += 1;
    }
    this.counts[gram] += 1;
    this.totals[context] += 1;
    return gram;
  }

  find(context: number, byte: number): number {
    return this.slots[this.slotOf(context, byte)] - 1;
  }

  countOf(gram: number): number {
    return gram < 0 ? 0 : this.counts[gram];
  }

  /** The slot that holds the n-gram, or the free one where it belongs. */
  private slotOf(context: number, byte: number): number {
    const { slots } = this;
    const mask = slots.length - 1;
    let hash = Math.imul(context, 0x9e3779b1) ^ Math.imul(byte + 1, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    let slot = (hash ^ (hash >>> 13)) & mask;
    for (;;) {
      const gram = slots[slot] - 1;
      if (gram < 0 || (this.contexts[gram] === context && this.bytes[gram] === byte)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  private grow(): void {
    const room = this.counts.length * 2;
    const { contexts, bytes, counts } = this;
    (this.contexts = new Int32Array(room)).set(contexts);
    (this.bytes = new Uint8Array(room)).set(bytes);
    (this.counts = new Float64Array(room)).set(counts);
    this.slots = new Int32Array(room * 2);
    for (let gram = 0; gram < this.size; gram += 1)
      this.slots[this.slotOf(contexts[gram], bytes[gram])] = gram + 1;
  }
}
