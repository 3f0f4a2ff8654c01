// Attention on typed arrays, for use without tensors: causal attention of full queries, keys and values, and MLA's core
// over up-projected latents, each with its gradients (§2.1.1, eq. 1–11).
import { type AttentionSizes, type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import {
  checkDocuments,
  checkLength,
  checkPairs,
  checkPositions,
  checkPrecision,
  checkQueries,
  checkWhole,
} from './checks';
import { assemble, attentionSizes, type CoreSizes, type HeadSizes, takeApart } from './heads';
import type { RotaryTables } from './rotary';

/** Sizes of causal attention. */
export interface AttendSizes {
  /** Heads. */
  heads: number;
  /** Width of a head's query and key. */
  queryWidth: number;
  /** Width of a head's value and output. */
  valueWidth: number;
  /** Query rows of each sequence. */
  queries: number;
  /** Key rows of each sequence, of which the queries are the last (default: as many as queries). */
  keys?: number;
  /** Sequences (default 1). */
  batch?: number;
  /** Factor on the scores before the softmax (default 1/√queryWidth). */
  scale?: number;
  /**
   * Documents packed into one sequence, each of which sees only itself: the first row of every one, ascending from 0, and
   * then the number of rows (default: one document). Each gets what it would get alone: of `attend` to the bit, of
   * `attendLatents` up to the rounding of rotary positions, which go on through the sequence.
   */
  documents?: Int32Array | undefined;
}

/** Full queries, keys and values: all `Float32Array`, or all BF16 bit patterns in `Uint16Array`. */
export interface FullHeads {
  /** [batch · queries, heads · queryWidth]. */
  q: Float32Array | Uint16Array;
  /** [batch · keys, heads · queryWidth]. */
  k: Float32Array | Uint16Array;
  /** [batch · keys, heads · valueWidth]. */
  v: Float32Array | Uint16Array;
}

/** What attention gives. */
export interface Attended {
  /** [batch · queries, heads · valueWidth]. */
  output: Float32Array;
  /** log Σ exp(scale · q·k) over the keys seen [batch, heads, queries]; backward needs it. */
  lse: Float32Array;
}

/** Gradients of {@link attend}. */
export interface AttendGradients {
  /** [batch · queries, heads · queryWidth]. */
  dq: Float32Array;
  /** [batch · keys, heads · queryWidth]. */
  dk: Float32Array;
  /** [batch · keys, heads · valueWidth]. */
  dv: Float32Array;
}

/** Sizes of MLA's core: `keys` defaults to `queries`, `batch` to 1, `scale` to 1/√(nope + rope), `precision` to `fp32`. */
export interface AttendLatentsSizes
  extends HeadSizes,
    Pick<CoreSizes, 'queries'>,
    Partial<Pick<CoreSizes, 'keys' | 'batch' | 'scale' | 'precision'>>,
    Pick<AttendSizes, 'documents'> {}

/** What MLA's core gives, with the heads it was computed from: rotated, and in the products' precision. */
export interface AttendedLatents extends Attended, FullHeads {}

/** Gradients of {@link attendLatents}: `dk` and `dv` are those of the full keys and values, on the way to the latents'. */
export interface AttendLatentsGradients extends AttendGradients {
  /** [batch · keys, heads · (nope + v)]. */
  dkv: Float32Array;
  /** [batch · keys, rope], before the rotation, summed over heads. */
  dkRope: Float32Array;
}

/**
 * Causal attention whose values may be of another width than queries and keys: query i of a sequence sees its keys
 * 0 … keys − queries + i.
 * @param input - queries, keys and values; BF16 ones round probabilities to BF16 as well
 * @param sizes - see {@link AttendSizes}
 * @param options - kernels (default: `loadKernels()`), and where the result goes
 * @returns output and log-sum-exp
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { attend } from '@baleen/mla';
 * const [q, k, v] = [Float32Array.of(1, 2), Float32Array.of(0, 0), Float32Array.of(3, 5)];
 * const { output } = attend({ q, k, v }, { heads: 1, queryWidth: 1, valueWidth: 1, queries: 2 });
 * console.log([...output].join(' ')); // => 3 4
 * ```
 */
export function attend(
  input: FullHeads,
  sizes: AttendSizes,
  options: { kernels?: Kernels; out?: Attended } = {},
): Attended {
  const dims = fullSizes(sizes);
  checkHeads(input, dims);
  const { batch, queries, heads, valueWidth } = dims;
  const out = options.out ?? {
    output: new Float32Array(batch * queries * heads * valueWidth),
    lse: new Float32Array(batch * heads * queries),
  };
  checkAttended(out, dims, 'out.');
  const { q, k, v } = input;
  (options.kernels ?? loadKernels()).attention(
    viewOf(out.output),
    viewOf(out.lse),
    viewOf(q),
    viewOf(k),
    viewOf(v),
    dims,
  );
  return out;
}

/**
 * Gradients of {@link attend}.
 * @param dout - gradient of the output [batch · queries, heads · valueWidth]
 * @param forward - what `attend` was given, and what it returned
 * @param sizes - the same
 * @param options - kernels (default: `loadKernels()`), and where the gradients go
 * @returns gradients of queries, keys and values, FP32
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree
 */
export function attendBackward(
  dout: Float32Array,
  forward: FullHeads & Attended,
  sizes: AttendSizes,
  options: { kernels?: Kernels; out?: AttendGradients } = {},
): AttendGradients {
  const dims = fullSizes(sizes);
  checkHeads(forward, dims);
  checkAttended(forward, dims, '');
  const { batch, queries, heads, valueWidth } = dims;
  checkLength('dout', dout, { batch, queries, heads, valueWidth });
  const { q, k, v, output, lse } = forward;
  const out = options.out ?? {
    dq: new Float32Array(q.length),
    dk: new Float32Array(k.length),
    dv: new Float32Array(v.length),
  };
  checkHeads({ q: out.dq, k: out.dk, v: out.dv }, dims, 'out.d');
  (options.kernels ?? loadKernels()).attentionBackward(
    viewOf(out.dq),
    viewOf(out.dk),
    viewOf(out.dv),
    viewOf(dout),
    viewOf(q),
    viewOf(k),
    viewOf(v),
    viewOf(output),
    viewOf(lse),
    dims,
  );
  return out;
}

/**
 * MLA's core: keys and values come from up-projected latents, the rotary key is shared by all heads, and the rotary parts
 * of queries and keys are turned to their positions. A sequence's keys stand at positions 0 … keys − 1.
 * @param input - `q` [batch · queries, heads · (nope + rope)], rotary part last in each head; `kv` [batch · keys,
 *   heads · (nope + v)]; `kRope` [batch · keys, rope], not yet rotated
 * @param tables - of at least `keys` positions and width `ropeDim`, from `rotaryTables`
 * @param sizes - see {@link AttendLatentsSizes}; `softmaxScale` gives YaRN's scale
 * @param options - kernels (default: `loadKernels()`), and where the result goes
 * @returns output [batch · queries, heads · v], log-sum-exp, and the full queries, keys and values
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree, ERR_BALEEN_MLA_SEQUENCE where the tables are too short
 */
export function attendLatents(
  input: { q: Float32Array; kv: Float32Array; kRope: Float32Array },
  tables: RotaryTables,
  sizes: AttendLatentsSizes,
  options: { kernels?: Kernels; out?: AttendedLatents } = {},
): AttendedLatents {
  const core = coreSizes(sizes, tables);
  checkLatents(input, core);
  const dims = attentionSizes(core);
  const out = options.out ?? emptyAttended(dims, core.precision);
  checkHeads(out, dims, 'out.');
  for (const name of ['q', 'k', 'v'] as const)
    checkPrecision(`out.${name}`, out[name], core.precision);
  const kernels = options.kernels ?? loadKernels();
  const full = { q: viewOf(out.q), k: viewOf(out.k), v: viewOf(out.v) };
  const latents = { q: viewOf(input.q), kv: viewOf(input.kv), kRope: viewOf(input.kRope) };
  assemble(kernels, full, latents, tableViews(tables), core);
  attend(out, { ...dims, documents: sizes.documents }, { kernels, out });
  return out;
}

/**
 * Gradients of {@link attendLatents}.
 * @param dout - gradient of the output [batch · queries, heads · v]
 * @param attended - what `attendLatents` returned
 * @param tables - the same
 * @param sizes - the same
 * @param options - kernels (default: `loadKernels()`), and where the gradients go
 * @returns gradients of queries, up-projected latents and the shared rotary key, FP32
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree, ERR_BALEEN_MLA_SEQUENCE where the tables are too short
 */
export function attendLatentsBackward(
  dout: Float32Array,
  attended: AttendedLatents,
  tables: RotaryTables,
  sizes: AttendLatentsSizes,
  options: { kernels?: Kernels; out?: AttendLatentsGradients } = {},
): AttendLatentsGradients {
  const core = coreSizes(sizes, tables);
  const { batch, keys, heads, nopeDim, ropeDim, valueDim } = core;
  const out = options.out ?? {
    dq: new Float32Array(attended.q.length),
    dk: new Float32Array(attended.k.length),
    dv: new Float32Array(attended.v.length),
    dkv: new Float32Array(batch * keys * heads * (nopeDim + valueDim)),
    dkRope: new Float32Array(batch * keys * ropeDim),
  };
  checkLatents({ q: out.dq, kv: out.dkv, kRope: out.dkRope }, core, 'out.d');
  const kernels = options.kernels ?? loadKernels();
  const dims = { ...attentionSizes(core), documents: sizes.documents };
  attendBackward(dout, attended, dims, { kernels, out });
  const grads = { q: viewOf(out.dq), kv: viewOf(out.dkv), kRope: viewOf(out.dkRope) };
  takeApart(kernels, grads, { k: viewOf(out.dk), v: viewOf(out.dv) }, tableViews(tables), core);
  return out;
}

function tableViews({ cos, sin }: RotaryTables): Parameters<typeof assemble>[3] {
  return { cos: viewOf(cos), sin: viewOf(sin) };
}

/** Sizes with their defaults, once they make sense. */
function fullSizes(sizes: AttendSizes): AttentionSizes {
  const { heads, queryWidth, valueWidth, queries, keys = queries, batch = 1 } = sizes;
  const { scale = 1 / Math.sqrt(queryWidth), documents } = sizes;
  checkWhole({ heads, queryWidth, valueWidth, queries, keys, batch });
  checkQueries(queries, keys);
  checkDocuments(documents, { batch, queries, keys });
  const dims = { batch, queries, keys, heads, queryWidth, valueWidth, scale };
  return documents ? { ...dims, documents: viewOf(documents) } : dims;
}

/** The same for MLA's heads; tables must reach as far as the keys. */
function coreSizes(sizes: AttendLatentsSizes, { cos, sin }: RotaryTables): CoreSizes {
  const { heads, nopeDim, ropeDim, valueDim, queries, keys = queries, batch = 1 } = sizes;
  const { scale = 1 / Math.sqrt(nopeDim + ropeDim), precision = 'fp32' } = sizes;
  checkWhole({ heads, nopeDim, ropeDim, valueDim, queries, keys, batch });
  checkQueries(queries, keys);
  checkPairs('ropeDim', ropeDim);
  checkPositions(keys, Math.floor((2 * Math.min(cos.length, sin.length)) / ropeDim));
  return { batch, queries, keys, heads, nopeDim, ropeDim, valueDim, scale, precision };
}

function checkHeads({ q, k, v }: FullHeads, sizes: AttentionSizes, prefix = ''): void {
  const { batch, queries, keys, heads, queryWidth, valueWidth } = sizes;
  checkLength(`${prefix}q`, q, { batch, queries, heads, queryWidth });
  checkLength(`${prefix}k`, k, { batch, keys, heads, queryWidth });
  checkLength(`${prefix}v`, v, { batch, keys, heads, valueWidth });
}

function checkAttended({ output, lse }: Attended, sizes: AttentionSizes, prefix: string): void {
  const { batch, queries, heads, valueWidth } = sizes;
  checkLength(`${prefix}output`, output, { batch, queries, heads, valueWidth });
  checkLength(`${prefix}lse`, lse, { batch, heads, queries });
}

function checkLatents(
  { q, kv, kRope }: { q: Float32Array; kv: Float32Array; kRope: Float32Array },
  sizes: CoreSizes,
  prefix = '',
): void {
  const { batch, queries, keys, heads, nopeDim, ropeDim, valueDim } = sizes;
  checkLength(`${prefix}q`, q, { batch, queries, heads, 'nopeDim + ropeDim': nopeDim + ropeDim });
  const kvWidth = { 'nopeDim + valueDim': nopeDim + valueDim };
  checkLength(`${prefix}kv`, kv, { batch, keys, heads, ...kvWidth });
  checkLength(`${prefix}kRope`, kRope, { batch, keys, ropeDim });
}

/** Room for a result: full heads in the products' precision, the rest FP32. */
function emptyAttended(dims: AttentionSizes, precision: CoreSizes['precision']): AttendedLatents {
  const { batch, queries, keys, heads, queryWidth, valueWidth } = dims;
  const Heads = precision === 'bf16' ? Uint16Array : Float32Array;
  return {
    q: new Heads(batch * queries * heads * queryWidth),
    k: new Heads(batch * keys * heads * queryWidth),
    v: new Heads(batch * keys * heads * valueWidth),
    output: new Float32Array(batch * queries * heads * valueWidth),
    lse: new Float32Array(batch * heads * queries),
  };
}
