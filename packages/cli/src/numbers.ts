// Numbers given as flags, checked where they are read.
import { usageError } from './errors';

/** What a number must be. */
export interface NumberLimits {
  /** Smallest. */
  least?: number;
  /** Largest. */
  most?: number;
  /** A whole number. */
  whole?: boolean;
}

/**
 * A parser for a flag's number.
 * @param flag - its name, for messages
 * @param limits - what it must be
 * @returns text to number; throws `ERR_BALEEN_USAGE_VALUE`
 */
export function numberFlag(flag: string, limits: NumberLimits = {}): (text: string) => number {
  const { least = -Infinity, most = Infinity } = limits;
  return (text) => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (
      Number.isFinite(value) &&
      value >= least &&
      value <= most &&
      (!limits.whole || Number.isInteger(value))
    )
      return value;
    const kind = limits.whole ? 'a whole number' : 'a number';
    const range = [
      ...(least > -Infinity ? [`from ${least}`] : []),
      ...(most < Infinity ? [`to ${most}`] : []),
    ].join(' ');
    throw usageError(
      'VALUE',
      `${flag} (${text}) is not ${kind}${range === '' ? '' : ` ${range}`}`,
      `give ${kind}${range === '' ? '' : ` ${range}`}`,
      flag,
    );
  };
}
