// Numbers given as flags, checked where they are read.
import { type NumberLimits, numberInWords } from '@baleen/trainer';

import { usageError } from './errors';

/**
 * A parser for a flag's number.
 * @param flag - its name, for messages
 * @param limits - what it must be
 * @returns text to number; throws `ERR_BALEEN_USAGE_VALUE`
 */
export function numberFlag(
  flag: string,
  limits: Pick<NumberLimits, 'least' | 'above' | 'most' | 'whole'> = {},
): (text: string) => number {
  const { least = -Infinity, above = -Infinity, most = Infinity } = limits;
  return (text) => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (
      Number.isFinite(value) &&
      value >= least &&
      value > above &&
      value <= most &&
      (!limits.whole || Number.isInteger(value))
    )
      return value;
    const wanted = numberInWords(limits);
    throw usageError('VALUE', `${flag} (${text}) is not ${wanted}`, `give ${wanted}`, flag);
  };
}
