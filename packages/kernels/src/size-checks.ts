// What functions on arrays refuse before they compute: sizes that cannot be, arrays of another length than their shape's.
// A technique's errors carry its own code.

/** Checks whose errors carry one code. */
export interface SizeChecks {
  /** Throws, naming what it is about. */
  refuse: (path: string, message: string, hint: string) => never;
  /** Refuses sizes that are not whole numbers from `least` (1). */
  whole: (sizes: Readonly<Record<string, number>>, least?: 0 | 1) => void;
  /** Refuses an array of another length than its axes, by name and size, outermost first. */
  length: (
    path: string,
    array: { readonly length: number },
    shape: Readonly<Record<string, number>>,
  ) => void;
}

/**
 * Makes the checks of a technique.
 * @param code - of its errors, such as ERR_BALEEN_MLA_SIZES
 * @returns the checks
 */
export function sizeChecks(code: string): SizeChecks {
  const refuse: SizeChecks['refuse'] = (path, message, hint) => {
    throw Object.assign(new Error(message), { code, path, hint });
  };
  return {
    refuse,
    whole: (sizes, least = 1) => {
      for (const [path, value] of Object.entries(sizes))
        if (!Number.isInteger(value) || value < least)
          refuse(
            path,
            `${path} (${value}) is not a whole number from ${least}`,
            `count from ${least}`,
          );
    },
    length: (path, array, shape) => {
      const sizes = Object.values(shape);
      const expected = sizes.reduce((product, size) => product * size, 1);
      if (array.length !== expected)
        refuse(
          path,
          `${path} holds ${array.length} values, expected ${expected} (${sizes.join(' · ')})`,
          `${path} is [${Object.keys(shape).join(', ')}]`,
        );
    },
  };
}
