// Texts that are made at once, and what they share: a prompt that begins like another text, running or just ended, goes on
// from that one's pages and reads only the rest. What it gets is what it would get alone.
import type { Region } from '@baleen/tensor';

import type { CachePools } from './caches';
import type { Decoder } from './decoder';
import { advance } from './pass';
import { type CacheDemand, type SamplingOptions, Sequence, sharedTokens } from './sequence';

/** A text to make. */
export interface TextRequest extends SamplingOptions {
  /** Token ids, at least one. */
  prompt: Int32Array;
}

/** What a pass made of a text. */
export interface MadeTokens {
  /** Which text, from 0. */
  text: number;
  /** Its next tokens, without a stop token. */
  tokens: number[];
  /** Why it has ended: a stop token, its length; or null while it goes on. */
  ended: 'stop' | 'length' | null;
}

/** A text that has its place: null until it begins. */
interface Seat {
  text: number;
  sequence: Sequence | null;
}

/** Texts that are made at once. */
export class Table {
  private seats: Seat[] = [];
  /** Texts that ended in the last pass: the next ones may begin like them. */
  private ended: Sequence[] = [];

  /**
   * @param model - the decoder
   * @param pools - pages for as many texts as sit here at once
   * @param texts - all that are to be made
   * @param demands - what each takes of caches
   */
  constructor(
    private readonly model: Decoder,
    private readonly pools: CachePools,
    private readonly texts: readonly TextRequest[],
    private readonly demands: readonly CacheDemand[],
  ) {}

  /** Texts that have their place. */
  get size(): number {
    return this.seats.length;
  }

  /**
   * Gives a text its place.
   * @param text - which
   */
  seat(text: number): void {
    this.seats.push({ text, sequence: null });
  }

  /** Begins texts, but those of whose prompt one before them is about to read more than anybody has. */
  begin(): void {
    this.seats.forEach((seat, place) => {
      if (seat.sequence) return;
      const { prompt, ...options } = this.texts[seat.text];
      const { depths } = this.demands[seat.text];
      const ready = [...this.ended, ...this.seats.flatMap(({ sequence }) => sequence ?? [])];
      let shared = 0;
      let from: Sequence | null = null as Sequence | null;
      for (const sequence of ready) {
        const tokens = sequence.shareable(prompt, depths);
        if (tokens > shared) [shared, from] = [tokens, sequence];
      }
      if (this.soonShared(place) > shared) return;
      seat.sequence = from
        ? from.branch(prompt, options, shared, depths)
        : new Sequence(this.model, this.pools.sequence(depths), prompt, options);
    });
    this.releaseEnded();
  }

  /** Tokens that a text could take over once those before it have read their prompts. */
  private soonShared(place: number): number {
    const { text } = this.seats[place];
    const { prompt } = this.texts[text];
    const { depths } = this.demands[text];
    const before = this.seats
      .slice(0, place)
      .filter(
        ({ sequence, text: other }) => !sequence?.ended && this.demands[other].depths >= depths,
      )
      .map(({ text: other }) =>
        sharedTokens(prompt, this.texts[other].prompt, {
          cached: Infinity,
          drafted: Infinity,
          depths,
        }),
      );
    return Math.max(0, ...before);
  }

  /**
   * One pass of all that have begun; texts that have ended leave.
   * @param region - intermediate memory
   * @returns what became of each
   */
  *pass(region: Region): Generator<MadeTokens> {
    const begun = this.seats.flatMap(({ text, sequence }) => (sequence ? { text, sequence } : []));
    const open = begun.flatMap(({ sequence }) => (sequence.ended ? [] : sequence));
    const made = open.length > 0 ? advance(this.model, region, open) : [];
    const news = begun.map(({ text, sequence }) => ({
      text,
      tokens: made[open.indexOf(sequence)] ?? [],
      ended: sequence.ended,
    }));
    this.seats = this.seats.filter(({ sequence }) => !sequence?.ended);
    this.ended = begun.flatMap(({ sequence }) => (sequence.ended ? sequence : []));
    yield* news;
  }

  /** Gives all memory back. */
  release(): void {
    for (const { sequence } of this.seats) sequence?.release();
    this.seats = [];
    this.releaseEnded();
  }

  private releaseEnded(): void {
    for (const sequence of this.ended.splice(0)) sequence.release();
  }
}
