// Text from files and folders. A file that is named must be text; in a folder, what is not text is passed over.
import { constants, isUtf8 } from 'node:buffer';
import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';

import type { TextDocument } from './documents';
import { dataError } from './errors';

// What a person would call text by its name: in a folder, such a file is never passed over in silence.
const textName = /\.(txt|text|md|markdown)$/i;

/**
 * Reads a file, or every text file below a folder in the order of their names. Names that begin with a dot and
 * `node_modules` are left out, as are empty files and, unless called .txt or .md, files that are not text.
 * @param path - file or folder
 * @returns a document a file, named by its path, without a byte order mark
 * @throws `ERR_BALEEN_DATA_ABSENT`, `_UNREADABLE`, `_EMPTY`, `_BINARY`, `_LARGE`
 */
export function readTextFiles(path: string): TextDocument[] {
  const stats = statOf(path);
  if (!stats.isDirectory()) return [{ name: path, text: readText(path, stats) }];
  const files: TextDocument[] = [];
  walk(path, files);
  if (files.length === 0)
    throw dataError(
      'DATA_EMPTY',
      `${path}: the folder holds no text`,
      'put UTF-8 text files (.txt, .md or others) into it',
      { path },
    );
  return files;
}

function walk(folder: string, files: TextDocument[]): void {
  const entries = unlessUnreadable(folder, () => readdirSync(folder, { withFileTypes: true }));
  // By code unit, not by locale: the same folder gives the same documents everywhere.
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    if (entry.name.startsWith('.') || entry.name === 'node_modules') continue;
    const path = join(folder, entry.name);
    // Folders behind links are left out: they could lead round in a circle.
    if (entry.isDirectory()) walk(path, files);
    else {
      const stats = unlessUnreadable(path, () => statSync(path, { throwIfNoEntry: false }));
      if (!stats?.isFile()) continue;
      const text = textName.test(entry.name) ? readTextOrBlank(path, stats) : sniff(path, stats);
      if (text !== null && text.trim() !== '') files.push({ name: path, text });
    }
  }
}

function statOf(path: string): Stats {
  const stats = unlessUnreadable(path, () => statSync(path, { throwIfNoEntry: false }));
  if (!stats) throw dataError('DATA_ABSENT', `${path} does not exist`, 'check the path', { path });
  if (!stats.isDirectory() && !stats.isFile())
    throw dataError(
      'DATA_UNREADABLE',
      `${path} is neither a file nor a folder`,
      'name a text file or a folder of text files',
      { path },
    );
  return stats;
}

/** The text of a named file, which must have some. */
function readText(path: string, stats: Stats): string {
  const text = readTextOrBlank(path, stats);
  if (text.trim() === '')
    throw dataError('DATA_EMPTY', `${path}: the file is empty`, 'name a file with text in it', {
      path,
    });
  return text;
}

function readTextOrBlank(path: string, stats: Stats): string {
  const bytes = readBytes(path, stats);
  const fault = faultOf(bytes);
  if (fault)
    throw dataError('DATA_BINARY', `${path} is not UTF-8 text: ${fault.what}`, fault.hint, {
      path,
    });
  return decode(bytes);
}

/** The text of a file that may be anything, or null. */
function sniff(path: string, stats: Stats): string | null {
  const bytes = readBytes(path, stats);
  return faultOf(bytes) ? null : decode(bytes);
}

function readBytes(path: string, stats: Stats): Uint8Array {
  if (stats.size > constants.MAX_STRING_LENGTH)
    throw dataError(
      'DATA_LARGE',
      `${path}: ${stats.size} bytes exceed the ${constants.MAX_STRING_LENGTH} that one document may have`,
      'cut it into several files and name their folder',
      { path },
    );
  return unlessUnreadable(path, () => readFileSync(path));
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** What makes bytes something else than UTF-8 text, or null. */
function faultOf(bytes: Uint8Array): { what: string; hint: string } | null {
  const mark = bytes[0] * 256 + bytes[1];
  if (mark === 0xfffe || mark === 0xfeff) return { what: 'it is UTF-16', hint: 'save it as UTF-8' };
  const zero = bytes.indexOf(0);
  if (zero >= 0)
    return { what: `byte ${zero} is zero`, hint: 'convert it to plain text, or leave it out' };
  if (!isUtf8(bytes))
    return { what: 'a byte sequence is invalid', hint: 'save it as UTF-8, or leave it out' };
  return null;
}

function unlessUnreadable<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw dataError(
      'DATA_UNREADABLE',
      `${path} cannot be read: ${(error as Error).message}`,
      'check the path and its permissions',
      { path, cause: error },
    );
  }
}
