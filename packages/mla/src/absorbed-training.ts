// The absorbed form with gradients: value and gradients are those of the expanded form (core.ts), made without keys and values
// of every head. Scores are W_UKᵀ q · c + q_R · k_R and the output W_UV Σ p c, so W_UK and W_UV get their gradients from
// queries and outputs rather than from tokens' keys and values.
//
// For whole sequences it computes more: 2 · rank + rope for a pair of query and key where the expanded form takes
// nope + rope + v. What it needs no room for are keys and values.
//
// Legend: T rows of all sequences, H heads; see absorbed.ts for the two orders of a row's heads.
import type { View } from '@baleen/kernels';
import {
  type KeptForm,
  keepAs,
  type Parameter,
  type Pools,
  type Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';

import { moveHeads, type Places, upWeights } from './absorbed';
import { checkPositions } from './checks';
import type { CoreSizes } from './heads';
import type { Rotary } from './rotary';

/** Sizes of whole sequences in the absorbed form. */
export interface AbsorbedTrainingSizes extends Omit<CoreSizes, 'queries' | 'keys' | 'documents'> {
  /** Rows of each sequence. */
  length: number;
  /** Width of the latent. */
  kvRank: number;
}

/** What the kernels are told of sequences: each is a page of the latents. */
export interface AbsorbedPlan {
  /** First row of every head in head-by-head order, and their number [H + 1]. */
  offsets: Tensor;
  /** The page of each sequence [batch]. */
  table: Tensor;
  /** Tokens of each [batch]. */
  lengths: Tensor;
}

/**
 * Lays sequences out as pages.
 * @param pools - where the plan lives
 * @param sizes - heads, sequences and their length
 * @returns the plan, good for every pass of these sizes
 */
export function absorbedPlan(
  pools: Pools,
  { heads, batch, length }: Pick<AbsorbedTrainingSizes, 'heads' | 'batch' | 'length'>,
): AbsorbedPlan {
  const integers = (count: number, value: (i: number) => number): Tensor =>
    tensorFrom(
      pools.caches,
      [count],
      Int32Array.from({ length: count }, (_, i) => value(i)),
    );
  return {
    offsets: integers(heads + 1, (h) => h * batch * length),
    table: integers(batch, (b) => b),
    lengths: integers(batch, () => length),
  };
}

/**
 * Attention of whole sequences in the absorbed form.
 * @param tape - the tape
 * @param input - `q` [T, H · (nope + rope)]; `latent` [T, rank], normed; `kRope` [T, rope]; neither rotated
 * @param kvUp - W_UK and W_UV, [H · (nope + v), rank], whose gradient is added to
 * @param pools - where forms of the weight live
 * @param rotary - tables
 * @param plan - of these sizes
 * @param sizes - see {@link AbsorbedTrainingSizes}
 * @param form - what the output is kept in for backward
 * @returns [T, H · v]
 * @throws ERR_BALEEN_MLA_SEQUENCE where the tables have fewer positions than a sequence
 */
export function absorbedTraining(
  tape: Tape,
  { q, latent, kRope }: { q: Tensor; latent: Tensor; kRope: Tensor },
  kvUp: Parameter,
  pools: Pools,
  rotary: Rotary,
  plan: AbsorbedPlan,
  sizes: AbsorbedTrainingSizes,
  form: KeptForm = 'fp32',
): Tensor {
  const { kernels } = tape;
  const { batch, length, heads, nopeDim, ropeDim, valueDim, kvRank: rank, scale } = sizes;
  checkPositions(length, rotary.positions);
  const rows = batch * length;
  const [narrow, wide] = [nopeDim + ropeDim, rank + ropeDim];
  const dtype = sizes.precision === 'bf16' ? 'bf16' : 'f32';
  const counts = { rows, heads };
  const products = { groups: heads, rows: heads * rows };
  const { offsets, table, lengths } = plan;
  const byHead = (width: number): Places => ({ row: width, head: rows * width, offset: 0 });
  const byToken = (width: number): Places => ({ row: heads * width, head: width, offset: 0 });
  const weights = () => upWeights(pools, kvUp, sizes, sizes.precision);
  /** The first `width` numbers of every head, head by head, as operands of products. */
  const operand = (x: View, head: number, width: number): Tensor => {
    const out = tape.empty([heads * rows, width], dtype);
    moveHeads(kernels, out, byHead(width), x, byToken(head), { ...counts, width });
    return out;
  };
  /** The way back, into the first numbers of every head. */
  const restore = (out: View, head: number, x: Tensor, width: number): void => {
    moveHeads(kernels, out, byToken(head), x, byHead(width), { ...counts, width });
  };
  const turned = { width: ropeDim, sequence: length, rows };
  const ofQuery = { heads, outHeadStride: wide, xHeadStride: narrow };
  /** Absorbed queries and rows of latents with their rotary keys, for as long as the scope they are made in. */
  const full = (): { queries: Tensor; keys: Tensor } => {
    const queries = tape.empty([rows, heads * wide], dtype);
    const keys = tape.empty([rows, wide], dtype);
    tape.scoped(() => {
      const absorbed = tape.empty([heads * rows, rank]);
      const own = operand(q, narrow, nopeDim);
      const { keyUp } = weights();
      kernels.groupedGemm(absorbed, own, keyUp, offsets, { ...products, n: rank, k: nopeDim });
      restore(queries, wide, absorbed, rank);
      return [];
    });
    kernels.rope(queries, q, rotary.cos, rotary.sin, {
      ...turned,
      ...ofQuery,
      outStride: heads * wide,
      outOffset: rank,
      xStride: heads * narrow,
      xOffset: nopeDim,
    });
    kernels.copyStrided(keys, latent, { rows, cols: rank, outStride: wide, xStride: rank });
    kernels.rope(keys, kRope, rotary.cos, rotary.sin, {
      ...turned,
      heads: 1,
      outHeadStride: 0,
      xHeadStride: 0,
      outStride: wide,
      outOffset: rank,
      xStride: ropeDim,
    });
    return { queries, keys };
  };

  const attended = tape.empty([rows, heads * rank]);
  const lse = tape.empty([batch * heads * length]);
  const out = tape.empty([rows, heads * valueDim]);
  tape.scoped(() => {
    const { queries, keys } = full();
    kernels.latentAttention(attended, lse, queries, keys, table, lengths, {
      sequences: batch,
      queries: length,
      heads,
      rank,
      rope: ropeDim,
      pages: batch,
      pageSize: length,
      tableWidth: 1,
      scale,
    });
    return [];
  });
  tape.scoped(() => {
    const values = tape.empty([heads * rows, valueDim]);
    const sums = { ...products, n: valueDim, k: rank, transB: true };
    const { valueUp } = weights();
    kernels.groupedGemm(values, operand(attended, rank, rank), valueUp, offsets, sums);
    restore(out, valueDim, values, valueDim);
    return [];
  });
  keepAs(tape, out, form, true);

  /** Adds W_UK's or W_UV's gradient: of every head aᵀ · b. */
  const addGradient = (a: Tensor, b: Tensor, width: number, first: number): void => {
    const product = tape.empty([heads, width, rank]);
    const shape = { groups: heads, rows: heads * rows, m: width, n: rank };
    kernels.groupedGemmWeight(product, a, b, offsets, shape);
    kernels.copyStrided(kvUp.grad, product, {
      rows: heads,
      cols: width * rank,
      outStride: (nopeDim + valueDim) * rank,
      outOffset: first * rank,
      xStride: width * rank,
      accumulate: true,
    });
  };
  tape.record({
    name: 'absorbed attention',
    inputs: [q, latent, kRope],
    outputs: [out],
    saved: [q, latent, kRope, attended, lse],
    backward: ([grad]) => {
      if (!grad) return [];
      const dq = tape.empty(q.shape);
      const dlatent = tape.empty(latent.shape);
      const dkRope = tape.empty(kRope.shape);
      tape.scoped(() => {
        const dattended = tape.empty([rows, heads * rank]);
        tape.scoped(() => {
          const product = tape.empty([heads * rows, rank]);
          const sums = { ...products, n: rank, k: valueDim };
          const { valueUp } = weights();
          kernels.groupedGemm(product, operand(grad, valueDim, valueDim), valueUp, offsets, sums);
          restore(dattended, rank, product, rank);
          return [];
        });
        const dqueries = tape.empty([rows, heads * wide]);
        const dkeys = tape.empty([rows, wide]);
        tape.scoped(() => {
          const { queries, keys } = full();
          const shape = { batch, queries: length, keys: length, heads, rank, rope: ropeDim, scale };
          kernels.latentAttentionBackward(
            dqueries,
            dkeys,
            dattended,
            queries,
            keys,
            attended,
            lse,
            shape,
          );
          return [];
        });
        tape.scoped(() => {
          const product = tape.empty([heads * rows, nopeDim]);
          const sums = { ...products, n: nopeDim, k: rank, transB: true };
          const { keyUp } = weights();
          kernels.groupedGemm(product, operand(dqueries, wide, rank), keyUp, offsets, sums);
          restore(dq, narrow, product, nopeDim);
          return [];
        });
        kernels.rope(dq, dqueries, rotary.cos, rotary.sin, {
          ...turned,
          heads,
          inverse: true,
          outStride: heads * narrow,
          outHeadStride: narrow,
          outOffset: nopeDim,
          xStride: heads * wide,
          xHeadStride: wide,
          xOffset: rank,
        });
        kernels.copyStrided(dlatent, dkeys, { rows, cols: rank, outStride: rank, xStride: wide });
        kernels.rope(dkRope, dkeys, rotary.cos, rotary.sin, {
          ...turned,
          heads: 1,
          inverse: true,
          outStride: ropeDim,
          outHeadStride: 0,
          xStride: wide,
          xHeadStride: 0,
          xOffset: rank,
        });
        tape.deferWeightGrad('kvUp', [q, dqueries, grad, attended], () => {
          tape.scoped(() => {
            addGradient(operand(q, narrow, nopeDim), operand(dqueries, wide, rank), nopeDim, 0);
            return [];
          });
          tape.scoped(() => {
            const own = operand(grad, valueDim, valueDim);
            addGradient(own, operand(attended, rank, rank), valueDim, nopeDim);
            return [];
          });
        });
        return [];
      });
      return [dq, dlatent, dkRope];
    },
  });
  return out;
}
