// What attention refuses before it computes, and how it says so.

function sizeError(path: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_BALEEN_MLA_SIZES', path, hint });
}

/** Refuses sizes that are not whole numbers from 1. */
export function checkWhole(sizes: Readonly<Record<string, number>>): void {
  for (const [path, value] of Object.entries(sizes))
    if (!Number.isInteger(value) || value < 1)
      throw sizeError(path, `${path} (${value}) is not a whole number from 1`, 'count from 1');
}

/** Refuses more queries than keys: the queries are the last of the sequence's positions. */
export function checkQueries(queries: number, keys: number): void {
  if (keys < queries)
    throw sizeError(
      'keys',
      `keys (${keys}) are fewer than queries (${queries})`,
      'count cached and new positions: a query sees itself and what is before it',
    );
}

/** Refuses a rotary width that does not divide into pairs. */
export function checkPairs(ropeDim: number): void {
  if (ropeDim % 2 !== 0)
    throw sizeError('ropeDim', `ropeDim (${ropeDim}) is odd`, 'rotary pairs need an even width');
}

/** Refuses positions without an entry in the rotary tables. */
export function checkPositions(keys: number, positions: number): void {
  if (keys > positions)
    throw Object.assign(
      new Error(`a sequence of ${keys} exceeds the rotary tables' ${positions} positions`),
      {
        code: 'ERR_BALEEN_MLA_SEQUENCE',
        path: 'keys',
        hint: 'raise maxSequence, or extend it with YaRN',
      },
    );
}

/**
 * Refuses an array of another length than its shape's.
 * @param path - what it is to the caller
 * @param array - the array
 * @param shape - its axes by name and size, outermost first
 */
export function checkLength(
  path: string,
  array: { readonly length: number },
  shape: Readonly<Record<string, number>>,
): void {
  const sizes = Object.values(shape);
  const expected = sizes.reduce((product, size) => product * size, 1);
  if (array.length !== expected)
    throw sizeError(
      path,
      `${path} holds ${array.length} values, expected ${expected} (${sizes.join(' · ')})`,
      `${path} is [${Object.keys(shape).join(', ')}]`,
    );
}

/** Refuses an array to write into that is of another type than the precision's. */
export function checkPrecision(
  path: string,
  array: Float32Array | Uint16Array,
  precision: 'fp32' | 'bf16',
): void {
  const type = precision === 'bf16' ? Uint16Array : Float32Array;
  if (!(array instanceof type))
    throw sizeError(path, `${path} is no ${type.name}`, `precision is ${precision}`);
}
