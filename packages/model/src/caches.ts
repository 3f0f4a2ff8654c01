// Memory for texts in the making: pages for the latents of the main model, and of each depth that drafts, whose caches hold
// other numbers of tokens.
import { type CacheFormat, LatentCache, LatentPool } from '@baleen/mla';
import type { Region } from '@baleen/tensor';

import type { Decoder } from './decoder';

/** What caches are made for. */
export interface CacheSizes {
  /** Most tokens of each of the sequences that are there at once. */
  capacities: readonly number[];
  /** What cached numbers take (default: FP32 where the model computes in it, else BF16, as its products take them). */
  format?: CacheFormat;
  /** Depths of multi-token prediction that draft (default 0). */
  depths?: number;
}

/** Caches of one sequence. */
export interface SequenceCaches {
  /** The main model's. */
  main: LatentCache;
  /** Those of the depths that draft. */
  depths: readonly LatentCache[];
}

/** Tokens a page: prompts that begin alike share whole ones. */
export const pageSize = 64;

/**
 * Caches of a sequence that begins like another: in the same pages.
 * @param from - the other's
 * @param tokens - how many of its first tokens
 * @param depths - how many depths draft for it, of those that draft for the other
 * @returns caches that hold these tokens
 */
export function shareCaches(
  { main, depths: own }: SequenceCaches,
  tokens: number,
  depths: number,
): SequenceCaches {
  const share = (cache: LatentCache): LatentCache => {
    const copy = cache.clone();
    copy.truncate(tokens);
    return copy;
  };
  return { main: share(main), depths: own.slice(0, depths).map(share) };
}

/** Pages for the caches of sequences. */
export class CachePools {
  private readonly main: LatentPool;
  private readonly depths: readonly LatentPool[];

  /**
   * @param model - the decoder
   * @param region - where they live
   * @param sizes - see {@link CacheSizes}
   */
  constructor(model: Decoder, region: Region, sizes: CacheSizes) {
    const { capacities, depths = 0 } = sizes;
    const { kvRank, ropeDim } = model.config.attention;
    const { format = model.precision === 'fp32' ? 'fp32' : 'bf16' } = sizes;
    const pages = Math.max(
      1,
      capacities.reduce((sum, tokens) => sum + Math.ceil(tokens / pageSize), 0),
    );
    const pool = (layers: number): LatentPool =>
      new LatentPool(region, { pages, pageSize, layers, kvRank, ropeDim, format });
    this.main = pool(model.layers.length);
    this.depths = Array.from({ length: depths }, () => pool(1));
  }

  /**
   * Caches of a new sequence.
   * @param depths - how many depths draft for it
   * @returns empty ones
   */
  sequence(depths: number): SequenceCaches {
    return {
      main: new LatentCache(this.main),
      depths: this.depths.slice(0, depths).map((pool) => new LatentCache(pool)),
    };
  }

  /** Bytes of all pages. */
  get bytes(): number {
    return [this.main, ...this.depths].reduce((sum, pool) => sum + pool.bytes, 0);
  }

  /** Bytes of the pages that sequences hold. */
  get usedBytes(): number {
    return [this.main, ...this.depths].reduce(
      (sum, { pages, freePages, pageBytes }) => sum + (pages - freePages) * pageBytes,
      0,
    );
  }

  /** Gives the memory back. */
  release(): void {
    for (const pool of [this.main, ...this.depths]) pool.release();
  }
}
