// From a measured effect to a verdict, by the inequality that the lab wrote down before.
import type { Lab, LabInequality, LabMeasurements, LabUnit, LabVerdict } from './lab';
import { type Summary, summarize, summarizeRatios } from './statistics';

/** An effect and what is known of it. */
export interface JudgedEffect extends Summary {
  /** The effect pair by pair, or its one exact value. */
  values: readonly number[];
  /** How it came out. */
  verdict: LabVerdict;
}

/**
 * Judges what a lab has measured. The claim holds where the whole 95 % interval fulfils the inequality, fails where no
 * part of it does, and is not resolvable in between. An effect without an interval is judged by its value where it is
 * exact or a run diverged; a single pair resolves nothing.
 * @param lab - whose effect it is
 * @param effect - what it has measured
 * @returns the effect with its verdict
 */
export function judge(
  { effect: { unit }, inequality }: Pick<Lab, 'effect' | 'inequality'>,
  effect: LabMeasurements['effect'],
): JudgedEffect {
  if ('exact' in effect) {
    const { exact: mean, n } = effect;
    const verdict = verdictOf([mean, mean], inequality);
    return { mean, ci95: null, n, smallestResolvable: null, values: [mean], verdict };
  }
  const values = effect.pairs;
  const summary = unit === 'ratio' ? summarizeRatios(values) : summarize(values);
  const { mean, ci95, n } = summary;
  const diverged = n > 0 && !Number.isFinite(mean);
  const range = ci95 ?? (diverged ? ([mean, mean] as const) : null);
  return { ...summary, values, verdict: range ? verdictOf(range, inequality) : 'notResolvable' };
}

function verdictOf(
  [low, high]: readonly [number, number],
  { above, below }: LabInequality,
): LabVerdict {
  // Both runs of a pair diverged: their difference says nothing.
  if (Number.isNaN(low)) return 'notResolvable';
  if ((above === undefined || low > above) && (below === undefined || high < below)) return 'holds';
  const outside = (above !== undefined && high <= above) || (below !== undefined && low >= below);
  return outside ? 'fails' : 'notResolvable';
}

/**
 * An inequality in words.
 * @param lab - whose it is
 * @returns such as `−0.250 % < mean gap < 0.250 %`
 */
export function inequalityText({
  effect: { name, unit },
  inequality: { above, below },
}: Pick<Lab, 'effect' | 'inequality'>): string {
  const low = above === undefined ? '' : `${limit(above, unit)} < `;
  return `${low}${name}${below === undefined ? '' : ` < ${limit(below, unit)}`}`;
}

/** A limit: with all the digits that were given, for a measured figure may lie between it and its first three. */
function limit(value: number, unit: LabUnit): string {
  const shown = unit === 'percent' ? 100 * value : value;
  const given = [3, 4, 5].find((digits) => Number(shown.toPrecision(digits)) === near(shown));
  return labFigure(value, unit, given ?? 6);
}

/** Without what is left of a conversion. */
function near(value: number): number {
  return Number(value.toPrecision(12));
}

/**
 * A figure as people read it.
 * @param value - the figure
 * @param unit - its unit
 * @param precision - digits (default 3)
 * @returns such as `0.250 %` or `× 1.02`
 */
export function labFigure(value: number, unit: LabUnit, precision = 3): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'not a number' : 'diverged';
  const digits = (shown: number): string => {
    const size = Math.abs(shown);
    const text = size >= 100 && precision === 3 ? size.toFixed(0) : size.toPrecision(precision);
    return `${shown < 0 ? '−' : ''}${text}`;
  };
  switch (unit) {
    case 'percent':
      return `${digits(100 * value)} %`;
    case 'ratio':
      return `× ${digits(value)}`;
    case 'number':
      return digits(value);
  }
}
