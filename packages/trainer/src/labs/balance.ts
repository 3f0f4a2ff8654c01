// What labs about balance share: how loads are told, and arms that differ in how they are balanced.
import { maxViolation } from '@baleen/moe-router';

import { mean } from '../step';
import type { LabBudget, LabContext } from './lab';
import { type Arm, type TrainedArm, type TrainingSettings, trainPairs } from './training';

/** What an arm changes in how loads are balanced. */
export interface BalanceArm {
  /** γ (default 0). */
  speed?: number;
  /** How biases follow the loads (default sign). */
  rule?: 'sign' | 'proportional';
  /** α (default 0). */
  factor?: number;
  /** What that loss balances (default each sequence). */
  lossOver?: 'sequence' | 'batch';
}

/**
 * An arm of an experiment about balance.
 * @param balance - how it balances; nothing for not at all
 * @returns what it changes
 */
export function balanceArm({ speed = 0, rule, factor = 0, lossOver }: BalanceArm = {}): Arm {
  return {
    changes: {
      schedule: { biasSpeed: { speed }, balanceFactor: factor },
      balance: { ...(rule && { rule }), ...(lossOver && { lossOver }) },
    },
  };
}

/** What is kept of a run that ended. */
export type Ended = Pick<TrainedArm, 'loss' | 'loads'>;

/** What labs about balance run with: a preset on its real text, shortened for `quick`, as many pairs as fit into minutes. */
export const balanceSettings = (
  pairs: Record<LabBudget, number>,
  steps = 200,
): Record<LabBudget, TrainingSettings> => ({
  quick: {
    preset: 'tiny',
    pairs: pairs.quick,
    changes: {
      precision: 'bf16',
      steps,
      model: { mtp: { depth: 0 } },
      schedule: { learningRate: { peak: 2e-3, end: 2e-4, finalShares: [] } },
      evaluation: { every: 0, stride: 0 },
    },
  },
  full: {
    preset: 'small',
    pairs: pairs.full,
    changes: { precision: 'bf16', steps: 1000, evaluation: { every: 0, stride: 0 } },
  },
});

/**
 * Trains every arm with every seed, and adds a line of each to the grid.
 * @param settings - preset, changes and number of pairs
 * @param arms - what differs, by name
 * @param context - the lab's
 * @returns of each arm a function from what is read of a run to one value a pair
 */
export async function trainBalanced<Name extends string>(
  settings: TrainingSettings,
  arms: Readonly<Record<Name, Arm>>,
  context: LabContext,
): Promise<(arm: Name, of: (ended: Ended) => number) => number[]> {
  const seen: Record<Name, Ended>[] = [];
  await trainPairs(settings, arms, context, (seed, trained) => {
    const ended: Partial<Record<Name, Ended>> = {};
    for (const arm of Object.keys(arms) as Name[]) {
      const { loss, loads } = trained[arm];
      ended[arm] = { loss, loads };
      context.row({
        seed,
        arm,
        perplexity: Math.exp(loss),
        MaxVio: globalViolation({ loss, loads }),
        'idlest expert': idlestShare({ loss, loads }),
      });
    }
    seen.push(ended as Record<Name, Ended>);
  });
  return (arm, of) => seen.map((ended) => of(ended[arm]));
}

/**
 * What arms came to on the mean of all pairs, to stand beside a paper's table.
 * @param arms - by name
 * @param all - from {@link trainBalanced}
 * @returns a line an arm
 */
export function armMeans<Name extends string>(
  arms: Readonly<Record<Name, Arm>>,
  all: (arm: Name, of: (ended: Ended) => number) => number[],
): string[] {
  return (Object.keys(arms) as Name[]).map((arm) => {
    const [perplexity, violation] = [perplexityOf, globalViolation].map((of) => mean(all(arm, of)));
    return `${arm}: perplexity ${perplexity.toFixed(3)}, MaxVio ${violation.toFixed(3)}`;
  });
}

/** Held-out loss, nats a token. */
export const lossOf = ({ loss }: Ended): number => loss;
/** Held-out perplexity a token. */
export const perplexityOf = ({ loss }: Ended): number => Math.exp(loss);

/**
 * What one list has for every unit of another, pair by pair.
 * @param above - one value a pair
 * @param below - the other's
 * @returns above / below
 */
export function ratios(above: readonly number[], below: readonly number[]): number[] {
  return above.map((value, i) => value / below[i]);
}

/**
 * MaxVio over the held-out text, mean over layers (arXiv 2408.15664, §4.1).
 * @param arm - a run that ended
 * @returns it; infinite where the run diverged
 */
export function globalViolation({ loads }: Ended): number {
  return loads.length === 0 ? Infinity : mean(loads.map(maxViolation));
}

/**
 * How much the idlest expert of a layer has, mean over layers.
 * @param arm - a run that ended
 * @returns its load over the mean load; NaN where the run diverged
 */
export function idlestShare({ loads }: Ended): number {
  if (loads.length === 0) return NaN;
  return mean(loads.map((load) => Math.min(...load) / mean(load)));
}
