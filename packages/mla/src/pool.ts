// Memory of the latent key-value cache (§2.1.1): pages of tokens, each token one normed latent and one rotary key a layer, and
// nothing else. Sequences hold pages (cache.ts); one that several hold is written by none of them.
import { bytesPerElement, type LatentType, latentBytes } from '@baleen/kernels';
import { emptyTensor, type Region, type Tensor } from '@baleen/tensor';

import { checkWhole, refuse } from './checks';

/** What cached numbers take: FP32; BF16; or codes of FP8 with scales and BF16 rotary keys, as `encodeLatents` has them. */
export type CacheFormat = 'fp32' | 'bf16' | 'fp8';

const types: Readonly<Record<CacheFormat, LatentType>> = { fp32: 'f32', bf16: 'bf16', fp8: 'e4m3' };

/** Tokens a page unless told otherwise, as FlashMLA has them. */
const usualPage = 64;

/** What a pool is made of. */
export interface LatentPoolSizes {
  /** Pages. */
  pages: number;
  /** Tokens a page (default 64). As long as the longest sequence, each lies in one piece. */
  pageSize?: number;
  /** Layers whose latents a page holds (default 1): they read the same tokens, and share block tables. */
  layers?: number;
  /** Width of the latent (d_c). */
  kvRank: number;
  /** Width of the rotary key (d_h^R). */
  ropeDim: number;
  /** What its numbers take (default FP32). With another, attention's products take BF16. */
  format?: CacheFormat;
}

/**
 * Pages that the caches of many sequences share.
 *
 * @example
 * ```ts
 * import { LatentCache, LatentPool } from '@baleen/mla';
 * import { referenceKernels } from '@baleen/kernels';
 * import { Region } from '@baleen/tensor';
 * const region = new Region(referenceKernels(), 'cache');
 * const pool = new LatentPool(region, { pages: 4, layers: 61, kvRank: 512, ropeDim: 64, format: 'bf16' });
 * const prompt = new LatentCache(pool);
 * prompt.append(100); // two pages
 * const answer = prompt.clone(); // none yet
 * answer.append(1); // a page of its own, with what the shared one held of it
 * console.log(pool.freePages, pool.bytes / (4 * 64)); // => 1 70272
 * ```
 */
export class LatentPool {
  /** Pages. */
  readonly pages: number;
  /** Tokens a page. */
  readonly pageSize: number;
  /** Layers. */
  readonly layers: number;
  /** Width of the latent. */
  readonly kvRank: number;
  /** Width of the rotary key. */
  readonly ropeDim: number;
  /** What its numbers take. */
  readonly format: CacheFormat;
  /** A layer each, [pages · pageSize, elements of a token]. */
  private readonly memory: readonly Tensor[];
  /** How many sequences hold each page. */
  private readonly holders: Int32Array;
  /** Pages that nobody holds, the next one to take last. */
  private readonly free: number[];

  /**
   * @param region - where it lives
   * @param sizes - see {@link LatentPoolSizes}
   * @throws ERR_BALEEN_MLA_SIZES for sizes that cannot be
   */
  constructor(region: Region, sizes: LatentPoolSizes) {
    const { pages, pageSize = usualPage, layers = 1, kvRank, ropeDim, format = 'fp32' } = sizes;
    checkWhole({ pages, pageSize, layers, kvRank, ropeDim });
    if (!Object.hasOwn(types, format))
      refuse(
        'format',
        `format (${JSON.stringify(format)}) is none of a cache's`,
        `take ${Object.keys(types).join(', ')}`,
      );
    this.pages = pages;
    this.pageSize = pageSize;
    this.layers = layers;
    this.kvRank = kvRank;
    this.ropeDim = ropeDim;
    this.format = format;
    const type = types[format];
    const elements = latentBytes(type, { rank: kvRank, rope: ropeDim }) / bytesPerElement[type];
    this.memory = Array.from({ length: layers }, () =>
      emptyTensor(region, [pages * pageSize, elements], type),
    );
    this.holders = new Int32Array(pages);
    this.free = Array.from({ length: pages }, (_, index) => pages - 1 - index);
  }

  /** Pages that nobody holds. */
  get freePages(): number {
    return this.free.length;
  }

  /** Bytes of a page, over all layers. */
  get pageBytes(): number {
    const { kvRank: rank, ropeDim: rope, pageSize, layers, format } = this;
    return layers * pageSize * latentBytes(types[format], { rank, rope });
  }

  /** Bytes of all pages. */
  get bytes(): number {
    return this.pages * this.pageBytes;
  }

  /**
   * Pages of a layer, as `latentAttention` of the kernels takes them.
   * @param layer - from 0
   * @returns [pages · pageSize, elements of a token]
   */
  layer(layer: number): Tensor {
    const memory = this.memory[layer] as Tensor | undefined;
    if (!memory)
      return refuse(
        'layer',
        `layer (${layer}) is none of the pool's ${this.layers}`,
        'make the pool for as many layers as share it',
      );
    return memory;
  }

  /** Gives its memory back; its sequences can be used no more. */
  release(): void {
    for (const { block } of this.memory) block.release();
  }

  /**
   * Takes a page for one holder, who has seen that there is one.
   * @internal
   */
  take(): number {
    const [page] = this.free.splice(-1);
    this.holders[page] = 1;
    return page;
  }

  /**
   * Adds a holder.
   * @internal
   */
  hold(page: number): void {
    this.holders[page] += 1;
  }

  /**
   * Removes a holder; a page without any is free.
   * @internal
   */
  drop(page: number): void {
    this.holders[page] -= 1;
    if (this.holders[page] === 0) this.free.push(page);
  }

  /**
   * Whether several hold it.
   * @internal
   */
  isShared(page: number): boolean {
    return this.holders[page] > 1;
  }

  /**
   * Copies the first tokens of a page to another, in every layer.
   * @internal
   */
  copyPage(to: number, from: number, tokens: number): void {
    for (const memory of this.memory)
      memory.block.region.kernels.copy(
        memory.rows(to * this.pageSize, tokens),
        memory.rows(from * this.pageSize, tokens),
      );
  }
}
