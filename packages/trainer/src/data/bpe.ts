// Byte-pair encoding: applies a list of merges to the bytes of a word (Sennrich et al. 2016).
import { forEachWord } from './byte-level';
import { PairQueue } from './pair-queue';

/** Two tokens that become one. */
export interface Merge {
  /** The left token. */
  left: number;
  /** The right token. */
  right: number;
  /** What they become. */
  merged: number;
}

// Words come again and again; a word is merged once and then looked up. Long ones seldom return.
const cachedWords = 1 << 17;
const cachedLength = 64;

/** Encodes text by merges: of all neighbours in a word, the pair whose merge comes first in the list is merged first. */
export class BpeEncoder {
  private readonly ranks = new Map<number, number>();
  private readonly cache = new Map<string, readonly number[]>();
  private readonly queue = new PairQueue();
  private readonly bytes = new TextEncoder();

  /**
   * @param byteTokens - the token of each of the 256 bytes
   * @param merges - merges, the first is the strongest
   * @param size - tokens: every number in `merges` is below it
   */
  constructor(
    private readonly byteTokens: Int32Array,
    private readonly merges: readonly Merge[],
    private readonly size: number,
  ) {
    merges.forEach(({ left, right }, rank) => this.ranks.set(left * size + right, rank));
  }

  /**
   * Encodes text.
   * @param text - any text
   * @returns its tokens
   */
  encode(text: string): Int32Array {
    const ids: number[] = [];
    forEachWord(text, (word) => {
      const kept = this.cache.get(word);
      const tokens = kept ?? this.encodeWord(word);
      if (!kept && word.length <= cachedLength) {
        if (this.cache.size >= cachedWords) this.cache.clear();
        this.cache.set(word, tokens);
      }
      for (const token of tokens) ids.push(token);
    });
    return Int32Array.from(ids);
  }

  private encodeWord(word: string): number[] {
    const bytes = this.bytes.encode(word);
    const ids = Array.from(bytes, (byte) => this.byteTokens[byte]);
    const count = ids.length;
    // The neighbours of each place, as places that were merged into their left neighbour drop out.
    const before = Int32Array.from({ length: count }, (_, place) => place - 1);
    const after = Int32Array.from({ length: count }, (_, place) => place + 1);
    const rankAt = (place: number): number | undefined => {
      const next = place < 0 ? count : after[place];
      if (next >= count) return undefined;
      return this.ranks.get(ids[place] * this.size + ids[next]);
    };
    const offer = (place: number) => {
      const rank = rankAt(place);
      if (rank !== undefined) this.queue.push(rank, place);
    };
    this.queue.clear();
    for (let place = 0; place < count; place += 1) offer(place);
    const top = { first: 0, second: 0 };
    while (this.queue.pop(top)) {
      const { first: rank, second: place } = top;
      // An entry is out of date when one of its two has been merged since.
      if (ids[place] === gone || rankAt(place) !== rank) continue;
      const next = after[place];
      const later = after[next];
      ids[place] = this.merges[rank]?.merged ?? 0;
      ids[next] = gone;
      after[place] = later;
      if (later < count) before[later] = place;
      offer(before[place]);
      offer(place);
    }
    return ids.filter((id) => id !== gone);
  }
}

const gone = -1;
