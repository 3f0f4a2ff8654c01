// Errors of this package: a code, the place in the schedule or the name of the size, and the remedy.

/**
 * An error to throw.
 * @param what - the end of the code: ERR_BALEEN_SCHEDULE_<what>
 * @param path - such as `actions[3][17]`, or a size's name
 * @param message - the thing, its name and its value
 * @param hint - the remedy
 * @returns the error
 */
export function scheduleError(what: string, path: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), { code: `ERR_BALEEN_SCHEDULE_${what}`, path, hint });
}

/**
 * Refuses sizes that are not whole numbers.
 * @param sizes - by name
 * @param least - what they are at least
 * @throws ERR_BALEEN_SCHEDULE_SIZES
 */
export function checkWhole(sizes: Readonly<Record<string, number>>, least = 1): void {
  for (const [path, value] of Object.entries(sizes))
    if (!Number.isSafeInteger(value) || value < least)
      throw scheduleError(
        'SIZES',
        path,
        `${path} (${value}) is not a whole number from ${least}`,
        `count from ${least}`,
      );
}

/**
 * Refuses numbers that are negative or not finite.
 * @param what - the end of the code
 * @param values - by name
 * @throws ERR_BALEEN_SCHEDULE_<what>
 */
export function checkFinite(what: string, values: Readonly<Record<string, number>>): void {
  for (const [path, value] of Object.entries(values))
    if (!Number.isFinite(value) || value < 0)
      throw scheduleError(
        what,
        path,
        `${path} (${value}) is not a number from 0`,
        'give a finite number that is not negative',
      );
}
