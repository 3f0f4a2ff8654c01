// Causal attention, with its gradients.
// What holds for all kernels stands in kernels.ts.
import type { View } from '../storage';

/** Sizes of `attention`. */
export interface AttentionSizes {
  /** Sequences. */
  batch: number;
  /** Query rows of each sequence. */
  queries: number;
  /** Key rows of each sequence, at least `queries`. Query i sees keys 0 … keys − queries + i. */
  keys: number;
  /** Heads. */
  heads: number;
  /** Width of queries and keys. */
  queryWidth: number;
  /** Width of values and output. */
  valueWidth: number;
  /** Factor on the scores before the softmax, above 0. */
  scale: number;
  /**
   * Borders of documents that are packed into the rows and see only themselves: I32, ascending from 0 to `queries`, document
   * d in rows documents[d] … documents[d + 1] − 1. Empty documents are allowed, so that the view may be of one length
   * whatever is packed. Then `batch` is 1 and `keys` is `queries`; query i sees keys from its document's first to i. A
   * document's numbers are, to the bit, those that it would have as a sequence alone.
   */
  documents?: View;
}

/** Attention. */
export interface AttentionKernels {
  /**
   * Causal attention, of whole sequences or of documents. q [batch, queries, heads, queryWidth], k [batch, keys, heads, queryWidth],
   * v [batch, keys, heads, valueWidth], out [batch, queries, heads, valueWidth] FP32,
   * lse [batch, heads, queries] FP32 = log Σ exp(scale · q·k). q, k, v are all FP32 or all BF16 (then probabilities are
   * rounded to BF16 before they meet v). A value that is not finite may also reach rows up to seven before the first that
   * sees it, where it meets a probability of zero.
   */
  attention(out: View, lse: View, q: View, k: View, v: View, sizes: AttentionSizes): void;
  /** Gradients of `attention`, all FP32 and replaced. With BF16 q, k, v the inner products take BF16 operands. */
  attentionBackward(
    dq: View,
    dk: View,
    dv: View,
    dout: View,
    q: View,
    k: View,
    v: View,
    out: View,
    lse: View,
    sizes: AttentionSizes,
  ): void;
}
