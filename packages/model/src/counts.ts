// How large a model is and how much arithmetic a token costs, from its configuration alone: for planning, reports and
// comparison with published numbers.
import type { ModelConfig } from './config';

/** Values a model holds. */
export interface ParameterCounts {
  /** The decoder without multi-token prediction, router biases included. V3: 671,026,419,200. */
  main: number;
  /** What the depths of multi-token prediction add; embedding and head are shared. V3: 11,610,068,224. */
  mtp: number;
  /** main + mtp: every value that a checkpoint of the model holds. */
  total: number;
  /** total without the router biases, which no gradient reaches: `Decoder.parameterCount`. */
  trained: number;
  /**
   * What one token of the main model meets: its chosen and shared experts and all that is not an expert, head included,
   * embedding table left out. V3: 36.63 billion.
   */
  active: number;
}

/** Floating-point operations a token, a multiplication and an addition counted as two. */
export interface TokenFlops {
  /** Forward through the main model. */
  forward: number;
  /** Forward through the depths of multi-token prediction, with their passes through the shared head. */
  mtpForward: number;
  /** Training the main model: forward, gradients of inputs, gradients of weights. V3 at 4,096 tokens: 250 billion. */
  training: number;
  /** Training the depths of multi-token prediction. */
  mtpTraining: number;
}

/** One piece's weights: those in matrix products and the rest (norms, biases). */
interface Piece {
  products: number;
  norms: number;
  biases: number;
}

function sum(...pieces: Piece[]): Piece {
  const total = { products: 0, norms: 0, biases: 0 };
  for (const piece of pieces) {
    total.products += piece.products;
    total.norms += piece.norms;
    total.biases += piece.biases;
  }
  return total;
}

function times(count: number, { products, norms, biases }: Piece): Piece {
  return { products: count * products, norms: count * norms, biases: count * biases };
}

function size({ products, norms, biases }: Piece): number {
  return products + norms + biases;
}

/** Attention with the norm before it. */
function attentionPiece({ hiddenSize: hidden, attention }: ModelConfig): Piece {
  const { heads, nopeDim, ropeDim, valueDim, queryRank, kvRank } = attention;
  const queryWidth = heads * (nopeDim + ropeDim);
  const query =
    queryRank === null ? hidden * queryWidth : hidden * queryRank + queryRank * queryWidth;
  const latent = hidden * (kvRank + ropeDim) + kvRank * heads * (nopeDim + valueDim);
  return {
    products: query + latent + heads * valueDim * hidden,
    norms: hidden + (queryRank ?? 0) + kvRank,
    biases: 0,
  };
}

/** A dense feed-forward with the norm before it. */
function densePiece({ hiddenSize: hidden, intermediateSize }: ModelConfig): Piece {
  return { products: 3 * hidden * intermediateSize, norms: hidden, biases: 0 };
}

/** Router, shared and `experts` routed experts, with the norm before them. */
function moePiece({ hiddenSize: hidden, moe }: ModelConfig, experts: number): Piece {
  return {
    products:
      3 * hidden * moe.intermediateSize * (experts + moe.sharedExperts) +
      hidden * moe.routedExperts,
    norms: hidden,
    biases: moe.routedExperts,
  };
}

/** All layers of the main model, each with `experts` of its routed experts, and the final norm. */
function layersPiece(config: ModelConfig, experts: number): Piece {
  const { layers, denseLayers, hiddenSize } = config;
  return sum(
    times(layers, attentionPiece(config)),
    times(denseLayers, densePiece(config)),
    times(layers - denseLayers, moePiece(config, experts)),
    { products: 0, norms: hiddenSize, biases: 0 },
  );
}

/** One depth of multi-token prediction: two norms, the projection, a layer with experts, the norm before the head. */
function depthPiece(config: ModelConfig, experts: number): Piece {
  const { hiddenSize: hidden } = config;
  return sum(attentionPiece(config), moePiece(config, experts), {
    products: 2 * hidden * hidden,
    norms: 3 * hidden,
    biases: 0,
  });
}

/**
 * Counts a model's parameters.
 * @param config - the model
 * @returns see {@link ParameterCounts}
 */
export function countParameters(config: ModelConfig): ParameterCounts {
  const { vocabSize, hiddenSize, moe, mtp } = config;
  const table = vocabSize * hiddenSize;
  const layers = layersPiece(config, moe.routedExperts);
  const depths = times(mtp.depth, depthPiece(config, moe.routedExperts));
  const main = size(layers) + 2 * table;
  const total = main + size(depths);
  return {
    main,
    mtp: size(depths),
    total,
    trained: total - layers.biases - depths.biases,
    active: size(layersPiece(config, moe.expertsPerToken)) + table,
  };
}

/**
 * Counts the operations of a token in a sequence, averaged over its positions: matrix products of linear layers, router
 * and head, and the inner products of causal attention (a position looks at itself and what is before it). Embedding,
 * norms, activations, rotation, softmax, routing and what is recomputed in backward are not counted; the gradients of a
 * product cost twice the product.
 * @param config - the model
 * @param sequence - tokens of a sequence
 * @returns see {@link TokenFlops}
 */
export function flopsPerToken(config: ModelConfig, sequence: number): TokenFlops {
  const { vocabSize, hiddenSize, layers, moe, mtp } = config;
  const head = 2 * vocabSize * hiddenSize;
  const forward =
    2 * layersPiece(config, moe.expertsPerToken).products +
    layers * attentionFlops(config, sequence) +
    head;
  let mtpForward = 0;
  for (let depth = 1; depth <= mtp.depth; depth += 1) {
    // Depth k sees k tokens less of every sequence.
    const length = Math.max(0, sequence - depth);
    mtpForward +=
      (length / sequence) *
      (2 * depthPiece(config, moe.expertsPerToken).products +
        attentionFlops(config, length) +
        head);
  }
  return { forward, mtpForward, training: 3 * forward, mtpTraining: 3 * mtpForward };
}

/** Scores and weighted values of one layer, of the mean position of a sequence. */
function attentionFlops({ attention }: ModelConfig, sequence: number): number {
  const { heads, nopeDim, ropeDim, valueDim } = attention;
  const keys = (sequence + 1) / 2;
  return 2 * heads * (nopeDim + ropeDim + valueDim) * keys;
}
