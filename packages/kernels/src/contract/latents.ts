// Attention over cached latents (§2.1.1): every head reads the same row of a token, its latent and its rotary key, which lie
// in pages of a pool. What holds for all kernels stands in kernels.ts.
//
// A token's row is [rank + rope]: the normed latent c_KV, then the rotated rotary key k_R. In FP32 and BF16 that is what lies
// in memory. In FP8, in a view of `e4m3` bytes, a token is
//   rank E4M3 codes | ⌈rank / 128⌉ FP32 scales, powers of two, one for 128 codes | rope BF16 numbers
// without gaps and little-endian: 656 bytes for 512 and 64, the layout of FlashMLA's cache (`latentBytes`). A number of the
// latent is fl(code · scale).
import type { View } from '../storage';

/** Sizes of a token's row. */
export interface LatentSizes {
  /** Width of the latent (d_c). */
  rank: number;
  /** Width of the rotary key (d_h^R). */
  rope: number;
}

/** Sizes of the kernels that move rows between a pool and matrices. */
export interface LatentRowSizes extends LatentSizes {
  /** Tokens moved. */
  tokens: number;
  /** Tokens the pool has room for: pages times tokens a page. */
  capacity: number;
}

/** Sizes of `latentAttention`. */
export interface LatentAttentionSizes extends LatentSizes {
  /** Sequences. */
  sequences: number;
  /** New tokens of each sequence, its last ones. */
  queries: number;
  /** Heads. */
  heads: number;
  /** Pages of the pool. */
  pages: number;
  /** Tokens a page. */
  pageSize: number;
  /** Pages that the table has room for, for each sequence. */
  tableWidth: number;
  /** Factor on the scores before the softmax, above 0. */
  scale: number;
}

/** Sizes of `latentAttentionBackward`. */
export interface LatentGradientSizes extends LatentSizes {
  /** Sequences. */
  batch: number;
  /** Query rows of each sequence. */
  queries: number;
  /** Key rows of each sequence, at least `queries`. Query i sees keys 0 … keys − queries + i. */
  keys: number;
  /** Heads. */
  heads: number;
  /** Factor on the scores before the softmax, above 0. */
  scale: number;
}

/** Attention over latents, and their way into and out of a pool. */
export interface LatentKernels {
  /**
   * Attention in the absorbed form. q [sequences, queries, heads, rank + rope] in FP32 or BF16 holds queries multiplied by
   * W_UK and their rotated rotary parts; pages [pages, pageSize, row] hold the keys; table [sequences, tableWidth] I32 says
   * in which page tokens 0 … pageSize − 1 of a sequence lie, then the next ones; lengths [sequences] I32, at most
   * tableWidth · pageSize, count its tokens, the queries' included. Query i sees keys 0 … length − queries + i.
   *
   * out [sequences, queries, heads, rank] FP32 = Σ_j p_j · latent_j with p the softmax of scale · q·row_j, and lse
   * [sequences, heads, queries] FP32 = log Σ_j exp(scale · q·row_j). A query that sees no key gets 0 and +∞.
   *
   * With FP32 pages all is FP32. Otherwise the products take BF16: q and rows are rounded to it, and probabilities before
   * they meet the latents, relative to the largest score met so far. Sums are FP32.
   *
   * Nothing is read of the pool but the tokens of the sequences, nor of the table beyond their pages. Entries of the table
   * for a sequence's own tokens must name pages of the pool. A row's result does not depend on other sequences, nor on
   * later queries of its own, as long as the rows they see are finite.
   */
  latentAttention(
    out: View,
    lse: View,
    q: View,
    pages: View,
    table: View,
    lengths: View,
    sizes: LatentAttentionSizes,
  ): void;
  /**
   * Gradients of `latentAttention` with keys [batch, keys, rank + rope] in FP32 or BF16, which is a pool of one page a
   * sequence: dq in q's shape and dkeys in that of keys, FP32 and replaced. q is of the keys' type. With BF16 the inner
   * products take BF16 operands.
   */
  latentAttentionBackward(
    dq: View,
    dkeys: View,
    dout: View,
    q: View,
    keys: View,
    out: View,
    lse: View,
    sizes: LatentGradientSizes,
  ): void;
  /**
   * Puts tokens into a pool: token t goes to slots[t] (page · pageSize + place in the page; none twice). latent
   * [tokens, rank] and rotary [tokens, rope] are FP32; BF16 is rounded to nearest even. FP8 scales are the powers of two at
   * or above max(amax / 448, 1e-4), codes nearest-even E4M3 of latent / scale.
   */
  writeLatents(pages: View, latent: View, rotary: View, slots: View, sizes: LatentRowSizes): void;
  /** The way back, to FP32: latent [tokens, rank] and rotary [tokens, rope] of slots [tokens] I32. */
  readLatents(latent: View, rotary: View, pages: View, slots: View, sizes: LatentRowSizes): void;
}
