// Errors of this package: what was done in a wrong order, and what no use should bring about.

/**
 * Calls in an order that phases and tapes do not allow.
 * @param message - what was called, and when
 * @param hint - the remedy
 * @returns an error to throw
 */
export function orderError(message: string, hint: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_BALEEN_TENSOR_ORDER', hint });
}

/**
 * A way back without a way there.
 * @returns an error to throw
 */
export function beyondForward(): Error {
  return orderError(
    'backward was called more often than forward',
    'each phase goes back once for every time it went forward',
  );
}

/**
 * A broken invariant.
 * @param message - what was found
 * @returns an error to throw
 */
export function internalError(message: string): Error {
  return Object.assign(new Error(message), {
    code: 'ERR_BALEEN_INTERNAL',
    hint: 'this is a fault of Baleen: please report it',
  });
}
