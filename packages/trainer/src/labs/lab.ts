// What a lab is: a published claim, and further ones that the same runs tell of, measured again at a size that runs here.
// Whatever could be chosen after a look at the result stands in the lab's file before there is one: settings, the effect, and
// the inequality behind the verdict.
import type { Kernels } from '@baleen/kernels';

import type { KernelsUsed } from '../events';

/** What a figure is, and so how it is shown: a plain number, a share shown in percent, or a factor. */
export type LabUnit = 'number' | 'percent' | 'ratio';

/** A figure and its unit. */
export interface LabQuantity {
  /** In words. */
  name: string;
  /** Its unit. */
  unit: LabUnit;
}

/** The claim holds where the effect lies between these; at least one is given. */
export interface LabInequality {
  /** The effect is above this. */
  above?: number;
  /** The effect is below this. */
  below?: number;
}

/** How much time a lab may take: quick ends within 3 minutes on two cores. */
export type LabBudget = 'quick' | 'full';

/** Everything a lab runs with, as JSON holds it. */
export type LabSettings = Readonly<Record<string, unknown>>;

/** A line of a lab's grid of results: cells by the names of their columns. */
export type LabRow = Readonly<Record<string, string | number>>;

/** What a lab is given to run with. */
export interface LabContext {
  /** Kernels to measure with. */
  kernels: Kernels;
  /** The first of its seeds. */
  seed: number;
  /** Aborted by Ctrl-C: the lab ends soon after, by throwing anything. */
  signal: AbortSignal;
  /** Told how far the lab is: a share from 0 to 1, and what it does, the most important first. */
  progress: (share: number, ...parts: string[]) => void;
  /** Adds a line to the grid of results. */
  row: (row: LabRow) => void;
}

/** An effect of which every pair of runs has a value. */
export interface PairedEffect {
  /** Differences or ratios, one a pair. */
  pairs: readonly number[];
}

/** An effect without any spread. */
export interface ExactEffect {
  /** Its value. */
  exact: number;
  /** Settings it was made from. */
  n: number;
}

/** What was measured for one claim. */
export interface ClaimMeasurement {
  /**
   * The effect: a value of every pair of runs (paired by seed and data order), from which mean and interval are made, or
   * a single one.
   */
  effect: PairedEffect | ExactEffect;
  /** What stands beside the published figure (default: the effect). */
  measured?: number;
}

/** What a lab has measured. */
export interface LabMeasurements extends ClaimMeasurement {
  /** The same of its further claims, in their order. */
  further?: readonly ClaimMeasurement[];
  /** Whatever else was seen, in words. */
  notes?: readonly string[];
}

/** A claim and how its verdict is found. */
export interface LabClaim {
  /** The claim, in a sentence. */
  readonly claim: string;
  /** The figure that was published, or words where there is none. */
  readonly published: number | string;
  /** What the published figure is, and the one measured here. */
  readonly quantity: LabQuantity;
  /** What the verdict is about. */
  readonly effect: LabQuantity;
  /** What the effect must fulfil for the claim to hold. */
  readonly inequality: LabInequality;
}

/**
 * A named experiment. Effects in the unit `ratio` are averaged as logarithms: their mean is the geometric one, and none is
 * a factor of 1.
 */
export interface Lab<S extends LabSettings = LabSettings> extends LabClaim {
  /** Its name on the command line. */
  readonly name: string;
  /** Where it was published: paper and section. */
  readonly source: string;
  /** Further claims that the same runs tell of, each with a verdict of its own. */
  readonly further?: readonly LabClaim[];
  /** What it runs with. */
  readonly settings: Readonly<Record<LabBudget, S>>;
  /** Estimates how many seconds these settings take, without running them all. */
  estimate(settings: S, context: Pick<LabContext, 'kernels' | 'seed'>): Promise<number>;
  /** Runs it. */
  run(settings: S, context: LabContext): Promise<LabMeasurements>;
}

/** `holds`, `fails`, or neither at this number of pairs and this spread. */
export type LabVerdict = 'holds' | 'fails' | 'notResolvable';

/** How a claim came out. */
export interface ClaimResult {
  /** The claim. */
  claim: string;
  /** The published figure, or words. */
  published: number | string;
  /** What was measured in its place. */
  measured: number;
  /** The effect; not finite where a run diverged. */
  effect: number;
  /** Its 95 % interval; null for an exact effect, for a single pair, and where a run diverged. */
  ci95: readonly [number, number] | null;
  /** Pairs, or settings of an exact effect. */
  n: number;
  /** What four of five repetitions would tell from no effect, at this n and this spread; null like `ci95`. */
  smallestResolvableEffect: number | null;
  /** How it came out. */
  verdict: LabVerdict;
}

/** The line of `lab --json`. */
export interface LabResult extends ClaimResult {
  /** The lab's name. */
  lab: string;
  /** Where its claims were published. */
  source: string;
  /** How long it took. */
  seconds: number;
  /** Its further claims; absent where it has none. */
  further?: readonly ClaimResult[];
}

/** What is settled of a claim before the lab runs. */
export interface ClaimPlan {
  /** What the figures are. */
  quantity: LabQuantity;
  /** What the verdict is about. */
  effectOf: LabQuantity;
  /** What the effect must fulfil, as numbers. */
  inequality: LabInequality;
  /** The same in words. */
  holdsIf: string;
}

/** What is settled before a lab runs. */
export interface LabPlan extends ClaimPlan {
  /** Quick or full. */
  budget: LabBudget;
  /** The first seed. */
  seed: number;
  /** Everything it runs with. */
  settings: LabSettings;
  /** What is settled of its further claims; absent where it has none. */
  further?: readonly ClaimPlan[];
}

/** All there is to know about a lab that ran. */
export interface LabRecord {
  /** The line of `lab --json`. */
  result: LabResult;
  /** What was settled before. */
  plan: LabPlan;
  /** The grid of results. */
  rows: readonly LabRow[];
  /** The effect pair by pair; one value where it is exact. */
  values: readonly number[];
  /** The same of its further claims; absent where it has none. */
  furtherValues?: readonly (readonly number[])[];
  /** Whatever else was seen. */
  notes: readonly string[];
  /** Which kernels ran. */
  kernels: KernelsUsed;
  /** When it began, ISO 8601. */
  time: string;
}
