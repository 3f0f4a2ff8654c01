// Training of a byte-level BPE: the most frequent pair of neighbours is merged, again and again.

import { setImmediate } from 'node:timers/promises';
import type { Merge } from './bpe';

import { byteCharacters, forEachWord } from './byte-level';
import { PairQueue } from './pair-queue';

/** What training found. */
export interface TrainedMerges {
  /** Bytes of every token: the 256 bytes, then what merges made, in the order it was made. */
  pieces: Uint8Array[];
  /** The merges, strongest first, over the tokens' numbers in `pieces`. */
  merges: Merge[];
}

// Among equally frequent pairs the one whose tokens come first wins, where bytes come in the order of their characters
// in tokenizer files. With this order the merges are those of Hugging Face's trainer.
const byCharacter = byteCharacters
  .map((character, byte) => ({ code: character.charCodeAt(0), byte }))
  .sort((a, b) => a.code - b.code)
  .map(({ byte }) => byte);

/**
 * Learns merges from text. Pairs are counted inside words, never across. The result depends only on the text. Other
 * work of the process, such as a signal's, has its turn in between.
 * @param texts - the training text, in any parts
 * @param tokens - wanted tokens, the 256 bytes included; fewer where the text has no more pairs
 * @returns tokens and merges
 */
export async function trainMerges(texts: Iterable<string>, tokens: number): Promise<TrainedMerges> {
  const frequencies = new Map<string, number>();
  for (const text of texts) {
    forEachWord(text, (word) => frequencies.set(word, (frequencies.get(word) ?? 0) + 1));
    await setImmediate();
  }
  const training = new Training(frequencies, tokens);
  while (training.size < tokens && training.mergeMostFrequent())
    if (training.size % 64 === 0) await setImmediate();
  return training.result();
}

class Training {
  /** Symbols are numbered in the order that decides ties; `result` numbers bytes by their value again. */
  private readonly pieces: Uint8Array[] = byCharacter.map((byte) => Uint8Array.of(byte));
  private readonly merges: Merge[] = [];
  private readonly words: number[][] = [];
  private readonly frequencies: number[] = [];
  private readonly counts = new Map<number, number>();
  private readonly places = new Map<number, Set<number>>();
  private readonly queue = new PairQueue();
  private readonly top = { first: 0, second: 0 };
  /** Pairs are kept as left · limit + right. */
  private readonly limit: number;

  constructor(words: ReadonlyMap<string, number>, tokens: number) {
    this.limit = Math.max(256, tokens);
    const symbolOfByte = new Int32Array(256);
    byCharacter.forEach((byte, symbol) => (symbolOfByte[byte] = symbol));
    const encoder = new TextEncoder();
    for (const [word, frequency] of words) {
      const symbols = Array.from(encoder.encode(word), (byte) => symbolOfByte[byte]);
      const index = this.words.push(symbols) - 1;
      this.frequencies.push(frequency);
      for (let i = 0; i + 1 < symbols.length; i += 1)
        this.change(this.pair(symbols[i], symbols[i + 1]), frequency, index);
    }
    for (const [pair, count] of this.counts) this.queue.push(-count, pair);
  }

  /** Different tokens so far. */
  get size(): number {
    return this.pieces.length;
  }

  /** Merges the most frequent pair; false where there is none. */
  mergeMostFrequent(): boolean {
    while (this.queue.pop(this.top)) {
      const pair = this.top.second;
      const count = this.counts.get(pair) ?? 0;
      if (count <= 0) continue;
      // Counts fall while other pairs are merged: such an entry goes back to where it belongs now.
      if (count !== -this.top.first) this.queue.push(-count, pair);
      else {
        this.merge(pair);
        return true;
      }
    }
    return false;
  }

  result(): TrainedMerges {
    const byteOf = (symbol: number) => (symbol < 256 ? byCharacter[symbol] : symbol);
    return {
      pieces: [
        ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
        ...this.pieces.slice(256),
      ],
      merges: this.merges.map(({ left, right, merged }) => ({
        left: byteOf(left),
        right: byteOf(right),
        merged: byteOf(merged),
      })),
    };
  }

  private merge(pair: number): void {
    const left = Math.floor(pair / this.limit);
    const right = pair % this.limit;
    // No other pair ever spells the same bytes: between the same borders, the same merges were made everywhere.
    const merged =
      this.pieces.push(new Uint8Array([...this.pieces[left], ...this.pieces[right]])) - 1;
    this.merges.push({ left, right, merged });
    const risen = new Set<number>();
    for (const index of this.places.get(pair) ?? []) {
      const word = this.words[index];
      const frequency = this.frequencies[index];
      let end = 0;
      for (let i = 0; i < word.length; i += 1) {
        const symbol = word[i];
        if (symbol !== left || word[i + 1] !== right) {
          word[end] = symbol;
          end += 1;
          continue;
        }
        const before = end > 0 ? word[end - 1] : undefined;
        if (before !== undefined) {
          this.change(this.pair(before, left), -frequency);
          this.change(this.pair(before, merged), frequency, index);
          risen.add(this.pair(before, merged));
        }
        if (i + 2 < word.length) {
          const after = word[i + 2];
          this.change(this.pair(right, after), -frequency);
          this.change(this.pair(merged, after), frequency, index);
          risen.add(this.pair(merged, after));
        }
        word[end] = merged;
        end += 1;
        i += 1;
      }
      word.length = end;
    }
    this.counts.delete(pair);
    this.places.delete(pair);
    for (const other of risen) {
      const count = this.counts.get(other) ?? 0;
      if (other !== pair && count > 0) this.queue.push(-count, other);
    }
  }

  private pair(left: number, right: number): number {
    return left * this.limit + right;
  }

  /** Changes a pair's count, and notes a word that has it. */
  private change(pair: number, by: number, word?: number): void {
    this.counts.set(pair, (this.counts.get(pair) ?? 0) + by);
    if (word === undefined) return;
    const places = this.places.get(pair);
    if (places) places.add(word);
    else this.places.set(pair, new Set([word]));
  }
}
