// Folders, with those above them. Not by `mkdir`'s own recursion: where the system has no place for a folder in one that
// is there (ENOENT in /proc), Node.js 20 tries again without end.
import { existsSync, mkdirSync, rmdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/**
 * Makes a folder, and those above it that are missing. If it cannot, none stays behind.
 * @param path - the folder; it may be there already
 * @returns the first that was made, or undefined when none was
 * @throws `ERR_BALEEN_USAGE_FOLDER` where a file or a link to nowhere lies, and where the folder above takes none; else the system's error
 */
export function makeFolder(path: string): string | undefined {
  const missing: string[] = [];
  for (let at = resolve(path); !existsSync(at) && at !== dirname(at); at = dirname(at))
    missing.unshift(at);
  let first: string | undefined;
  for (const folder of missing)
    try {
      mkdirSync(folder);
      first ??= folder;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Another process made it meanwhile.
      if (code === 'EEXIST' && existsSync(folder)) continue;
      const above = dirname(folder);
      removeEmpty(above, first);
      if (code === 'EEXIST')
        throw unusable(path, `cannot be made: ${folder} is a link to nowhere`, error);
      if (code !== 'ENOENT') throw error;
      // Another process took the one above away meanwhile.
      if (!existsSync(above)) return makeFolder(path);
      throw unusable(path, `cannot be made: ${above} takes no folders`, error);
    }
  if (!statSync(path).isDirectory()) throw unusable(path, 'is a file');
  return first;
}

/**
 * Removes a folder and those above it up to the first that was made, as far as they are empty.
 * @param folder - the lowest
 * @param first - what {@link makeFolder} returned
 */
export function removeEmpty(folder: string, first: string | undefined): void {
  if (first === undefined) return;
  try {
    for (let at = resolve(folder); at.length >= first.length; at = dirname(at)) rmdirSync(at);
  } catch {
    // It holds something.
  }
}

function unusable(path: string, why: string, cause?: unknown): Error {
  return Object.assign(new Error(`${path} ${why}`), {
    code: 'ERR_BALEEN_USAGE_FOLDER',
    path,
    hint: 'choose another folder with --out',
    ...(cause === undefined ? {} : { cause }),
  });
}
