// What a number must be, in words: the remedy for one that is not so.

/** What a number must be. */
export interface NumberLimits {
  /** Smallest. */
  least?: number;
  /** What it must exceed. */
  above?: number;
  /** Largest. */
  most?: number;
  /** What it must stay below. */
  below?: number;
  /** A whole number. */
  whole?: boolean;
}

/**
 * Limits in words.
 * @param limits - any of them
 * @returns such as `a whole number from 1` or `a number above 0`
 */
export function numberInWords({ least, above, most, below, whole }: NumberLimits): string {
  return [
    whole ? 'a whole number' : 'a number',
    ...(least === undefined ? [] : [`from ${least}`]),
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(most === undefined ? [] : [`to ${most}`]),
    ...(below === undefined ? [] : [`to below ${below}`]),
  ].join(' ');
}
