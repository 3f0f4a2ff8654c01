// What attention refuses before it computes, and how it says so.

import { type SizeChecks, sizeChecks } from '@baleen/kernels';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_MLA_SIZES');
/** See `SizeChecks`. */
export const refuse: SizeChecks['refuse'] = checks.refuse;
/** See `SizeChecks`. */
export const checkWhole: SizeChecks['whole'] = checks.whole;
/** See `SizeChecks`. */
export const checkLength: SizeChecks['length'] = checks.length;

/** Refuses more queries than keys: the queries are the last of the sequence's positions. */
export function checkQueries(queries: number, keys: number): void {
  if (keys < queries)
    refuse(
      'keys',
      `keys (${keys}) are fewer than queries (${queries})`,
      'count cached and new positions: a query sees itself and what is before it',
    );
}

/** Refuses borders that do not cut the rows of one sequence into documents. */
export function checkDocuments(
  documents: Int32Array | undefined,
  { batch, queries, keys }: { batch: number; queries: number; keys: number },
): void {
  if (!documents) return;
  if (batch !== 1 || keys !== queries)
    refuse(
      'documents',
      `documents are packed into one sequence of as many keys as queries, not ${batch} of ${queries} and ${keys}`,
      'put all sequences behind each other, and the borders between them into documents',
    );
  const at = documents.findIndex((border, d) => d > 0 && border < (documents[d - 1] ?? 0));
  const [first, last] = [documents[0], documents.at(-1)];
  if (first !== 0 || last !== queries || at >= 0)
    refuse(
      'documents',
      at < 0
        ? `documents go from ${first} to ${last}, expected 0 to ${queries}`
        : `documents[${at}] (${documents[at]}) is below the border before it`,
      'list the first row of every document, ascending from 0, and then the number of rows',
    );
}

/** Refuses documents where they cannot be kept apart. */
export function refuseDocuments(): never {
  return refuse(
    'documents',
    'the absorbed form keeps no documents apart',
    'train in the expanded form, or without a mask',
  );
}

/** Refuses a rotary width that does not divide into pairs. */
export function checkPairs(path: string, width: number): void {
  if (width % 2 !== 0) refuse(path, `${path} (${width}) is odd`, 'rotary pairs need an even width');
}

/** Refuses a base of frequencies that would not fall from pair to pair. */
export function checkTheta(theta: number): void {
  if (!(theta > 1) || !Number.isFinite(theta))
    refuse('theta', `theta (${theta}) is not a number above 1`, 'V3 has 10000');
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

/** Refuses an array to write into that is of another type than the precision's. */
export function checkPrecision(
  path: string,
  array: Float32Array | Uint16Array,
  precision: 'fp32' | 'bf16',
): void {
  const type = precision === 'bf16' ? Uint16Array : Float32Array;
  if (!(array instanceof type))
    refuse(path, `${path} is no ${type.name}`, `precision is ${precision}`);
}
