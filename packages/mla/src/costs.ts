// What a cache holds and what decoding takes, from sizes alone: for planning, and to see why the absorbed form is there.
// Multi-head latent attention stands beside attention that caches keys and values of every head or of groups of heads.
//
// Counted is one layer of one decode step: the cache it reads, and what it computes between the query and attention's
// output. Projections that are the same in every form (down-projections, output) are left out.
import { type LatentType, latentBytes } from '@baleen/kernels';

import { checkQueries, checkWhole, refuse } from './checks';
import type { HeadSizes } from './heads';

/** Attention over latents: one latent and one rotary key a token. */
export interface LatentShape extends HeadSizes {
  /**
   * `absorbed`: queries are multiplied by W_UK, every head reads the latents themselves, and what it gets is multiplied by
   * W_UV. `expanded`: keys and values of all heads are made from the cached latents in every step, written and read.
   */
  form: 'absorbed' | 'expanded';
  /** Width of the latent (d_c). */
  kvRank: number;
}

/** Attention over cached keys and values: multi-head where `kvHeads` is `heads`, grouped-query below, multi-query at 1. */
export interface GroupedShape {
  /** Keys and values are cached as they are used. */
  form: 'grouped';
  /** Query heads. */
  heads: number;
  /** Heads of keys and values, a divisor of `heads`. */
  kvHeads: number;
  /** Width of a head's query and key. */
  queryWidth: number;
  /** Width of a head's value. */
  valueWidth: number;
}

/** A form of attention, with its sizes. */
export type AttentionShape = LatentShape | GroupedShape;

/** One decode step. */
export interface DecodeSizes {
  /** Tokens of each sequence, the new ones included. */
  length: number;
  /** New tokens of each (default 1; more with speculative decoding). */
  queries?: number;
  /** Sequences that decode together (default 1). */
  sequences?: number;
  /** Type of the cache (default `bf16`). Expanded keys and values and all weights are BF16, or FP32 with `f32`. */
  cache?: LatentType;
}

/** Arithmetic and memory traffic. */
export interface Work {
  /** Floating-point operations, a multiplication and an addition counted as two. */
  flops: number;
  /** Bytes between memory and processor. */
  bytes: number;
}

/** What one layer of one decode step takes. */
export interface DecodeWork extends Work {
  /** Attention alone: scores and weighted sums, over the cache (or over keys and values made from it). */
  core: Work;
  /** Products with W_UK and W_UV, and what they write; none where keys and values are cached. */
  projections: Work;
}

/** A processor's peaks. */
export interface Peaks {
  /** Operations a second. */
  flopsPerSecond: number;
  /** Bytes a second between memory and processor. */
  bytesPerSecond: number;
}

/** Where work stands under a roofline. */
export interface Roofline {
  /** Operations a byte. */
  intensity: number;
  /** Operations a byte from which on arithmetic is the bound. */
  ridge: number;
  /** The least time it takes. */
  seconds: number;
  /** What bounds it. */
  bound: 'compute' | 'memory';
}

/**
 * Numbers cached a token in one layer.
 * @param attention - the form
 * @returns V3's latents: 512 + 64 = 576; as many heads of keys and values of 128: 32,768
 * @throws ERR_BALEEN_MLA_SIZES for sizes that cannot be
 */
export function cacheElements(attention: AttentionShape): number {
  checkForm(attention);
  if (attention.form === 'grouped')
    return attention.kvHeads * (attention.queryWidth + attention.valueWidth);
  return attention.kvRank + attention.ropeDim;
}

/**
 * Bytes cached a token in one layer.
 * @param attention - the form
 * @param cache - its type. Latents in `e4m3` take the published layout: codes, a scale for 128 of them, and the rotary key
 *   in BF16. Keys and values in `e4m3` take a byte a number, their scales being of whole tensors.
 * @returns V3's latents: 1152 in BF16, 656 in FP8
 * @throws ERR_BALEEN_MLA_SIZES for sizes that cannot be
 */
export function cacheBytes(attention: AttentionShape, cache: LatentType = 'bf16'): number {
  const elements = cacheElements(attention);
  if (attention.form === 'grouped') return elements * { f32: 4, bf16: 2, e4m3: 1 }[cache];
  return latentBytes(cache, { rank: attention.kvRank, rope: attention.ropeDim });
}

/**
 * What one layer of one decode step computes and moves. The least traffic is counted: each sequence's cache is read once
 * for all heads and new tokens, weights once for all sequences, and scores never leave the processor.
 * @param attention - the form
 * @param sizes - see {@link DecodeSizes}
 * @returns attention alone, the up-projections, and both
 * @throws ERR_BALEEN_MLA_SIZES for sizes that cannot be
 *
 * @example
 * ```ts
 * import { decodeWork, roofline } from '@baleen/mla';
 * const v3 = { heads: 128, nopeDim: 128, ropeDim: 64, valueDim: 128, kvRank: 512 };
 * const { core } = decodeWork({ form: 'absorbed', ...v3 }, { length: 4096 });
 * // One H800 by FlashMLA's figures: 865 TFLOP/s and 3.35 TB/s.
 * const { intensity, ridge, bound } = roofline(core, { flopsPerSecond: 865e12, bytesPerSecond: 3.35e12 });
 * console.log(`${intensity.toFixed(0)} of ${ridge.toFixed(0)}, ${bound}`); // => 228 of 258, memory
 * ```
 */
export function decodeWork(attention: AttentionShape, sizes: DecodeSizes): DecodeWork {
  const { length, queries = 1, sequences = 1, cache = 'bf16' } = sizes;
  checkWhole({ length, queries, sequences });
  checkQueries(queries, length);
  const { heads } = attention;
  const rows = sequences * queries;
  // Query i sees keys 0 … length − queries + i.
  const pairs = sequences * (queries * length - (queries * (queries - 1)) / 2);
  const number = cache === 'f32' ? 4 : 2;
  const cached = sequences * length * cacheBytes(attention, cache);
  const core = (queryWidth: number, valueWidth: number, keysAndValues: number): Work => ({
    flops: 2 * heads * pairs * (queryWidth + valueWidth),
    bytes: keysAndValues + number * rows * heads * (queryWidth + valueWidth),
  });
  if (attention.form === 'grouped') {
    const { queryWidth, valueWidth } = attention;
    return together(core(queryWidth, valueWidth, cached), { flops: 0, bytes: 0 });
  }
  const { kvRank, nopeDim, ropeDim, valueDim } = attention;
  const weights = heads * kvRank * (nopeDim + valueDim);
  if (attention.form === 'absorbed') {
    // A query goes in with W_UK's width and comes out with the latent's, and the way back through W_UV.
    const moved = rows * heads * (nopeDim + valueDim + 2 * kvRank);
    return together(core(kvRank + ropeDim, kvRank, cached), {
      flops: 2 * rows * weights,
      bytes: number * (weights + moved),
    });
  }
  const keys = sequences * length;
  // The rotary key is shared: it is read from the cache, not made for each head.
  const expanded = number * keys * heads * (nopeDim + valueDim);
  const rotary = number * keys * ropeDim;
  return together(core(nopeDim + ropeDim, valueDim, expanded + rotary), {
    flops: 2 * keys * weights,
    bytes: cached + number * weights + expanded,
  });
}

/**
 * Places work under a processor's roofline.
 * @param work - operations and bytes
 * @param peaks - the processor's
 * @returns the least time, and what bounds it
 * @throws ERR_BALEEN_MLA_SIZES for peaks that are no positive numbers
 */
export function roofline({ flops, bytes }: Work, peaks: Peaks): Roofline {
  for (const [path, value] of Object.entries(peaks))
    if (!(value > 0) || !Number.isFinite(value))
      refuse(
        path,
        `${path} (${value}) is not a positive number`,
        'give the peak in units a second',
      );
  const { flopsPerSecond, bytesPerSecond } = peaks;
  const [compute, memory] = [flops / flopsPerSecond, bytes / bytesPerSecond];
  return {
    intensity: flops / bytes,
    ridge: flopsPerSecond / bytesPerSecond,
    seconds: Math.max(compute, memory),
    bound: compute > memory ? 'compute' : 'memory',
  };
}

function together(core: Work, projections: Work): DecodeWork {
  return {
    flops: core.flops + projections.flops,
    bytes: core.bytes + projections.bytes,
    core,
    projections,
  };
}

function checkForm(attention: AttentionShape): void {
  if (attention.form === 'grouped') {
    const { heads, kvHeads, queryWidth, valueWidth } = attention;
    checkWhole({ heads, kvHeads, queryWidth, valueWidth });
    if (heads % kvHeads !== 0)
      refuse(
        'kvHeads',
        `kvHeads (${kvHeads}) does not divide heads (${heads})`,
        'give every head of keys and values as many query heads',
      );
    return;
  }
  const { heads, nopeDim, ropeDim, valueDim, kvRank } = attention;
  checkWhole({ heads, nopeDim, ropeDim, valueDim, kvRank });
}
