// Multi-head latent attention as a module (§2.1.1): keys and values come from one small latent a token, which is all that
// generation caches.
import {
  concatRows,
  type Linear,
  type LinearFactory,
  Module,
  Parameter,
  type Pools,
  type Region,
  recompute,
  rmsNorm,
  splitColumns,
  type Tape,
  type Tensor,
  type Value,
} from '@baleen/tensor';

import { absorbedAttention, upWeights } from './absorbed';
import { type AbsorbedPlan, absorbedPlan, absorbedTraining } from './absorbed-training';
import { refuseDocuments } from './checks';
import { cachedAttention, latentAttention } from './core';
import type { AttentionForm } from './form';
import type { HeadSizes } from './heads';
import { type CachedRows, DecodePass, type RowGroup } from './pass';
import type { Rotary } from './rotary';

/** What an attention layer is made of. */
export interface MlaSpec extends HeadSizes {
  /** Width of the stream. */
  hidden: number;
  /** Rank of the query's latent (d_c'), or null for queries straight from the stream. */
  queryRank: number | null;
  /** Rank of the latent of keys and values (d_c). */
  kvRank: number;
  /** ε of the norms on the latents. */
  normEps: number;
  /** Factor on the scores, see `softmaxScale`. */
  scale: number;
  /**
   * How whole sequences are attended to, with the same value and gradients (default `expanded`). `absorbed` makes no keys and
   * values and takes more arithmetic; its products with W_UK and W_UV are in BF16 where the factory's are in FP8. It keeps no
   * documents apart.
   */
  form?: AttentionForm;
}

/** Attention with a latent key-value cache. */
export class LatentAttention extends Module {
  private readonly down: Linear;
  private readonly queryUp: Linear<'queryUp'> | null;
  private readonly queryNorm: Parameter | null;
  private readonly kvNorm: Parameter;
  private readonly kvUp: Linear<'kvUp'>;
  private readonly output: Linear<'output'>;
  private readonly plans = new Map<string, AbsorbedPlan>();

  /**
   * @param pools - where weights live
   * @param spec - see {@link MlaSpec}
   * @param factory - makes the linear layers
   * @param rotary - position tables, shared by layers
   */
  constructor(
    private readonly pools: Pools,
    /** What it is made of. */
    readonly spec: MlaSpec,
    private readonly factory: LinearFactory,
    /** Position tables. */
    readonly rotary: Rotary,
  ) {
    super();
    const { hidden, heads, nopeDim, ropeDim, valueDim, queryRank, kvRank } = spec;
    const queryWidth = heads * (nopeDim + ropeDim);
    const kvDown = kvRank + ropeDim;
    const norm = (width: number): Parameter => new Parameter(pools, [width], { init: 'ones' });
    const downs: Record<string, number> =
      queryRank === null ? { query: queryWidth, kvDown } : { queryDown: queryRank, kvDown };
    this.down = this.child('', factory.linear(pools, { in: hidden, outs: downs }));
    this.queryNorm =
      queryRank === null ? null : this.parameter('queryNorm.weight', norm(queryRank));
    this.queryUp =
      queryRank === null
        ? null
        : this.child('', factory.linear(pools, { in: queryRank, outs: { queryUp: queryWidth } }));
    this.kvNorm = this.parameter('kvNorm.weight', norm(kvRank));
    this.kvUp = this.child(
      '',
      factory.linear(pools, { in: kvRank, outs: { kvUp: heads * (nopeDim + valueDim) } }),
    );
    this.output = this.child(
      '',
      factory.linear(pools, {
        in: heads * valueDim,
        outs: { output: hidden },
        powerOfTwo: true,
      }),
    );
  }

  /**
   * Norms the stream and puts it into the form the first products take; call it in a region that recomputes both.
   * @param tape - the tape
   * @param x - [rows, hidden]
   * @param weight - the norm's, [hidden]
   * @param epsilon - the norm's ε
   * @returns the form
   */
  prepareNormed(tape: Tape, x: Tensor, weight: Parameter, epsilon: number): Value {
    return this.down.prepareNormed(tape, x, weight, epsilon);
  }

  /**
   * Attention over whole sequences.
   * @param tape - the tape
   * @param x - [batch · length, hidden], normed and prepared
   * @param batch - sequences
   * @param documents - borders of documents that see only themselves, from 0 to batch · length, I32; sequences end with
   *   one. Default: every sequence is one
   * @returns [batch · length, hidden]
   */
  forward(tape: Tape, x: Value, batch: number, documents?: Tensor): Tensor {
    const length = (x.shape[0] ?? 0) / batch;
    const { first, latent, kRope } = this.project(tape, x);
    // The up-projections and the norms before them are rebuilt in backward (§3.2.3).
    const [q] = this.queryUp
      ? recompute(tape, [first], () => [this.queries(tape, first)], 'upProjections')
      : [first];
    const form = this.factory.kept?.attentionOutput ?? 'fp32';
    let out: Tensor;
    if (this.spec.form === 'absorbed') {
      if (documents) refuseDocuments();
      const norm = (): [Tensor] => [rmsNorm(tape, latent, this.kvNorm, this.spec.normEps)];
      const [normed] = recompute(tape, [latent], norm, 'norms');
      const { kvRank } = this.spec;
      const sizes = { ...this.coreSizes(), kvRank, batch, length };
      const input = { q, latent: normed, kRope };
      const { kvUp } = this.kvUp.weights;
      const plan = this.planOf(batch, length);
      out = absorbedTraining(tape, input, kvUp, this.pools, this.rotary, plan, sizes, form);
    } else {
      const up = (): [Tensor] => [
        this.expand(tape, this.kvUp.prepareNormed(tape, latent, this.kvNorm, this.spec.normEps)),
      ];
      const [kv] = recompute(tape, [latent], up, 'upProjections');
      const lengths = { batch, queries: length, keys: length, ...(documents && { documents }) };
      const sizes = { ...this.coreSizes(), ...lengths };
      out = latentAttention(tape, q, kv, kRope, this.rotary, sizes, form);
    }
    // One form is kept for both readers: what a product takes in fewer bits is made from it again.
    const [low] =
      form === 'fp32' || this.factory.precision === 'fp32'
        ? [out]
        : recompute(tape, [out], () => [this.output.prepare(tape, out)], 'forms');
    return this.output.forward(tape, low).output;
  }

  /**
   * Begins a pass over new tokens of sequences, for this layer and those of the same shape: see {@link DecodePass}.
   * @param region - where its tables live, until it is released
   * @param list - whose tokens these are, in order
   * @returns the pass
   */
  begin(region: Region, list: readonly CachedRows[]): DecodePass {
    return new DecodePass(region, this, list);
  }

  /**
   * Attention of new tokens over everything cached, without gradients: absorbed or expanded, as the pass has it. Each
   * sequence has its own tokens and cache, and what it gets does not depend on those beside it.
   * @param tape - a tape that does not record
   * @param x - [new tokens of all sequences, hidden], normed and prepared
   * @param pass - whose tokens these are; their caches get the new latents
   * @param layer - which of the pool's layers this is
   * @returns [new tokens, hidden]
   */
  decode(tape: Tape, x: Value, pass: DecodePass, layer = 0): Tensor {
    const { kernels } = tape;
    const { kvRank: rank, ropeDim: rope } = this.spec;
    const { first, latent, kRope } = this.project(tape, x);
    const normed = rmsNorm(tape, latent, this.kvNorm, this.spec.normEps);
    const q = this.queryUp ? this.queries(tape, first) : first;
    const { pool, rows: tokens, slots, cos, sin } = pass;
    const rotated = tape.empty(kRope.shape);
    const strides = { outStride: rope, outHeadStride: 0, xStride: rope, xHeadStride: 0 };
    const places = { rows: tokens, sequence: tokens, heads: 1, width: rope, ...strides };
    kernels.rope(rotated, kRope, cos, sin, places);
    const sizes = { tokens, capacity: pool.pages * pool.pageSize, rank, rope };
    kernels.writeLatents(pool.layer(layer), normed, rotated, slots, sizes);
    const outs = pass.groups.map((group) => this.attendGroup(tape, q, pass, group, layer));
    return this.output.forward(tape, concatRows(tape, outs)).output;
  }

  /** Attention of rows that are attended to together. */
  private attendGroup(
    tape: Tape,
    q: Tensor,
    pass: DecodePass,
    group: RowGroup,
    layer: number,
  ): Tensor {
    const own = q.rows(group.start, group.rows);
    const sizes = this.coreSizes();
    if (group.form === 'absorbed') {
      const weights = upWeights(this.pools, this.kvUp.weights.kvUp, this.spec, sizes.precision);
      return absorbedAttention(tape, own, weights, pass, group, layer, this.spec);
    }
    const { kvRank: rank, ropeDim: rope } = this.spec;
    const { pool } = pass;
    const keys = group.slots.size;
    const latents = tape.empty([keys, rank]);
    const rotated = tape.empty([keys, rope]);
    const read = { tokens: keys, capacity: pool.pages * pool.pageSize, rank, rope };
    tape.kernels.readLatents(latents, rotated, pool.layer(layer), group.slots, read);
    const core = { ...sizes, batch: 1, queries: group.rows, keys };
    return cachedAttention(tape, own, this.expand(tape, latents), rotated, this.rotary, core);
  }

  /** What the absorbed form needs to know of whole sequences, made once for each of their sizes. */
  private planOf(batch: number, length: number): AbsorbedPlan {
    const key = `${batch} × ${length}`;
    const known = this.plans.get(key);
    if (known) return known;
    const plan = absorbedPlan(this.pools, { heads: this.spec.heads, batch, length });
    this.plans.set(key, plan);
    return plan;
  }

  /** Down-projections: the query's latent (or the query), the latent of keys and values, the shared rotary key. */
  private project(tape: Tape, x: Value): { first: Tensor; latent: Tensor; kRope: Tensor } {
    const { kvRank, ropeDim } = this.spec;
    const outs = this.down.forward(tape, x);
    const [latent, kRope] = splitColumns(tape, outs.kvDown, [kvRank, ropeDim]) as [Tensor, Tensor];
    return { first: this.queryUp ? outs.queryDown : outs.query, latent, kRope };
  }

  private queries(tape: Tape, latent: Tensor): Tensor {
    if (!this.queryUp || !this.queryNorm) return latent;
    const x = this.queryUp.prepareNormed(tape, latent, this.queryNorm, this.spec.normEps);
    return this.queryUp.forward(tape, x).queryUp;
  }

  private expand(tape: Tape, normedLatent: Value): Tensor {
    return this.kvUp.forward(tape, normedLatent).kvUp;
  }

  private coreSizes(): HeadSizes & { scale: number; precision: 'fp32' | 'bf16' } {
    // The attention operator itself stays out of FP8 (§3.3.1).
    return { ...this.spec, precision: this.factory.precision === 'fp32' ? 'fp32' : 'bf16' };
  }
}
