// Errors of this package: a code, what is at fault by name and value, the remedy, and the ranks that are to blame.

/** Which ranks an error names, and which argument. */
export interface Blame {
  /** The argument at fault. */
  path?: string;
  /** The ranks at fault, of the communicator that the call was made on. */
  ranks?: readonly number[];
  /** The same ranks as the job counts them. */
  jobRanks?: readonly number[];
}

/**
 * An error to throw.
 * @param what - the end of the code: ERR_BALEEN_COMM_<what>
 * @param message - the thing, its name and its value
 * @param hint - the remedy
 * @param blame - the argument or the ranks at fault
 * @returns the error
 */
export function commError(what: string, message: string, hint: string, blame: Blame = {}): Error {
  return Object.assign(new Error(message), { code: `ERR_BALEEN_COMM_${what}`, hint, ...blame });
}
