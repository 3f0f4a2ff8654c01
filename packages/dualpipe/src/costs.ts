// What computations take, as four numbers.
import { checkFinite } from './errors';
import type { Compute } from './schedule';

/** Times of one stage and one micro-batch, in any unit: everything that is computed from them has the same. */
export interface Costs {
  /** A forward, F. */
  forward: number;
  /** A gradient of the input, Bᵢ. The report's B is a full backward: Bᵢ + W. */
  inputGrad: number;
  /** A gradient of the weights, W. */
  weightGrad: number;
  /** An overlapped pair, F&B (default F + Bᵢ + W: nothing gained). */
  overlap?: number;
}

/** Costs with nothing left open. */
export type FullCosts = Required<Costs>;

/**
 * Fills in what is left out.
 * @param costs - of a stage
 * @returns the same, complete
 * @throws ERR_BALEEN_SCHEDULE_COSTS for a time that is negative or not finite
 */
export function fullCosts({ forward, inputGrad, weightGrad, overlap }: Costs): FullCosts {
  const full = {
    forward,
    inputGrad,
    weightGrad,
    overlap: overlap ?? forward + inputGrad + weightGrad,
  };
  checkFinite('COSTS', full);
  return full;
}

/** Time of a computation. */
export function durationOf(action: Compute, costs: FullCosts): number {
  return action.kind === 'fullBackward' ? costs.inputGrad + costs.weightGrad : costs[action.kind];
}
