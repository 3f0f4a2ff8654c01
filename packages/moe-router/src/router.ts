// The router as a module: scores, choice, gate weights and the loads that balancing needs (§2.1.2).
import {
  emptyTensor,
  Module,
  matrixShape,
  Parameter,
  type Pools,
  type Tape,
  type Tensor,
  writeTensor,
} from '@baleen/tensor';

import { checkLength } from './checks';
import { backThroughGate, type Gate, scoreLogits } from './gate';
import { type BiasRule, checkFinite, checkUpdate, usualDecay } from './policy';

/** What a router is made of. */
export interface RouterSpec {
  /** Width of the tokens. */
  hidden: number;
  /** Routed experts. */
  experts: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
  /** Groups (nodes) of neighbouring experts; 1 for no limit. */
  groups: number;
  /** Groups a token may reach. */
  groupsPerToken: number;
  /** How many of a group's best make its score (default 2, which is V3's K_r / M; 1 in V2). */
  groupBest?: number;
  /** How logits become scores (default sigmoid). */
  gate?: Gate;
  /** Factor on the gate weights (2.5 in V3). */
  scaling: number;
  /** Gate weights are divided by their sum. */
  normalize: boolean;
}

/** Where the balance loss goes, and how strong it is. */
export interface BalanceLoss {
  /** What each sequence's Σᵢ fᵢPᵢ is multiplied by: α over the number of sequences of the whole batch. */
  factor: number;
  /** Sequences in this micro-batch; 1 balances it as a whole. */
  sequences: number;
  /** [1], added to. */
  loss: Tensor;
  /**
   * How often each expert is among the best scores of a token in the whole batch, of which this micro-batch is a part [E]
   * I32 (default: each sequence has its own).
   */
  counts?: Tensor;
}

/** How a bias is updated. */
export interface BiasUpdateOptions {
  /** How it follows the loads (default V3's sign). */
  rule?: BiasRule;
  /** Share of the moving average that stays a step, for the rule `ema` (default 0.9). */
  decay?: number;
  /**
   * Adds up the loads of all ranks in place, before they are read and cleared. Not needed where they were reduced
   * already, or with one rank.
   */
  reduce?: (load: Tensor) => void;
}

/** A routing of T tokens to K experts each. */
export interface Routing {
  /** Affinities without bias [T, E]. */
  scores: Tensor;
  /** Chosen experts [T, K] I32, best first. */
  indices: Tensor;
  /** Gate weights [T, K]. */
  weights: Tensor;
  /** First row of each expert [E + 1] I32. */
  offsets: Tensor;
  /** Slot t·K + j that stands in each row [T·K] I32. */
  slotOfRow: Tensor;
  /** Row of each slot [T·K] I32. */
  rowOfSlot: Tensor;
}

/** Gate, node-limited top-k, gate weights from unbiased scores, and a bias that balances loads without a loss. */
export class Router extends Module {
  /** Expert centroids [E, hidden]; the gate runs in FP32. */
  readonly weight: Parameter;
  /** Added to the scores for the choice only. State, never trained. */
  readonly bias: Tensor;
  /** Tokens each expert got since `updateBias` [E] I32. */
  readonly load: Tensor;
  /** Moving average of loads over their mean [E], for the rule `ema`; 1 where nothing was counted yet. */
  readonly average: Tensor;

  /**
   * @param pools - where weights and state live
   * @param spec - see {@link RouterSpec}
   */
  constructor(
    private readonly pools: Pools,
    /** What it is made of. */
    readonly spec: RouterSpec,
  ) {
    super();
    const { experts, hidden } = spec;
    this.weight = this.parameter('weight', new Parameter(pools, [experts, hidden]));
    this.bias = this.state('bias', emptyTensor(pools.state, [experts]));
    this.load = emptyTensor(pools.state, [experts], 'i32');
    this.average = emptyTensor(pools.state, [experts]);
    pools.kernels.fill(this.average, 1);
    pools.kernels.fill(this.bias, 0);
    pools.kernels.fill(this.load, 0);
  }

  /**
   * Routes tokens and, on a recording tape, counts their loads and their balance loss: once, whatever is computed anew.
   * @param tape - the tape
   * @param x - [T, hidden] FP32
   * @param balance - the balance loss, if any
   * @returns the routing; gradients flow through its weights
   */
  forward(tape: Tape, x: Tensor, balance?: BalanceLoss): Routing {
    const { kernels } = tape;
    const { experts, expertsPerToken: k, groups, groupsPerToken, scaling, normalize } = this.spec;
    const { gate: kind = 'sigmoid', groupBest = 2 } = this.spec;
    const [tokens, hidden] = matrixShape(x);
    const gate = { tokens, experts, k, scaling, normalize };
    const scores = tape.empty([tokens, experts]);
    kernels.gemm(scores, x, this.weight.data, { m: tokens, n: experts, k: hidden, transB: true });
    scoreLogits(kernels, kind, scores, scores, { rows: tokens, cols: experts });
    const indices = tape.empty([tokens, k], 'i32');
    const choice = { tokens, experts, k, groups, groupsKept: groupsPerToken, groupBest };
    kernels.topK(indices, scores, this.bias, choice);
    const weights = tape.empty([tokens, k]);
    kernels.gateWeights(weights, scores, indices, gate);

    const counts = tape.empty([experts], 'i32');
    const offsets = tape.empty([experts + 1], 'i32');
    const slotOfRow = tape.empty([tokens * k], 'i32');
    const rowOfSlot = tape.empty([tokens * k], 'i32');
    kernels.route(counts, offsets, slotOfRow, rowOfSlot, indices, { tokens, k, experts });
    if (tape.recording) kernels.add(this.load, this.load, counts);

    const lossTo = balance && this.balanceTo(tape, scores, balance);
    if (lossTo && tape.recording) lossTo.add(balance.loss, null);
    tape.record({
      name: 'router',
      inputs: [x],
      outputs: [weights],
      saved: [x, scores, indices, ...(lossTo?.unbiased ? [lossTo.unbiased] : [])],
      backward: ([grad]) => {
        if (!grad) return [];
        const dscores = tape.zeros([tokens, experts]);
        kernels.gateWeightsBackward(dscores, grad, scores, indices, gate);
        lossTo?.add(tape.zeros([1]), dscores);
        const dlogits = tape.empty([tokens, experts]);
        backThroughGate(kernels, kind, dlogits, dscores, scores, { rows: tokens, cols: experts });
        const dx = tape.empty([tokens, hidden]);
        kernels.gemm(dx, dlogits, this.weight.data, { m: tokens, n: hidden, k: experts });
        tape.deferWeightGrad('router', [dlogits, x], () => {
          kernels.gemm(this.weight.grad, dlogits, x, {
            m: experts,
            n: hidden,
            k: tokens,
            transA: true,
            accumulate: true,
          });
        });
        return [dx];
      },
    });
    return { scores, indices, weights, offsets, slotOfRow, rowOfSlot };
  }

  /** The balance loss of scores. It looks at the choice that they alone would make: that of these tokens, or a batch's. */
  private balanceTo(
    tape: Tape,
    scores: Tensor,
    { sequences, factor, counts }: BalanceLoss,
  ): { unbiased: Tensor | null; add: (loss: Tensor, dscores: Tensor | null) => void } {
    const { kernels } = tape;
    const { experts, expertsPerToken: k } = this.spec;
    const [tokens] = matrixShape(scores);
    const unbiased = counts ? null : tape.empty([tokens, k], 'i32');
    if (unbiased)
      kernels.topK(unbiased, scores, null, { tokens, experts, k, groups: 1, groupsKept: 1 });
    const sizes = { sequences, sequenceLength: tokens / sequences, experts, k, factor };
    return {
      unbiased,
      add: (loss, dscores) => {
        kernels.balanceLoss(loss, dscores, scores, unbiased, counts ?? null, sizes);
      },
    };
  }

  /**
   * Puts a saved bias in its place.
   * @param bias - of each expert [E]
   * @throws ERR_BALEEN_ROUTER_SIZES for another number of experts, and values that are not finite: one such decides every
   * choice of its expert
   */
  restoreBias(bias: ArrayLike<number>): void {
    checkLength('bias', bias, { experts: this.spec.experts });
    checkFinite('bias', bias);
    writeTensor(this.bias, Float32Array.from(bias));
  }

  /** Clears the loads, as of a step that is not taken. */
  forgetLoads(): void {
    this.pools.kernels.fill(this.load, 0);
  }

  /**
   * Loss-free balancing, once a step: experts that got more than the mean of the whole batch lose bias, the others gain it.
   * Clears the loads.
   * @param speed - γ (0.001 in V3, 0 for the last tokens)
   * @param options - see {@link BiasUpdateOptions}
   */
  updateBias(speed: number, options: BiasUpdateOptions = {}): void {
    const { kernels } = this.pools;
    const { rule = 'sign', decay = usualDecay, reduce } = options;
    checkUpdate(speed, rule, decay);
    reduce?.(this.load);
    kernels.updateRouterBias(this.bias, this.load, rule === 'ema' ? this.average : null, {
      experts: this.spec.experts,
      speed,
      proportional: rule !== 'sign',
      decay,
    });
    this.forgetLoads();
  }
}
