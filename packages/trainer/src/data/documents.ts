// What a document is.

/** A piece of text that belongs together: a chapter, a speech, a file. */
export interface TextDocument {
  /** Where it is from: a file's path, or the package's name and the piece's. */
  name: string;
  /** The text. */
  text: string;
  /** The source that it was loaded from, as it was named. */
  source?: string;
}

/**
 * Documents as bytes.
 * @param documents - text
 * @returns the UTF-8 of each
 */
export function documentBytes(documents: readonly TextDocument[]): Uint8Array[] {
  const encoder = new TextEncoder();
  return documents.map(({ text }) => encoder.encode(text));
}
