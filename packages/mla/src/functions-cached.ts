// Cached latents on typed arrays, for use without tensors: the FP8 layout of a token both ways, and attention in the absorbed
// form over pages (§2.1.1).
import { type Kernels, latentBytes, loadKernels, viewOf } from '@baleen/kernels';

import { checkLength, checkWhole } from './checks';

/** Widths of a cached token. */
export interface LatentRowWidths {
  /** Width of the latent (d_c): 512 in V3. */
  rank: number;
  /** Width of the rotary key (d_h^R): 64 in V3. */
  rope: number;
}

/** Cached tokens as numbers. */
export interface LatentRows {
  /** Normed latents [tokens, rank]. */
  latent: Float32Array;
  /** Rotary keys, rotated [tokens, rope]. */
  rotary: Float32Array;
}

/**
 * Encodes tokens as an FP8 cache holds them: rank E4M3 codes, then ⌈rank / 128⌉ FP32 scales, powers of two, one for 128
 * codes, then the rotary key in BF16; little-endian and without gaps. For V3's 512 and 64 that is the layout of 656 bytes
 * that FlashMLA reads.
 * @param rows - the tokens
 * @param widths - see {@link LatentRowWidths}
 * @param options - kernels (default: `loadKernels()`), and where the bytes go
 * @returns `latentBytes('e4m3', widths)` bytes a token
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { decodeLatents, encodeLatents } from '@baleen/mla';
 * const widths = { rank: 512, rope: 64 };
 * const token = { latent: new Float32Array(512).fill(3), rotary: new Float32Array(64).fill(0.5) };
 * const bytes = encodeLatents(token, widths);
 * const { latent, rotary } = decodeLatents(bytes, widths);
 * console.log(bytes.length, latent[0], rotary[0]); // => 656 3 0.5
 * ```
 */
export function encodeLatents(
  { latent, rotary }: LatentRows,
  widths: LatentRowWidths,
  options: { kernels?: Kernels; out?: Uint8Array } = {},
): Uint8Array {
  const { rank, rope } = widths;
  checkWhole({ rank, rope });
  const tokens = Math.floor(latent.length / rank);
  checkLength('latent', latent, { tokens, rank });
  checkLength('rotary', rotary, { tokens, rope });
  const bytes = latentBytes('e4m3', widths);
  const out = options.out ?? new Uint8Array(tokens * bytes);
  checkLength('out', out, { tokens, 'bytes a token': bytes });
  const sizes = { rank, rope, tokens, capacity: tokens };
  const kernels = options.kernels ?? loadKernels();
  kernels.writeLatents(viewOf(out), viewOf(latent), viewOf(rotary), ascending(tokens), sizes);
  return out;
}

/**
 * Decodes tokens of an FP8 cache.
 * @param bytes - tokens in the layout of {@link encodeLatents}
 * @param widths - see {@link LatentRowWidths}
 * @param options - kernels (default: `loadKernels()`), and where the numbers go
 * @returns latents and rotary keys
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree
 */
export function decodeLatents(
  bytes: Uint8Array,
  widths: LatentRowWidths,
  options: { kernels?: Kernels; out?: LatentRows } = {},
): LatentRows {
  const { rank, rope } = widths;
  checkWhole({ rank, rope });
  const each = latentBytes('e4m3', widths);
  const tokens = Math.floor(bytes.length / each);
  checkLength('bytes', bytes, { tokens, 'bytes a token': each });
  const out = options.out ?? {
    latent: new Float32Array(tokens * rank),
    rotary: new Float32Array(tokens * rope),
  };
  checkLength('out.latent', out.latent, { tokens, rank });
  checkLength('out.rotary', out.rotary, { tokens, rope });
  const sizes = { rank, rope, tokens, capacity: tokens };
  const kernels = options.kernels ?? loadKernels();
  kernels.readLatents(
    viewOf(out.latent),
    viewOf(out.rotary),
    viewOf(bytes),
    ascending(tokens),
    sizes,
  );
  return out;
}

/** Sizes of {@link attendPages}. */
export interface AttendPagesSizes extends LatentRowWidths {
  /** Heads. */
  heads: number;
  /** New tokens of each sequence, its last ones (default 1). */
  queries?: number;
  /** Tokens a page (default 64). */
  pageSize?: number;
  /** Factor on the scores before the softmax: `softmaxScale` of the width of full keys, which the absorbed ones do not tell. */
  scale: number;
}

/** What {@link attendPages} looks at. */
export interface PagedInput {
  /** Queries, multiplied by W_UK, with their rotated rotary parts last [sequences, queries, heads, rank + rope]. */
  q: Float32Array;
  /** A pool of pages [pages, pageSize, row]: FP32, BF16 bit patterns, or the bytes of {@link encodeLatents}. */
  pages: Float32Array | Uint16Array | Uint8Array;
  /** Pages of each sequence, in order [sequences, most pages of one]; what a sequence does not need is not read. */
  table: Int32Array;
  /** Tokens of each sequence, the queries' included [sequences]. */
  lengths: Int32Array;
}

/** What {@link attendPages} gives. */
export interface AttendedPages {
  /** Σ p · latent [sequences, queries, heads, rank]: times W_UV it is attention's output. Zero where nothing is seen. */
  output: Float32Array;
  /** log Σ exp(scale · q·row) over the tokens seen [sequences, heads, queries]; +∞ where there are none. */
  lse: Float32Array;
}

/**
 * Attention in the absorbed form over cached latents: every head reads the same row of a token. With BF16 and FP8 pages the
 * products take BF16.
 * @param input - see {@link PagedInput}
 * @param sizes - see {@link AttendPagesSizes}
 * @param options - kernels (default: `loadKernels()`), and where the result goes
 * @returns output in latents, and log-sum-exp
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree, ERR_BALEEN_MLA_CACHE for a length that its pages do not
 *   hold, or a page that the pool does not have
 *
 * @example
 * ```ts
 * import { attendPages } from '@baleen/mla';
 * const pages = Float32Array.of(0, 0, 7, 0, 1, 0, 3, 0); // page 1 holds latents 1 and 3, rotary keys 0
 * const input = { q: new Float32Array(2), pages, table: Int32Array.of(1), lengths: Int32Array.of(2) };
 * const { output } = attendPages(input, { heads: 1, rank: 1, rope: 1, pageSize: 2, scale: 1 });
 * console.log(output[0]); // => 2
 * ```
 */
export function attendPages(
  { q, pages, table, lengths }: PagedInput,
  sizes: AttendPagesSizes,
  options: { kernels?: Kernels; out?: AttendedPages } = {},
): AttendedPages {
  const { heads, rank, rope, queries = 1, pageSize = 64, scale } = sizes;
  const sequences = lengths.length;
  checkWhole({ heads, rank, rope, queries, pageSize });
  checkLength('q', q, { sequences, queries, heads, 'rank + rope': rank + rope });
  const row = pages instanceof Uint8Array ? latentBytes('e4m3', { rank, rope }) : rank + rope;
  const count = Math.floor(pages.length / (pageSize * row));
  checkLength('pages', pages, { pages: count, pageSize, row });
  const tableWidth = sequences === 0 ? 0 : Math.floor(table.length / sequences);
  checkLength('table', table, { sequences, 'pages of a sequence': tableWidth });
  checkTable(table, lengths, tableWidth, { pages: count, pageSize });
  const out = options.out ?? {
    output: new Float32Array(sequences * queries * heads * rank),
    lse: new Float32Array(sequences * heads * queries),
  };
  checkLength('out.output', out.output, { sequences, queries, heads, rank });
  checkLength('out.lse', out.lse, { sequences, heads, queries });
  (options.kernels ?? loadKernels()).latentAttention(
    viewOf(out.output),
    viewOf(out.lse),
    viewOf(q),
    viewOf(pages),
    viewOf(table),
    viewOf(lengths),
    { sequences, queries, heads, rank, rope, pages: count, pageSize, tableWidth, scale },
  );
  return out;
}

/** Refuses lengths beyond a sequence's pages, and pages beyond the pool: kernels would read memory that is not theirs. */
function checkTable(
  table: Int32Array,
  lengths: Int32Array,
  width: number,
  { pages, pageSize }: { pages: number; pageSize: number },
): void {
  const code = 'ERR_BALEEN_MLA_CACHE';
  lengths.forEach((length, s) => {
    if (length < 0 || length > width * pageSize)
      throw Object.assign(
        new Error(`lengths[${s}] (${length}) is not from 0 to ${width * pageSize}`),
        { code, path: `lengths[${s}]`, hint: 'name as many pages as its tokens fill' },
      );
    for (let i = s * width; i < s * width + Math.ceil(length / pageSize); i += 1)
      if (table[i] < 0 || table[i] >= pages)
        throw Object.assign(
          new Error(`table[${i}] (${table[i]}) is none of the pool's ${pages} pages`),
          { code, path: `table[${i}]`, hint: `name a page from 0 to ${pages - 1}` },
        );
  });
}

function ascending(tokens: number): ReturnType<typeof viewOf> {
  return viewOf(Int32Array.from({ length: tokens }, (_, token) => token));
}
