// Errors of this folder: a code, what happened to which path, and what to do.

/** An error as every package throws it. */
export interface DataError extends Error {
  /** `ERR_BALEEN_<AREA>_<WHAT>`. */
  code: string;
  /** What to do. */
  hint: string;
  /** The file or folder, where there is one. */
  path?: string;
}

/**
 * Makes an error.
 * @param code - the part behind `ERR_BALEEN_`
 * @param message - names the thing, its path and its value
 * @param hint - the remedy
 * @param more - path and cause, where there are any
 * @returns the error to throw
 */
export function dataError(
  code: string,
  message: string,
  hint: string,
  more: { path?: string; cause?: unknown } = {},
): DataError {
  return Object.assign(new Error(message), { code: `ERR_BALEEN_${code}`, hint, ...more });
}
