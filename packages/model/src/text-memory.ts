// A text that goes on in turns, as a chat does: its caches, and what drafting goes on from, are kept between calls of
// `generate`, so that a turn costs what is new in it.
import { Region } from '@baleen/tensor';

import { CachePools, type CacheSizes, type SequenceCaches } from './caches';
import type { Decoder } from './decoder';
import { type DraftState, type SamplingOptions, Sequence } from './sequence';

/** What a memory is made for. */
export interface MemoryOptions {
  /** What cached latents take (default: FP32 where the model computes in it, else BF16). */
  cache?: CacheSizes['format'];
  /** Most tokens to be drafted at a time (default 0). */
  drafts?: number;
}

/** Remembers a text between calls of `generate`. */
export class TextMemory {
  /** Memory of the caches, and of passes over the text. */
  readonly region: Region;
  private readonly pools: CachePools;
  private readonly caches: SequenceCaches;
  private tokens: readonly number[] = [];
  private drafting: DraftState = { drafted: 0, window: null };
  private state: 'idle' | 'busy' | 'released' = 'idle';

  /**
   * @param model - the decoder
   * @param options - see {@link MemoryOptions}
   */
  constructor(
    private readonly model: Decoder,
    { cache, drafts = 0 }: MemoryOptions = {},
  ) {
    this.region = new Region(model.kernels, 'text');
    const depths = Math.min(drafts, model.mtp.length);
    this.pools = new CachePools(model, this.region, {
      capacities: [model.config.maxSequence],
      depths,
      ...(cache && { format: cache }),
    });
    this.caches = this.pools.sequence(depths);
  }

  /** Tokens remembered. */
  get length(): number {
    return this.tokens.length;
  }

  /**
   * A text that goes on from what it has in common with the one remembered.
   * @param prompt - token ids
   * @param options - how to go on
   * @returns its sequence
   * @throws ERR_BALEEN_USAGE_DRAFTS for drafts by depths that the memory keeps nothing of, ERR_BALEEN_USAGE_MEMORY while another
   *   text is being made in it, and once it is released
   */
  begin(prompt: Int32Array, options: SamplingOptions): Sequence {
    const { model, caches, tokens } = this;
    const { drafts = 0 } = options;
    if (this.state !== 'idle')
      throw Object.assign(
        new Error(
          this.state === 'busy'
            ? 'memory: another text is being made in it'
            : 'memory: it is released',
        ),
        {
          code: 'ERR_BALEEN_USAGE_MEMORY',
          path: 'memory',
          hint: 'make a text after the other, or a TextMemory for each',
        },
      );
    if (Math.min(drafts, model.mtp.length) > caches.depths.length)
      throw Object.assign(
        new Error(`${drafts} drafts of a text in a memory made for ${caches.depths.length}`),
        {
          code: 'ERR_BALEEN_USAGE_DRAFTS',
          path: 'drafts',
          hint: `make the memory with drafts: ${drafts}`,
        },
      );
    let common = 0;
    while (common < tokens.length && tokens[common] === prompt[common]) common += 1;
    this.tokens = [];
    // Of the last token the model has yet to say what comes after it.
    const read = Math.max(0, Math.min(common, prompt.length - 1));
    // At position i depth k has read token i + k.
    const drafted = Math.max(
      0,
      Math.min(
        read,
        common - caches.depths.length,
        this.drafting.drafted,
        ...caches.depths.map(({ length }) => length),
      ),
    );
    const { window } = this.drafting;
    const reaches = window !== null && window.start <= drafted && window.start < read;
    const kept = drafts > 0 && reaches ? window : null;
    // Hidden states that depths have yet to read and that are gone: the main model reads their tokens again.
    caches.main.truncate(drafts === 0 || kept ? read : drafted);
    if (!kept) window?.rows.block.release();
    this.drafting = { drafted: 0, window: null };
    const sequence = new Sequence(model, caches, prompt, options, {
      drafted,
      window: kept && { ...kept, rows: kept.rows.rows(0, read - kept.start) },
    });
    this.state = 'busy';
    return sequence;
  }

  /**
   * Remembers a text.
   * @param sequence - begun here
   */
  keep(sequence: Sequence): void {
    if (this.state === 'released') return;
    this.state = 'idle';
    const { main } = this.caches;
    this.tokens = sequence.tokens.slice(0, main.length);
    main.truncate(this.tokens.length);
    this.drafting = sequence.drafting;
  }

  /** Gives its memory back. */
  release(): void {
    if (this.state === 'released') return;
    this.state = 'released';
    this.tokens = [];
    this.drafting.window?.rows.block.release();
    this.drafting = { drafted: 0, window: null };
    for (const cache of [this.caches.main, ...this.caches.depths]) cache.release();
    this.pools.release();
  }
}
