// The latent key-value cache: per token and layer one normed latent and one rotary key, nothing else (§2.1.1).
import { emptyTensor, type Region, type Tensor } from '@baleen/tensor';

/** One layer's cache of one sequence. */
export class LatentCache {
  /** Tokens cached. */
  length = 0;
  private readonly latentRows: Tensor;
  private readonly ropeRows: Tensor;

  /**
   * @param region - where it lives
   * @param capacity - most tokens it holds
   * @param kvRank - width of the latent
   * @param ropeDim - width of the rotary key
   */
  constructor(
    private readonly region: Region,
    /** Most tokens it holds. */
    readonly capacity: number,
    kvRank: number,
    ropeDim: number,
  ) {
    this.latentRows = emptyTensor(region, [capacity, kvRank]);
    this.ropeRows = emptyTensor(region, [capacity, ropeDim]);
  }

  /** Normed latents so far [length, kvRank]. */
  get latents(): Tensor {
    return this.latentRows.rows(0, this.length);
  }

  /** Rotary keys so far [length, ropeDim], rotated when they are used. */
  get ropeKeys(): Tensor {
    return this.ropeRows.rows(0, this.length);
  }

  /**
   * Adds tokens.
   * @param latent - [tokens, kvRank], normed
   * @param kRope - [tokens, ropeDim]
   */
  append(latent: Tensor, kRope: Tensor): void {
    const count = latent.shape[0] ?? 0;
    if (this.length + count > this.capacity)
      throw Object.assign(
        new Error(`${this.length + count} tokens exceed the cache's capacity of ${this.capacity}`),
        { code: 'ERR_BALEEN_MLA_CACHE', hint: 'make the cache as long as prompt and answer' },
      );
    this.region.kernels.copy(this.latentRows.rows(this.length, count), latent);
    this.region.kernels.copy(this.ropeRows.rows(this.length, count), kRope);
    this.length += count;
  }

  /**
   * Forgets tokens.
   * @param length - how many stay, from the first
   */
  truncate(length: number): void {
    if (!(Number.isInteger(length) && length >= 0 && length <= this.length))
      throw Object.assign(new Error(`a cache of ${this.length} tokens cannot keep ${length}`), {
        code: 'ERR_BALEEN_MLA_CACHE',
        path: 'length',
        hint: 'name a whole number from 0 to the tokens cached',
      });
    this.length = length;
  }

  /** Gives its memory back. */
  release(): void {
    this.latentRows.block.release();
    this.ropeRows.block.release();
  }
}

/** Rows of a pass that belong to one sequence. */
export interface CachedRows {
  /** What its rows look back at, and are added to. */
  cache: LatentCache;
  /** How many rows it has. */
  count: number;
}
