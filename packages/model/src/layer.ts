// A decoder layer as phases (§3.2.1): attention, then either a dense feed-forward, or dispatch, experts and combine.
//
// Phases hand each other a bundle: `h` [batch, length, hidden] is the stream, and what a phase does not know passes on.
// With `borders` in it, attention keeps the documents between them apart.
import { type DecodePass, LatentAttention, type Rotary, softmaxScale } from '@baleen/mla';
import { permute, Router, unpermuteAdd } from '@baleen/moe-router';
import {
  add,
  type Bundle,
  type ComputePhase,
  type LinearFactory,
  Module,
  Parameter,
  type Phase,
  type Pools,
  recompute,
  type Tape,
  type Tensor,
  type Value,
} from '@baleen/tensor';

import type { ModelConfig } from './config';
import type { ExpertGroup } from './expert-group';
import { Experts, FeedForward } from './feed-forward';
import type { RecomputedPart } from './recomputed';

/** What a forward pass may ask of the layers. */
export interface LayerOptions {
  /** α of the balance loss over the sequences of the whole batch; 0 for none. */
  balanceFactor: number;
  /** What that loss balances: each sequence, or the batch as a whole. */
  balanceOver: 'sequence' | 'batch';
  /** What it counts of a batch that has further micro-batches, by router, [experts] I32. */
  balanceCounts: ReadonlyMap<Router, Tensor> | null;
  /** Where that loss is added, [1]. */
  balanceLoss: Tensor | null;
  /** Dispatch hands on its router's `scores`. */
  withScores: boolean;
  /** When generating: attention looks back at caches. */
  cached: {
    /** Whose rows these are. */
    pass: DecodePass;
    /** Which of the caches' layers this is. */
    layer: number;
  } | null;
}

/** Makes a layer's linears, a factory a kind. */
export interface LayerLinears {
  /** Projections of attention. */
  attention: LinearFactory;
  /** The dense feed-forward. */
  feedForward: LinearFactory;
  /** Routed and shared experts. */
  experts: LinearFactory;
}

/** What passes on of a bundle: all but what ends here. */
function without(bundle: Bundle, ended: readonly string[]): Bundle {
  return Object.fromEntries(Object.entries(bundle).filter(([name]) => !ended.includes(name)));
}

class AttentionPart extends Module {
  readonly norm: Parameter;
  readonly inner: LatentAttention;

  constructor(pools: Pools, factory: LinearFactory, config: ModelConfig, rotary: Rotary) {
    super();
    const { attention, hiddenSize: hidden, normEps } = config;
    this.norm = this.parameter('norm.weight', new Parameter(pools, [hidden], { init: 'ones' }));
    const scale = softmaxScale(attention.nopeDim + attention.ropeDim, rotary.yarn);
    this.inner = this.child(
      '',
      new LatentAttention(pools, { ...attention, hidden, normEps, scale }, factory, rotary),
    );
  }
}

class FeedForwardPart extends Module {
  readonly norm: Parameter;
  readonly router: Router | null;
  readonly experts: Experts | null;
  readonly dense: FeedForward | null;
  readonly shared: FeedForward | null;

  constructor(
    pools: Pools,
    linears: LayerLinears,
    config: ModelConfig,
    dense: boolean,
    group: ExpertGroup | null,
  ) {
    super();
    const { hiddenSize: hidden, moe } = config;
    this.norm = this.parameter('norm.weight', new Parameter(pools, [hidden], { init: 'ones' }));
    this.dense = dense
      ? this.child('', new FeedForward(pools, linears.feedForward, hidden, config.intermediateSize))
      : null;
    this.router = dense
      ? null
      : this.child(
          'router',
          new Router(pools, {
            hidden,
            experts: moe.routedExperts,
            expertsPerToken: moe.expertsPerToken,
            groups: moe.groups,
            groupsPerToken: moe.groupsPerToken,
            groupBest: moe.groupBest ?? 2,
            gate: moe.gate ?? 'sigmoid',
            scaling: moe.routedScaling,
            normalize: moe.normalizeGates,
          }),
        );
    this.experts = dense
      ? null
      : this.child('experts', new Experts(pools, linears.experts, config, group));
    this.shared =
      dense || moe.sharedExperts === 0
        ? null
        : this.child(
            'shared',
            new FeedForward(
              pools,
              linears.experts,
              hidden,
              moe.intermediateSize * moe.sharedExperts,
            ),
          );
  }
}

/** One decoder layer. */
export class DecoderLayer extends Module {
  private readonly attention: AttentionPart;
  private readonly feedForward: FeedForwardPart;

  /**
   * @param pools - where weights live
   * @param linears - make its linear layers
   * @param config - the model
   * @param rotary - position tables
   * @param dense - dense feed-forward instead of experts
   * @param group - the ranks that share the routed experts; null where all are here
   */
  constructor(
    pools: Pools,
    linears: LayerLinears,
    private readonly config: ModelConfig,
    rotary: Rotary,
    dense: boolean,
    private readonly group: ExpertGroup | null = null,
  ) {
    super();
    this.attention = this.child(
      'attention',
      new AttentionPart(pools, linears.attention, config, rotary),
    );
    this.feedForward = this.child(
      'feedForward',
      new FeedForwardPart(pools, linears, config, dense, group),
    );
  }

  /** Its router, if it has experts. */
  get router(): Router | null {
    return this.feedForward.router;
  }

  /** Its attention. */
  get latentAttention(): LatentAttention {
    return this.attention.inner;
  }

  /**
   * Its phases, in order.
   * @param name - put before theirs
   * @param options - see {@link LayerOptions}
   * @returns two phases, or four with experts; six where ranks share these, two of them communication
   */
  phases(name: string, options: LayerOptions): Phase[] {
    const compute = (
      part: string,
      forward: (tape: Tape, input: Bundle) => Bundle,
    ): ComputePhase => ({ kind: 'compute', name: `${name}.${part}`, forward });
    const attention = compute('attention', (tape, input) => this.attend(tape, input, options));
    const { router, experts, dense } = this.feedForward;
    if (dense)
      return [
        attention,
        compute('feedForward', (tape, input) => this.denseForward(tape, input, dense)),
      ];
    if (!router || !experts)
      throw Object.assign(new Error(`${name} has neither a dense nor a routed feed-forward`), {
        code: 'ERR_BALEEN_INTERNAL',
        hint: 'this is a fault of Baleen: please report it',
      });
    const exchanges = this.group?.phases(name);
    return [
      attention,
      compute('dispatch', (tape, input) => this.dispatch(tape, input, router, experts, options)),
      ...(exchanges ? [exchanges.dispatch] : []),
      compute('experts', (tape, input) => this.expertForward(tape, input, experts)),
      ...(exchanges ? [exchanges.combine] : []),
      compute('combine', (tape, input) => this.combine(tape, input)),
    ];
  }

  private attend(tape: Tape, input: Bundle, options: LayerOptions): Bundle {
    const h = input.h as Tensor;
    const { norm, inner } = this.attention;
    const flat = this.rows(h);
    const normed = (): [Value] => [inner.prepareNormed(tape, flat, norm, this.config.normEps)];
    const [x] = recompute(tape, [h], normed, 'norms' satisfies RecomputedPart);
    const { cached } = options;
    const u = cached
      ? inner.decode(tape, x, cached.pass, cached.layer)
      : inner.forward(tape, x, h.shape[0] ?? 1, input.borders as Tensor | undefined);
    return { ...input, h: add(tape, h, u) };
  }

  private denseForward(tape: Tape, input: Bundle, dense: FeedForward): Bundle {
    const h = input.h as Tensor;
    const flat = this.rows(h);
    const { norm } = this.feedForward;
    const normed = (): [Value] => [dense.prepareNormed(tape, flat, norm, this.config.normEps)];
    const [x] = recompute(tape, [h], normed, 'norms' satisfies RecomputedPart);
    return { ...input, h: add(tape, h, dense.forward(tape, x)) };
  }

  private dispatch(
    tape: Tape,
    input: Bundle,
    router: Router,
    experts: Experts,
    options: LayerOptions,
  ): Bundle {
    const h = input.h as Tensor;
    const flat = this.rows(h);
    // One norm for router, experts and shared expert; quantised once for both kinds of experts.
    const [low, x] = recompute(
      tape,
      [h],
      () => experts.prepareNormed(tape, flat, this.feedForward.norm, this.config.normEps),
      'norms' satisfies RecomputedPart,
    );
    const { balanceLoss, balanceFactor, balanceOver } = options;
    const batch = h.shape[0] ?? 1;
    // A micro-batch as a whole counts for as much as its sequences would.
    const sequences = balanceOver === 'batch' ? 1 : batch;
    const factor = (balanceFactor * batch) / sequences;
    const counts = options.balanceCounts?.get(router);
    const balance =
      balanceLoss && balanceFactor > 0
        ? { factor, loss: balanceLoss, sequences, ...(counts && { counts }) }
        : undefined;
    const routing = router.forward(tape, x, balance);
    const passed = {
      ...input,
      gates: routing.weights,
      ...(this.feedForward.shared ? { sharedInput: low } : {}),
      ...(options.withScores ? { scores: routing.scores } : {}),
    };
    // Tokens go to their experts' ranks as they are, and are sorted there.
    const { indices, offsets } = routing;
    if (this.group) return { ...passed, tokens: low, indices, offsets };
    const [sorted] = recompute(
      tape,
      [low, routing.slotOfRow, routing.rowOfSlot],
      () => [permute(tape, low, routing)],
      'permuted' satisfies RecomputedPart,
    );
    return { ...passed, sorted, offsets, rowOfSlot: routing.rowOfSlot };
  }

  private expertForward(tape: Tape, input: Bundle, experts: Experts): Bundle {
    const { sorted, sharedInput, offsets, sourceOffsets } = input;
    const { shared } = this.feedForward;
    const y = experts.forward(tape, sorted, offsets as Tensor, sourceOffsets as Tensor | undefined);
    // Scores were for whoever looks on.
    return {
      ...without(input, ['sorted', 'sharedInput', 'offsets', 'sourceOffsets', 'scores']),
      y,
      ...(shared ? { shared: shared.forward(tape, sharedInput) } : {}),
    };
  }

  private combine(tape: Tape, input: Bundle): Bundle {
    const { y, gates, rowOfSlot, shared, h, ...rest } = input;
    const base = this.feedForward.shared ? add(tape, h as Tensor, shared as Tensor) : (h as Tensor);
    const sum = unpermuteAdd(tape, base, y as Tensor, gates as Tensor, rowOfSlot as Tensor);
    return { ...rest, h: sum };
  }

  private rows(h: Tensor): Tensor {
    const { hiddenSize } = this.config;
    return h.reshape([h.size / hiddenSize, hiddenSize]);
  }
}
