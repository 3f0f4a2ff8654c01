// Errors as the command line shows them: a code, a message, what it is about, and the remedy.

/** A failure as `--json` prints it under `error`. */
export interface Failure {
  /** `ERR_BALEEN_<AREA>_<WHAT>`, or the system's code. */
  code: string;
  /** What is wrong, with the thing, the key or path and the value. */
  message: string;
  /** The key, flag or file it is about, or null. */
  path: string | null;
  /** What to do, or null when there is nothing to say. */
  hint: string | null;
}

/**
 * An error of the person at the keyboard: exit code 2.
 * @param what - last part of the code, such as `FLAG`
 * @param message - the thing, its name and its value
 * @param hint - the remedy
 * @param path - the flag, key or file
 * @returns an error to throw
 */
export function usageError(what: string, message: string, hint: string, path?: string): Error {
  return Object.assign(new Error(message), {
    code: `ERR_BALEEN_USAGE_${what}`,
    hint,
    ...(path === undefined ? {} : { path }),
  });
}

/**
 * An error in the configuration: exit code 2.
 * @param what - last part of the code, such as `FILE`
 * @param message - the thing, its name and its value
 * @param hint - the remedy
 * @param path - the key or file
 * @returns an error to throw
 */
export function configError(what: string, message: string, hint: string, path?: string): Error {
  return Object.assign(new Error(message), {
    code: `ERR_BALEEN_CONFIG_${what}`,
    hint,
    ...(path === undefined ? {} : { path }),
  });
}

const report = 'this is a fault of Baleen: please report it';

/**
 * An error that no use should bring about; it is shown with its stack.
 * @param message - what was found, and where
 * @returns an error to throw
 */
export function internalError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_BALEEN_INTERNAL', hint: report });
}

/** Remedies for what the operating system refuses. */
const systemHints: Readonly<Partial<Record<string, string>>> = {
  ENOSPC: 'the disk is full: make room, or choose another folder with --out, and resume the run',
  EDQUOT: 'the quota is used up: make room, or choose another folder with --out',
  EACCES: 'choose a folder that may be written to, with --out',
  EPERM: 'choose a folder that may be written to, with --out',
  EROFS: 'the file system is read-only: choose another folder with --out',
  ENOENT: 'check the path',
  ENOTDIR: 'check the path: one of its parts is a file',
  EISDIR: 'give a file, not a folder',
  EMFILE: 'too many files are open: raise the limit with ulimit -n',
  ENOMEM: 'memory is used up: `baleen train --dry-run` estimates what a run needs',
};

/**
 * Reads a thrown value.
 * @param error - anything that was thrown
 * @returns the failure to show
 */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error))
    return { code: 'ERR_BALEEN_INTERNAL', message: String(error), path: null, hint: null };
  const { code, path, hint } = error as { code?: unknown; path?: unknown; hint?: unknown };
  const known = typeof code === 'string' ? code : 'ERR_BALEEN_INTERNAL';
  const remedy = typeof hint === 'string' ? hint : (systemHints[known] ?? null);
  return {
    code: known,
    message: error.message,
    path: typeof path === 'string' ? path : null,
    hint: remedy ?? (isExpected(known) ? null : report),
  };
}

/** Whether the code says that somebody foresaw the failure (a stack would only bury its message). */
function isExpected(code: string): boolean {
  return (code.startsWith('ERR_BALEEN_') && code !== 'ERR_BALEEN_INTERNAL') || code in systemHints;
}

/**
 * The stack of an error that nobody foresaw.
 * @param error - anything that was thrown
 * @returns the stack's lines below the message, or an empty string for foreseen errors
 */
export function stackOf(error: unknown): string {
  if (!(error instanceof Error) || isExpected(failureOf(error).code)) return '';
  const lines = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return lines.slice(0, 8).join('\n');
}

/**
 * The exit code of a failure: 2 when the command or configuration is at fault, else 1.
 * @param code - the failure's code
 * @returns the exit code
 */
export function exitCodeOf(code: string): 1 | 2 {
  return /^ERR_BALEEN_(CONFIG|USAGE)_/.test(code) ? 2 : 1;
}
