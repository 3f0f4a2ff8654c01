// Errors that travel from one rank to whoever started it.

/** An error as it travels between threads or processes: a structured clone, or JSON, would lose what makes it ours. */
export interface ErrorReport {
  /** Its class. */
  readonly name: string;
  /** What went wrong. */
  readonly message: string;
  /** Where. */
  readonly stack: string;
  /** Such as `ERR_BALEEN_COMM_DEADLINE`. */
  readonly code?: string;
  /** The remedy. */
  readonly hint?: string;
  /** What it is about. */
  readonly path?: string;
  /** Ranks that are to blame, as their group counts them. */
  readonly ranks?: readonly number[];
  /** The same ranks as the job counts them. */
  readonly jobRanks?: readonly number[];
}

/**
 * What to tell of an error.
 * @param thrown - anything
 * @returns its report
 */
export function reportOf(thrown: unknown): ErrorReport {
  if (!(thrown instanceof Error))
    return { name: 'Error', message: String(thrown), stack: String(thrown) };
  const { name, message, stack = message } = thrown;
  const { code, hint, path, ranks, jobRanks } = thrown as Partial<ErrorReport>;
  return {
    name,
    message,
    stack,
    ...(code !== undefined && { code }),
    ...(hint !== undefined && { hint }),
    ...(path !== undefined && { path }),
    ...(ranks !== undefined && { ranks }),
    ...(jobRanks !== undefined && { jobRanks }),
  };
}

/**
 * The error of a report.
 * @param report - of another thread
 * @returns an error with the same fields
 */
export function errorOfReport({ name, message, stack, ...fields }: ErrorReport): Error {
  return Object.assign(new Error(message), { name, stack, ...fields });
}
