// The decoder: embedding, layers, multi-token prediction and head, as one chain of phases.

import { type Fp8Recipe, recipeLinears } from '@baleen/fp8';
import { type Kernels } from '@baleen/kernels';
import { type DecodePass, Rotary } from '@baleen/mla';
import type { Router } from '@baleen/moe-router';
import { MtpDepth } from '@baleen/mtp';
import {
  type Bundle,
  type ComputePhase,
  castTo,
  concatRows,
  embedding,
  type LinearFactory,
  Module,
  Parameter,
  Pools,
  plainLinears,
  rmsNorm,
  type Tape,
  type Tensor,
  weightView,
} from '@baleen/tensor';

import { checkConfig, type ModelConfig } from './config';
import { DecoderLayer, type LayerLinears, type LayerOptions } from './layer';

/** What the inputs of the linear layers' products are. */
export type Precision = 'fp8' | 'bf16' | 'fp32';

/** What a training or evaluation pass asks for. */
export interface ForwardOptions {
  /** α of the balance loss over the sequences of the whole batch (default 0). */
  balanceFactor?: number;
  /** What it balances: each sequence (default, §2.1.2), or the batch as a whole (§4.5.3). */
  balanceOver?: 'sequence' | 'batch';
  /**
   * Of a batch of several micro-batches: how often each router's experts are among the best scores of a token in all of
   * them, [experts] I32 (default: the batch is this micro-batch).
   */
  balanceCounts?: ReadonlyMap<Router, Tensor>;
  /** Where the balance loss is added, [1]. */
  balanceLoss?: Tensor;
  /** Phases that dispatch tokens hand on their router's `scores` [tokens, experts], without bias. */
  withScores?: boolean;
  /** How many depths of multi-token prediction run (default: all). */
  depths?: number;
  /** Also give the token of each position's largest logit: `likeliest` [rows] I32. */
  likeliest?: boolean;
}

/** What a model may be built with. */
export interface DecoderOptions {
  /** The recipe of precision `fp8` (default: V3's). */
  fp8?: Fp8Recipe;
  /** Makes all layers' linears in place of the precision's own factories. */
  linears?: LinearFactory;
}

/** One factory for all kinds of layers. */
function everywhere(factory: LinearFactory): LayerLinears {
  return { attention: factory, feedForward: factory, experts: factory };
}

function layerOptionsOf(
  options: ForwardOptions,
  cached: LayerOptions['cached'] = null,
): LayerOptions {
  return {
    balanceFactor: options.balanceFactor ?? 0,
    balanceOver: options.balanceOver ?? 'sequence',
    balanceCounts: options.balanceCounts ?? null,
    balanceLoss: options.balanceLoss ?? null,
    withScores: options.withScores ?? false,
    cached,
  };
}

/** The model. */
export class Decoder extends Module {
  /** Memory of weights, gradients, state and derived forms. */
  readonly pools: Pools;
  /** Its layers. */
  readonly layers: readonly DecoderLayer[];
  /** Its depths of multi-token prediction. */
  readonly mtp: readonly MtpDepth<DecoderLayer>[];
  private readonly table: Parameter;
  private readonly norm: Parameter;
  private readonly head: Parameter;
  /** Products outside the linear layers: BF16 unless everything is FP32. */
  private readonly outer: 'fp32' | 'bf16';

  /**
   * @param kernels - the backend
   * @param config - sizes; checked first
   * @param precision - inputs of the linear layers' products
   * @param options - see {@link DecoderOptions}
   */
  constructor(
    kernels: Kernels,
    /** Sizes. */
    readonly config: ModelConfig,
    /** Inputs of the linear layers' products. */
    readonly precision: Precision,
    options: DecoderOptions = {},
  ) {
    super();
    checkConfig(config);
    const pools = new Pools(kernels);
    this.pools = pools;
    const { hiddenSize: hidden, vocabSize, attention, normEps } = config;
    this.outer = precision === 'fp32' ? 'fp32' : 'bf16';
    const outerLinears = plainLinears(this.outer);
    const { fp8, linears: given } = options;
    const linears: LayerLinears =
      precision === 'fp8' && !given ? recipeLinears(fp8) : everywhere(given ?? outerLinears);
    const rotary = new Rotary(
      pools,
      config.maxSequence,
      attention.ropeDim,
      attention.ropeTheta,
      attention.yarn,
    );
    this.table = this.parameter('embedding.weight', new Parameter(pools, [vocabSize, hidden]));
    this.layers = Array.from({ length: config.layers }, (_, index) =>
      this.child(
        `layers.${index}`,
        new DecoderLayer(pools, linears, config, rotary, index < config.denseLayers),
      ),
    );
    this.norm = this.parameter('norm.weight', new Parameter(pools, [hidden], { init: 'ones' }));
    this.head = this.parameter('head.weight', new Parameter(pools, [vocabSize, hidden]));
    this.mtp = Array.from({ length: config.mtp.depth }, (_, index) =>
      this.child(
        `mtp.${index}`,
        new MtpDepth(
          pools,
          index + 1,
          { hidden, normEps },
          new DecoderLayer(pools, linears, config, rotary, config.layers < config.denseLayers),
          outerLinears,
        ),
      ),
    );
  }

  /** The backend. */
  get kernels(): Kernels {
    return this.pools.kernels;
  }

  /** All routers, in order. */
  get routers(): Router[] {
    return [...this.layers, ...this.mtp.map(({ block }) => block)].flatMap(({ router }) =>
      router ? [router] : [],
    );
  }

  /**
   * The chain of phases from token ids to losses.
   *
   * Input: `ids` [batch, length] I32; `targets` I32 and `rowScale` FP32 of all predicted positions, the main model's
   * batch × length first, then batch × (length − k) of each depth k. A target of −1 does not count; rowScale is each
   * position's weight in the total loss. Where attention is to keep documents apart, `borders` I32 has them: the first rows
   * of documents within the batch × length rows, ascending from 0, sequences' among them, and from the last document on the
   * number of rows; and `borders{k}` the same of the batch × (length − k) rows of depth k. Output: `losses` [rows], each position's own loss, and `likeliest` if asked for.
   * The gradient given for the losses starts the way back; its values are taken as one, for rowScale says everything.
   * @param options - see {@link ForwardOptions}
   * @returns the phases
   */
  lossPhases(options: ForwardOptions = {}): ComputePhase[] {
    const layerOptions = layerOptionsOf(options);
    const depths = this.mtp.slice(0, options.depths);
    return [
      this.embedPhase(depths.length > 0),
      ...this.layers.flatMap((layer, index) => layer.phases(`layers.${index}`, layerOptions)),
      this.normPhase(),
      ...depths.flatMap((depth) => this.mtpPhases(depth, layerOptions)),
      this.headPhase(options.likeliest ?? false),
    ];
  }

  /**
   * The chain from token ids to the normed hidden state `h`, for logits.
   * @param pass - whose rows the ids are when generating; their caches get the new latents. Each row gets what it would get
   *   alone
   * @returns the phases
   */
  hiddenPhases(pass: DecodePass | null = null): ComputePhase[] {
    return [
      this.embedPhase(false),
      ...this.layers.flatMap((layer, index) =>
        layer.phases(`layers.${index}`, layerOptionsOf({}, pass && { pass, layer: index })),
      ),
      this.normPhase(),
    ];
  }

  /**
   * One depth of multi-token prediction when generating: from hidden states of positions, and `ids` [1, rows], the tokens
   * k later, to `h` for the next depth and the normed `out{k}`, whose logits predict the tokens k + 1 later.
   * @param depth - one of {@link mtp}
   * @param pass - whose rows these are; their caches of this depth get the new latents
   * @param states - hidden states [count, hidden] of each sequence as the depth before left them, for the first depth `h` of
   *   {@link hiddenPhases}
   * @returns the phases
   */
  draftPhases(
    depth: MtpDepth<DecoderLayer>,
    pass: DecodePass,
    states: readonly Tensor[],
  ): ComputePhase[] {
    const join: ComputePhase = {
      kind: 'compute',
      name: `mtp.${depth.depth}.join`,
      forward: (tape, input) => {
        const embedded = embedding(tape, this.table, input.ids as Tensor);
        const joined = depth.joinRows(tape, concatRows(tape, states), embedded);
        return { h: joined.reshape([1, ...joined.shape]) };
      },
    };
    return [join, ...this.depthPhases(depth, layerOptionsOf({}, { pass, layer: 0 }))];
  }

  /**
   * Logits of hidden states.
   * @param tape - a tape that does not record
   * @param hidden - [rows, hidden], normed
   * @returns [rows, vocab]
   */
  logits(tape: Tape, hidden: Tensor): Tensor {
    const { hiddenSize, vocabSize } = this.config;
    const rows = hidden.size / hiddenSize;
    const x = castTo(tape, hidden.reshape([rows, hiddenSize]), this.outer);
    const out = tape.empty([rows, vocabSize]);
    const sizes = { m: rows, n: vocabSize, k: hiddenSize, transB: true };
    this.kernels.gemm(out, x, weightView(this.head, this.outer), sizes);
    return out;
  }

  /** Number of trained values. */
  get parameterCount(): number {
    let count = 0;
    for (const [, parameter] of this.parameters()) count += parameter.size;
    return count;
  }

  private embedPhase(keep: boolean): ComputePhase {
    return {
      kind: 'compute',
      name: 'embedding',
      forward: (tape, input) => {
        const ids = input.ids as Tensor;
        const h = embedding(tape, this.table, ids).reshape([...ids.shape, this.config.hiddenSize]);
        return { ...input, h, ...(keep ? { embedded: h } : {}) };
      },
    };
  }

  private normPhase(): ComputePhase {
    return {
      kind: 'compute',
      name: 'norm',
      forward: (tape, input) => {
        const h = rmsNorm(tape, input.h as Tensor, this.norm, this.config.normEps);
        return { ...input, h, out0: h };
      },
    };
  }

  private mtpPhases(depth: MtpDepth<DecoderLayer>, options: LayerOptions): ComputePhase[] {
    const join: ComputePhase = {
      kind: 'compute',
      name: `mtp.${depth.depth}.join`,
      forward: (tape, input) => {
        const batch = (input.ids as Tensor).shape[0] ?? 1;
        const h = depth.join(tape, input.h as Tensor, input.embedded as Tensor, batch);
        const name = `borders${depth.depth}`;
        return { ...input, h, ...(name in input && { borders: input[name] }) };
      },
    };
    return [join, ...this.depthPhases(depth, options)];
  }

  /** A depth's block, and the norm before the shared head. */
  private depthPhases(depth: MtpDepth<DecoderLayer>, options: LayerOptions): ComputePhase[] {
    const name = `mtp.${depth.depth}`;
    const norm: ComputePhase = {
      kind: 'compute',
      name: `${name}.norm`,
      forward: (tape, input) => ({
        ...input,
        [`out${depth.depth}`]: depth.normed(tape, input.h as Tensor),
      }),
    };
    return [...depth.block.phases(name, options), norm];
  }

  private headPhase(likeliest: boolean): ComputePhase {
    return {
      kind: 'compute',
      name: 'head',
      forward: (tape, input) => this.losses(tape, input, likeliest),
    };
  }

  /** Main model and depths meet the shared head in one product, so that its gradient is one contribution. */
  private losses(tape: Tape, input: Bundle, withLikeliest: boolean): Bundle {
    const { hiddenSize: hidden, vocabSize: vocab } = this.config;
    const outs = Object.keys(input)
      .filter((name) => /^out\d+$/.test(name))
      .map((name) => {
        const out = input[name] as Tensor;
        return out.reshape([out.size / hidden, hidden]);
      });
    const x = castTo(tape, concatRows(tape, outs), this.outer);
    const rows = x.size / hidden;
    const targets = input.targets as Tensor;
    const losses = tape.empty([rows]);
    const weight = weightView(this.head, this.outer);
    const outputs = withLikeliest ? { losses, likeliest: tape.empty([rows], 'i32') } : { losses };
    const sizes = { rows, hidden, vocab, ...outputs };
    if (!tape.recording) {
      tape.kernels.linearCrossEntropy(losses, x, weight, targets, sizes);
      return outputs;
    }
    const dx = tape.empty([rows, hidden]);
    tape.kernels.linearCrossEntropy(losses, x, weight, targets, sizes, {
      rowScale: input.rowScale as Tensor,
      dx,
      dweight: this.head.grad,
    });
    tape.record({
      name: 'linearCrossEntropy',
      inputs: [x],
      outputs: [losses],
      saved: [dx],
      backward: () => [dx],
    });
    return outputs;
  }
}
