// Balancing as one policy: how a bias follows the loads (loss-free, arXiv 2408.15664, §3), and the auxiliary loss beside it
// (§2.1.2). The bias is state and no parameter: nothing but these updates changes it.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import { type SequenceBalance, sequenceBalanceLoss } from './balance';
import { checkLength, checkOneOf, checkWhole, refuse } from './checks';

/**
 * How a bias follows the gap between an expert's load and the mean, 1 − load / mean: by its `sign` (V3), in proportion
 * (`proportional`), or in proportion to the gap of a moving average of loads (`ema`).
 */
export type BiasRule = 'sign' | 'proportional' | 'ema';

const rules: readonly BiasRule[] = ['sign', 'proportional', 'ema'];

/** A number, or one that follows the share of the training done, from 0 to 1. */
export type Schedule = number | ((done: number) => number);

/** How loads are balanced. */
export interface BalancePolicy {
  /** How the bias follows the loads. */
  rule: BiasRule;
  /** γ, a step's length; 0 for a bias that stays. */
  speed: Schedule;
  /** Share of the moving average that stays a step, for the rule `ema`. */
  decay: number;
  /** What the auxiliary loss balances: each sequence, or the batch as a whole. */
  lossOver: 'sequence' | 'batch';
  /** α of that loss; 0 for none. */
  factor: Schedule;
}

/**
 * V3's policy (§4.2), or what is changed in it.
 * @param changes - what differs
 * @returns sign, γ = 0.001 and 0 for the last 500 B of 14.8 T tokens, and a sequence-wise loss of α = 0.0001
 */
export function balancePolicy(changes: Partial<BalancePolicy> = {}): BalancePolicy {
  const speed: Schedule = (done) => (done > 1 - 0.5 / 14.8 ? 0 : 0.001);
  const v3 = { speed, decay: usualDecay, factor: 1e-4 };
  const policy: BalancePolicy = { rule: 'sign', lossOver: 'sequence', ...v3, ...changes };
  checkOneOf('rule', policy.rule, rules);
  checkOneOf('lossOver', policy.lossOver, ['sequence', 'batch']);
  return policy;
}

/**
 * The value of a schedule.
 * @param schedule - a number, or a function of `done`
 * @param done - share of the training done, from 0 to 1; numbers need none
 * @returns the number
 * @throws ERR_BALEEN_ROUTER_SIZES where `done` is missing or no share: a schedule would stand still
 */
export function valueAt(schedule: Schedule, done?: number): number {
  if (typeof schedule === 'number' && done === undefined) return schedule;
  if (typeof done !== 'number' || !(done >= 0 && done <= 1))
    refuse('done', `done (${done}) is not in 0 … 1`, 'say which share of the training is done');
  return typeof schedule === 'number' ? schedule : schedule(done);
}

/** What the auxiliary loss of a {@link Balancer} is taken of. */
export interface BalancedSizes {
  /** Sequences of this micro-batch. */
  sequences: number;
  /** Tokens of each. */
  sequenceLength: number;
  /** Experts a token is sent to. */
  expertsPerToken: number;
  /** Sequences of the whole batch, all micro-batches and ranks (default: those of this micro-batch). */
  batchSequences?: number;
}

/** What a {@link Balancer} must keep to go on later. */
export interface BalancerState {
  /** Biases [experts]. */
  bias: number[];
  /** Moving average of loads over their mean [experts]. */
  average: number[];
}

/**
 * The bias of one layer under a policy, on typed arrays: counts all micro-batches of a step, then moves the bias once.
 *
 * @example
 * ```ts
 * import { Balancer, balancePolicy } from '@baleen/moe-router';
 * const balancer = new Balancer(2, balancePolicy({ speed: 0.5 }));
 * balancer.count(Int32Array.of(3, 1)); // a micro-batch
 * balancer.count(Int32Array.of(2, 2)); // and another
 * balancer.update();
 * console.log([...balancer.bias].join(' ')); // => -0.5 0.5
 * ```
 */
export class Balancer {
  /** Added to the scores for the choice only [experts]. */
  readonly bias: Float32Array;
  /** Tokens each expert got since the last update [experts]. */
  readonly counts: Int32Array;
  /** Moving average of loads over their mean [experts]. */
  readonly average: Float32Array;
  private readonly kernels: Kernels;

  /**
   * @param experts - experts of the layer
   * @param policy - see {@link BalancePolicy}
   * @param options - kernels (default: `loadKernels()`)
   */
  constructor(
    experts: number,
    readonly policy: BalancePolicy,
    options: { kernels?: Kernels } = {},
  ) {
    checkWhole({ experts }, 1);
    this.kernels = options.kernels ?? loadKernels();
    this.bias = new Float32Array(experts);
    this.counts = new Int32Array(experts);
    this.average = new Float32Array(experts).fill(1);
  }

  /**
   * Counts a micro-batch. Once: not again where it is computed anew for its gradients.
   * @param counts - tokens each expert got [experts]
   */
  count(counts: Int32Array): void {
    checkLength('counts', counts, { experts: this.bias.length });
    for (let e = 0; e < counts.length; e += 1) this.counts[e] += counts[e];
  }

  /**
   * Ends a step: moves the bias by the loads of the whole batch, and clears them.
   * @param done - share of the training done, from 0 to 1: schedules need it
   * @param reduce - adds up the counts of all ranks in place, where there are several
   */
  update(done?: number, reduce?: (counts: Int32Array) => void): void {
    const { policy, bias, counts, average, kernels } = this;
    const speed = valueAt(policy.speed, done);
    reduce?.(counts);
    updateBias(bias, counts, speed, { ...policy, average, kernels });
    counts.fill(0);
  }

  /**
   * The policy's auxiliary loss of a micro-batch, and its gradient: α · Σᵢ fᵢPᵢ over each sequence, or over the batch as a
   * whole. Losses and gradients of all micro-batches and ranks add up to those of the batch.
   * @param scores - [sequences · sequenceLength, experts], as `routeTokens` returns them
   * @param sizes - see {@link BalancedSizes}
   * @param options - `done`: share of the training done, which schedules need; `counts`: over a batch of several
   *   micro-batches, how often each expert is among a token's best scores in all of them (`sequenceBalanceLoss` says why it
   *   must be known first); and where the result goes
   * @returns loss, gradient and the choice of scores alone
   * @throws ERR_BALEEN_ROUTER_SIZES where sizes and lengths do not agree, or counts are missing
   */
  loss(
    scores: Float32Array,
    sizes: BalancedSizes,
    options: { done?: number; counts?: Int32Array; out?: SequenceBalance } = {},
  ): SequenceBalance {
    const { policy, kernels } = this;
    const { sequences, sequenceLength, expertsPerToken, batchSequences = sequences } = sizes;
    checkWhole({ sequences, sequenceLength, batchSequences }, 1);
    const { done, counts, out } = options;
    const whole = policy.lossOver === 'batch';
    if (whole && batchSequences > sequences && !counts)
      refuse(
        'counts',
        `a loss over a batch of ${batchSequences} sequences cannot be taken of ${sequences} alone`,
        'count all micro-batches first, and give options.counts',
      );
    const factor = valueAt(policy.factor, done) / batchSequences;
    const over = whole
      ? { sequences: 1, sequenceLength: sequences * sequenceLength, factor: factor * sequences }
      : { sequences, sequenceLength, factor };
    return sequenceBalanceLoss(
      scores,
      { ...over, experts: this.bias.length, expertsPerToken },
      { kernels, ...(whole && counts && { counts }), ...(out && { out }) },
    );
  }

  /** @returns what to save; counts of a step under way are not part of it */
  state(): BalancerState {
    return { bias: [...this.bias], average: [...this.average] };
  }

  /**
   * Goes on from a saved state.
   * @param state - from {@link Balancer.state}
   * @throws ERR_BALEEN_ROUTER_SIZES for another number of experts, and values that are not finite
   */
  restore({ bias, average }: BalancerState): void {
    const experts = this.bias.length;
    for (const [name, list] of Object.entries({ bias, average })) {
      checkLength(name, list, { experts });
      checkFinite(name, list);
    }
    this.bias.set(bias);
    this.average.set(average);
    this.counts.fill(0);
  }
}

/**
 * Refuses biases that would decide every choice of their expert.
 * @param name - what they are called
 * @param values - one an expert
 * @throws ERR_BALEEN_ROUTER_SIZES where one is not finite in FP32
 */
export function checkFinite(name: string, values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i += 1)
    if (!Number.isFinite(Math.fround(values[i])))
      refuse(
        `${name}[${i}]`,
        `${name}[${i}] (${values[i]}) is not finite`,
        'take an earlier checkpoint: this one is from a run that diverged',
      );
}

/** Share of a moving average of loads that stays a step. */
export const usualDecay = 0.9;

/**
 * Refuses updates that would spoil a bias for good, or silently be others.
 * @param speed - γ
 * @param rule - how the bias follows the loads
 * @param decay - share of the average that stays
 */
export function checkUpdate(speed: number, rule: BiasRule, decay: number): void {
  if (!Number.isFinite(speed))
    refuse('speed', `speed (${speed}) is not finite`, 'V3 has 0.001, and 0 at the end');
  checkOneOf('rule', rule, rules);
  if (!(decay >= 0 && decay < 1))
    refuse('decay', `decay (${decay}) is not in 0 … 1, below 1`, 'take 0.9');
}

/** How {@link updateBias} moves a bias. */
export interface UpdateBiasOptions {
  /** How it follows the loads (default V3's sign). */
  rule?: BiasRule;
  /** Moving average of loads over their mean [experts], changed in place; needed by the rule `ema`. */
  average?: Float32Array;
  /** Share of that average which stays, in 0 … 1 (default 0.9). */
  decay?: number;
  /** Kernels (default: `loadKernels()`). */
  kernels?: Kernels;
}

/**
 * One step of loss-free balancing: bias += speed · sign(gap) or speed · gap, with gap = 1 − count / mean count (or 1 −
 * average with the rule `ema`).
 * @param bias - [experts], changed in place
 * @param counts - tokens each expert got over the whole batch, all micro-batches and ranks
 * @param speed - γ
 * @param options - see {@link UpdateBiasOptions}
 * @returns the bias
 * @throws ERR_BALEEN_ROUTER_SIZES where lengths do not agree, or the average is missing
 */
export function updateBias(
  bias: Float32Array,
  counts: Int32Array,
  speed: number,
  options: UpdateBiasOptions = {},
): Float32Array {
  const { rule = 'sign', average, decay = usualDecay } = options;
  const experts = bias.length;
  checkUpdate(speed, rule, decay);
  checkLength('counts', counts, { experts });
  if (rule === 'ema' && !average)
    refuse('average', 'the rule ema needs the average', 'give an array of ones at first');
  if (average) checkLength('average', average, { experts });
  (options.kernels ?? loadKernels()).updateRouterBias(
    viewOf(bias),
    viewOf(counts),
    rule === 'ema' && average ? viewOf(average) : null,
    { experts, speed, proportional: rule !== 'sign', decay },
  );
  return bias;
}
