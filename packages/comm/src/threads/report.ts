// What a rank's thread begins with, and what it reports when it ends.
import type { JobMemory } from './thread';

/** What a rank's thread begins with. */
export interface RankData {
  readonly job: JobMemory;
  readonly rank: number;
  /** The module that it runs. */
  readonly url: string;
  readonly args: unknown;
}

/** An error as it travels: a structured clone would lose what makes it ours. */
export interface ErrorReport {
  readonly name: string;
  readonly message: string;
  readonly stack: string;
  readonly code?: string;
  readonly hint?: string;
  readonly path?: string;
  readonly ranks?: readonly number[];
}

/** How a rank ended. */
export type RankReport = { result: unknown } | { error: ErrorReport };

/**
 * What to tell of an error.
 * @param thrown - anything
 * @returns its report
 */
export function reportOf(thrown: unknown): ErrorReport {
  if (!(thrown instanceof Error))
    return { name: 'Error', message: String(thrown), stack: String(thrown) };
  const { name, message, stack = message } = thrown;
  const { code, hint, path, ranks } = thrown as Partial<ErrorReport>;
  return {
    name,
    message,
    stack,
    ...(code !== undefined && { code }),
    ...(hint !== undefined && { hint }),
    ...(path !== undefined && { path }),
    ...(ranks !== undefined && { ranks }),
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
