// A file that a flag names for a result: refused before the work that fills it, complete or absent, and never one that is
// there.
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

import { writeFile } from '@baleen/model/node';

import { usageError } from './errors';

/**
 * Refuses a place for a file before the work that fills it.
 * @param flag - the flag that names it, such as `--profile`
 * @param path - the file
 * @throws `ERR_BALEEN_USAGE_<FLAG>` where it cannot be written
 */
export function checkPlace(flag: string, path: string): void {
  const folder = dirname(path);
  const isFolder = (place: string): boolean => existsSync(place) && statSync(place).isDirectory();
  let fault = '';
  if (!isFolder(folder)) fault = 'lies in a folder that does not exist';
  else if (existsSync(path)) fault = isFolder(path) ? 'is a folder' : 'is there already';
  else
    try {
      accessSync(folder, constants.W_OK);
    } catch {
      fault = 'lies in a folder where you may not write';
    }
  if (fault === '') return;
  throw usageError(
    flag.slice(2).toUpperCase(),
    `${flag} (${path}) ${fault}`,
    'choose another place',
    flag,
  );
}

/**
 * Writes a result, whole or not at all.
 * @param flag - the flag that names the file
 * @param path - the file
 * @param value - the result: text and bytes as they are, anything else as JSON
 * @param code - of the error where it cannot be written
 */
export function writeResult(flag: string, path: string, value: unknown, code: string): void {
  try {
    const asIs = typeof value === 'string' || value instanceof Uint8Array;
    writeFile(path, asIs ? value : JSON.stringify(value));
  } catch (error) {
    throw Object.assign(new Error(`${path} cannot be written: ${(error as Error).message}`), {
      code,
      path: flag,
      hint: 'choose a file where there is room and you may write',
      cause: error,
    });
  }
}
