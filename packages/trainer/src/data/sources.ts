// Where text comes from: names of text packages, files and folders become a list of documents.
import type { TextDocument } from './documents';
import { dataError } from './errors';
import { readTextFiles } from './files';
import { loadTextPackage, textPackages } from './packages';

/**
 * Loads text.
 * @param sources - `moby-dick` or `sotu` (optional packages), or paths of files and folders; a path that is called
 * like a package is written `./moby-dick`
 * @returns the documents, in the order of the sources
 * @throws `ERR_BALEEN_DATA_PACKAGE` (a package is missing), `_ABSENT`, `_UNREADABLE`, `_EMPTY`, `_BINARY`, `_LARGE`
 */
export async function loadDocuments(sources: readonly string[]): Promise<TextDocument[]> {
  const documents: TextDocument[] = [];
  for (const source of sources)
    for (const document of (await loadTextPackage(source)) ?? fromFiles(source))
      documents.push({ ...document, source });
  return documents;
}

function fromFiles(path: string): TextDocument[] {
  try {
    return readTextFiles(path);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_BALEEN_DATA_ABSENT') throw error;
    throw dataError(
      'DATA_ABSENT',
      `data source ${path} does not exist`,
      `check the path, or name one of the texts ${Object.keys(textPackages).join(', ')}`,
      { path },
    );
  }
}
