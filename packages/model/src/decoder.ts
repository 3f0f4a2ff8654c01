// The decoder: embedding, layers, multi-token prediction and head, as one chain of phases.

import { type Fp8Recipe, recipeLinears } from '@baleen/fp8';
import { type Kernels } from '@baleen/kernels';
import { type DecodePass, Rotary } from '@baleen/mla';
import type { Router } from '@baleen/moe-router';
import { MtpDepth } from '@baleen/mtp';
import {
  type ComputePhase,
  castTo,
  concatRows,
  embedding,
  type LinearFactory,
  Module,
  Parameter,
  type Phase,
  Pools,
  plainLinears,
  rmsNorm,
  type Tape,
  type Tensor,
  weightView,
} from '@baleen/tensor';

import { checkConfig, type ModelConfig } from './config';
import { checkGroup, ExpertGroup, type ExpertGroupOptions } from './expert-group';
import { headLosses } from './head';
import { DecoderLayer, type LayerLinears, type LayerOptions } from './layer';
import { cutStages, type ModelStage } from './stages';

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
  /** Where the balance losses are added, one an element: that of the nth router of {@link Decoder.allRouters} [routers]. */
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
  /**
   * Ranks that share the routed experts. Each holds its part of every layer's, under the names and with the initial values
   * that they have in a whole model; all other weights are on every rank. With one rank this is the model without.
   */
  experts?: ExpertGroupOptions;
  /**
   * The stages of a pipeline that are here, from `cutStages` (default: the whole model). What they have is as in a whole model,
   * names and initial values too; the rest is on other ranks.
   */
  stages?: readonly ModelStage[];
}

/** One factory for all kinds of layers. */
function everywhere(factory: LinearFactory): LayerLinears {
  return { attention: factory, feedForward: factory, experts: factory };
}

function layerOptionsOf(
  options: ForwardOptions,
  cached: LayerOptions['cached'] = null,
): Omit<LayerOptions, 'balanceLoss'> {
  return {
    balanceFactor: options.balanceFactor ?? 0,
    balanceOver: options.balanceOver ?? 'sequence',
    balanceCounts: options.balanceCounts ?? null,
    withScores: options.withScores ?? false,
    cached,
  };
}

/** What is asked of another rank's part. */
function elsewhere(what: string): Error {
  return Object.assign(new Error(`this rank's stages have no ${what}`), {
    code: 'ERR_BALEEN_MODEL_STAGE',
    hint: 'run phases on the rank that holds their stage',
  });
}

/** The model, or the stages of it that this rank holds. */
export class Decoder extends Module {
  /** Memory of weights, gradients, state and derived forms. */
  readonly pools: Pools;
  /** Its layers, those that are here. */
  readonly layers: readonly DecoderLayer[];
  /** Its depths of multi-token prediction, likewise. */
  readonly mtp: readonly MtpDepth<DecoderLayer>[];
  /** The ranks that share routed experts; null where all are here. */
  readonly expertGroup: ExpertGroup | null;
  /** Whether other ranks have stages or experts of it. */
  readonly isPart: boolean;
  /** Layers that are here, by their place in the model. */
  private readonly layerAt: ReadonlyMap<number, DecoderLayer>;
  /** Null in other ranks' stages. */
  private readonly tableHere: Parameter | null;
  private readonly normHere: Parameter | null;
  private readonly headHere: Parameter | null;
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
    const { experts } = options;
    const shared = experts && experts.communicator.size > 1 ? experts : null;
    if (shared) checkGroup(config, shared.communicator.size, fp8);
    const group = shared ? new ExpertGroup(kernels, config, shared) : null;
    this.expertGroup = group;
    const rotary = new Rotary(
      pools,
      config.maxSequence,
      attention.ropeDim,
      attention.ropeTheta,
      attention.yarn,
    );
    const { stages = cutStages(config, 1) } = options;
    const [first, last] = [stages.some((stage) => stage.first), stages.some((stage) => stage.last)];
    const vocabulary = (name: string): Parameter =>
      this.parameter(name, new Parameter(pools, [vocabSize, hidden]));
    this.isPart = group !== null || stages.length < (stages.at(-1)?.of ?? 1);
    this.tableHere = first ? vocabulary('embedding.weight') : null;
    const places = stages.flatMap(({ layers: [from, end] }) =>
      Array.from({ length: end - from }, (_, index) => from + index),
    );
    this.layerAt = new Map(
      places
        .sort((a, b) => a - b)
        .map((index) => [
          index,
          this.child(
            `layers.${index}`,
            new DecoderLayer(pools, linears, config, rotary, index < config.denseLayers, group),
          ),
        ]),
    );
    this.layers = [...this.layerAt.values()];
    this.normHere = last
      ? this.parameter('norm.weight', new Parameter(pools, [hidden], { init: 'ones' }))
      : null;
    this.headHere = last ? vocabulary('head.weight') : null;
    this.mtp = Array.from({ length: last ? config.mtp.depth : 0 }, (_, index) =>
      this.child(
        `mtp.${index}`,
        new MtpDepth(
          pools,
          index + 1,
          { hidden, normEps },
          new DecoderLayer(
            pools,
            linears,
            config,
            rotary,
            config.layers < config.denseLayers,
            group,
          ),
          outerLinears,
        ),
      ),
    );
  }

  /** The backend. */
  get kernels(): Kernels {
    return this.pools.kernels;
  }

  /** The routers that are here, in order. */
  get routers(): Router[] {
    return this.allRouters.filter((router) => router !== null);
  }

  /** A place for each router of the whole model, those of layers first; null for those of other ranks. */
  get allRouters(): (Router | null)[] {
    const { layers, denseLayers, mtp } = this.config;
    const inDepths = layers < denseLayers ? 0 : mtp.depth;
    return [
      ...Array.from(
        { length: Math.max(0, layers - denseLayers) },
        (_, index) => this.layerAt.get(denseLayers + index)?.router ?? null,
      ),
      ...Array.from({ length: inDepths }, (_, depth) =>
        depth < this.mtp.length ? this.mtp[depth].block.router : null,
      ),
    ];
  }

  private get table(): Parameter {
    if (this.tableHere) return this.tableHere;
    throw elsewhere('embedding');
  }

  private get norm(): Parameter {
    if (this.normHere) return this.normHere;
    throw elsewhere('last norm');
  }

  private get head(): Parameter {
    if (this.headHere) return this.headHere;
    throw elsewhere('head');
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
  lossPhases(options: ForwardOptions = {}): Phase[] {
    const [whole] = cutStages(this.config, 1);
    return this.stagePhases(whole, options);
  }

  /**
   * The part of {@link lossPhases} that a stage runs. From one stage to the next go {@link stageTensors}; whatever else the input
   * of the chain has is given to every stage.
   * @param stage - one that is here
   * @param options - see {@link ForwardOptions}
   * @returns the phases
   */
  stagePhases(stage: ModelStage, options: ForwardOptions = {}): Phase[] {
    const depths = Math.min(this.config.mtp.depth, options.depths ?? Infinity);
    const [first, end] = stage.layers;
    const optionsOf = this.optionsOfLayers(options);
    return [
      ...(stage.first ? [this.embedPhase(depths > 0)] : []),
      ...Array.from({ length: end - first }, (_, index) => first + index).flatMap((index) => {
        const layer = this.layerAt.get(index);
        if (!layer) throw elsewhere(`layer ${index}`);
        return layer.phases(`layers.${index}`, optionsOf(layer));
      }),
      ...(stage.last
        ? [
            this.normPhase(),
            ...this.mtp
              .slice(0, depths)
              .flatMap((depth) => this.mtpPhases(depth, optionsOf(depth.block))),
            this.headPhase(options.likeliest ?? false),
          ]
        : []),
    ];
  }

  /** Options of each layer: its router's own place of the balance losses. */
  private optionsOfLayers(options: ForwardOptions): (layer: DecoderLayer) => LayerOptions {
    const common = layerOptionsOf(options);
    const places = this.allRouters;
    return ({ router }) => {
      const losses = router && options.balanceLoss;
      return { ...common, balanceLoss: losses ? losses.rows(places.indexOf(router), 1) : null };
    };
  }

  /**
   * The chain from token ids to the normed hidden state `h`, for logits.
   * @param pass - whose rows the ids are when generating; their caches get the new latents. Each row gets what it would get
   *   alone
   * @returns the phases
   */
  hiddenPhases(pass: DecodePass | null = null): Phase[] {
    return [
      this.embedPhase(false),
      ...this.layers.flatMap((layer, index) =>
        layer.phases(`layers.${index}`, {
          ...layerOptionsOf({}, pass && { pass, layer: index }),
          balanceLoss: null,
        }),
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
  draftPhases(depth: MtpDepth<DecoderLayer>, pass: DecodePass, states: readonly Tensor[]): Phase[] {
    const join: ComputePhase = {
      kind: 'compute',
      name: `mtp.${depth.depth}.join`,
      forward: (tape, input) => {
        const embedded = embedding(tape, this.table, input.ids as Tensor);
        const joined = depth.joinRows(tape, concatRows(tape, states), embedded);
        return { h: joined.reshape([1, ...joined.shape]) };
      },
    };
    const options = { ...layerOptionsOf({}, { pass, layer: 0 }), balanceLoss: null };
    return [join, ...this.depthPhases(depth, options)];
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

  /**
   * Whether a chain makes the same kernel calls with the same sizes every time, as a recording of them needs: not where
   * experts get rows of several ranks, whose number differs from batch to batch.
   */
  get repeatable(): boolean {
    return this.expertGroup === null;
  }

  /** Number of trained values on this rank. */
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

  private mtpPhases(depth: MtpDepth<DecoderLayer>, options: LayerOptions): Phase[] {
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
  private depthPhases(depth: MtpDepth<DecoderLayer>, options: LayerOptions): Phase[] {
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
      forward: (tape, input) => headLosses(tape, input, this.head, this.outer, likeliest),
    };
  }
}
