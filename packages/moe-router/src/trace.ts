// A routing trace: the scores that tokens had, to be routed again by another policy, other groups or another top-k, without the
// model. trace-file.ts makes it a file.
import type { Kernels } from '@baleen/kernels';

import { checkLength, checkPlaces, checkWhole, refuse } from './checks';
import { type ChoiceOptions, chooseExperts } from './functions';
import type { LoadSeries } from './loads';
import { type BalancePolicy, Balancer, balancePolicy, checkFinite } from './policy';
import { coActivation, domainLoads } from './telemetry';

/** How a trace's tokens choose experts. */
export type TraceChoice = Omit<ChoiceOptions, 'tokens' | 'experts'>;

/** What one layer's router saw of one micro-batch. */
export interface TraceBatch {
  /** Step of the run; batches of a step follow each other. */
  step: number;
  /** Layer, from 0. */
  layer: number;
  /** Scores without bias, after sigmoid or softmax [tokens, experts]. */
  scores: Float32Array;
  /** Each token's domain [tokens], a place in the trace's `domains`. */
  domains?: Int32Array;
}

/** What routers saw over a run. */
export interface RoutingTrace {
  /** Experts of every layer. */
  experts: number;
  /** Layers. */
  layers: number;
  /** How tokens chose. */
  choice: TraceChoice;
  /** Each layer's bias before the first batch [layers][experts] (default: none). */
  bias?: readonly Float32Array[];
  /** Names of the domains. */
  domains?: readonly string[];
  /** In the order they were routed. */
  batches: readonly TraceBatch[];
}

/** How to route a trace again. */
export interface ReplayOptions {
  /** What differs in how tokens choose. */
  choice?: Partial<TraceChoice>;
  /** How each layer's bias follows its loads (default: it stays); its schedules see the share of steps done. */
  policy?: BalancePolicy;
  /** Each layer's bias at the beginning [layers][experts] (default: the trace's), or none. */
  bias?: readonly Float32Array[] | null;
  /** Kernels (default: `loadKernels()`). */
  kernels?: Kernels;
}

/** What came of a trace that was routed again. */
export interface TraceReplay extends LoadSeries {
  /** How often two experts of a layer served the same token [layers][experts × experts], see `coActivation`. */
  coActivation: Int32Array[];
  /** Tokens each expert got from each domain [layers][domains × experts], see `domainLoads`; null without domains. */
  domainLoads: Int32Array[] | null;
}

function checkBias(
  bias: readonly Float32Array[] | null,
  { layers, experts }: { layers: number; experts: number },
): void {
  if (!bias) return;
  checkLength('bias', bias, { layers });
  bias.forEach((own, layer) => {
    checkLength(`bias[${layer}]`, own, { experts });
    checkFinite(`bias[${layer}]`, own);
  });
}

/**
 * Refuses a trace that cannot be routed.
 * @param trace - see {@link RoutingTrace}
 * @throws ERR_BALEEN_ROUTER_SIZES
 */
export function checkTrace(trace: RoutingTrace): void {
  const { experts, layers, batches, bias, domains } = trace;
  checkWhole({ experts, layers }, 1);
  if (layers > batches.length)
    refuse(
      'layers',
      `layers (${layers}) exceed the batches (${batches.length})`,
      'every layer has at least one batch',
    );
  checkBias(bias ?? null, { layers, experts });
  let last = -Infinity;
  for (const [index, { step, layer, scores, domains: own }] of batches.entries()) {
    const path = `batches[${index}]`;
    if (!Number.isSafeInteger(step) || step < last)
      refuse(
        `${path}.step`,
        `${path}.step (${step}) is no whole number from the one before it on`,
        'keep batches in the order of their steps',
      );
    last = step;
    if (!(Number.isInteger(layer) && layer >= 0 && layer < layers))
      refuse(
        `${path}.layer`,
        `${path}.layer (${layer}) is not in 0 … ${layers - 1}`,
        'count layers with experts, from 0',
      );
    const tokens = scores.length / experts;
    if (!Number.isInteger(tokens))
      refuse(
        `${path}.scores`,
        `${path}.scores holds ${scores.length} values, no multiple of experts (${experts})`,
        'scores are [tokens, experts]',
      );
    if (domains) checkLength(`${path}.domains`, own ?? [], { tokens });
    else if (own)
      refuse(`${path}.domains`, `${path}.domains has no names`, 'name the trace’s domains');
    if (own && domains) checkPlaces(`${path}.domains`, own, domains.length);
  }
}

/**
 * Routes a trace again: the same scores under another policy, other groups or another top-k; without options as they were routed
 * under biases that stayed. What a bias would have changed in the scores themselves, by training, it does not show.
 * @param trace - see {@link RoutingTrace}
 * @param options - see {@link ReplayOptions}
 * @returns loads of each step, to be summarised, drawn or placed, and which experts and domains went together
 * @throws ERR_BALEEN_ROUTER_SIZES for a trace or a choice that cannot be
 */
export function replayTrace(trace: RoutingTrace, options: ReplayOptions = {}): TraceReplay {
  checkTrace(trace);
  const { experts, layers, batches, domains } = trace;
  const { policy = balancePolicy({ speed: 0 }), bias = trace.bias, ...rest } = options;
  const balancers = Array.from({ length: layers }, () => new Balancer(experts, policy, rest));
  checkBias(bias ?? null, { layers, experts });
  bias?.forEach((own, layer) => {
    balancers[layer].bias.set(own);
  });
  const together = balancers.map(() => new Int32Array(experts * experts));
  const byDomain = domains && balancers.map(() => new Int32Array(domains.length * experts));
  const steps = [...new Set(batches.map(({ step }) => step))];
  const loads: Int32Array[][] = [];
  let next = 0;
  for (const [index, step] of steps.entries()) {
    for (; next < batches.length && batches[next].step === step; next += 1) {
      const { layer, scores, domains: own } = batches[next];
      const balancer = balancers[layer];
      const sizes = {
        ...trace.choice,
        ...options.choice,
        tokens: scores.length / experts,
        experts,
      };
      const indices = chooseExperts(scores, sizes, { ...rest, bias: balancer.bias });
      for (const e of indices) balancer.counts[e] += 1;
      coActivation(indices, sizes, { out: together[layer], accumulate: true });
      if (own && byDomain)
        domainLoads(
          indices,
          own,
          { ...sizes, domains: domains.length },
          { out: byDomain[layer], accumulate: true },
        );
    }
    loads.push(balancers.map(({ counts }) => counts.slice()));
    for (const balancer of balancers) balancer.update((index + 1) / steps.length);
  }
  return { steps, loads, coActivation: together, domainLoads: byDomain ?? null };
}
