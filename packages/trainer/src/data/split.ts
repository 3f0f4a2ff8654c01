// The held-out split: every n-th document is for evaluation. Text that comes as too few documents is cut first.
import type { TextDocument } from './documents';
import { dataError } from './errors';

/** Documents for training and for evaluation. */
export interface DocumentSplit {
  /** What the model is trained on. */
  train: TextDocument[];
  /** What it is judged by. */
  heldOut: TextDocument[];
}

// Pieces of cut text have about this many characters, fewer where the text would otherwise give too few pieces.
const pieceCharacters = 4096;
const leastCharacters = 64;

/**
 * Splits documents: the n-th, 2n-th … are held out. Where there are fewer than n, each is cut into pieces of a few
 * thousand characters at paragraph borders, every n-th piece is held out, and the pieces between stay together.
 * @param documents - all documents
 * @param heldOutEvery - n ≥ 2
 * @returns both parts, each with at least one document
 * @throws `ERR_BALEEN_DATA_SHORT` for text that is too short to hold any out
 */
export function splitDocuments(
  documents: readonly TextDocument[],
  heldOutEvery: number,
): DocumentSplit {
  const isHeldOut = (index: number) => index % heldOutEvery === heldOutEvery - 1;
  if (documents.length >= heldOutEvery)
    return {
      train: documents.filter((_, index) => !isHeldOut(index)),
      heldOut: documents.filter((_, index) => isHeldOut(index)),
    };
  const characters = documents.reduce((sum, { text }) => sum + text.length, 0);
  const size = Math.min(pieceCharacters, Math.floor(characters / (4 * heldOutEvery)));
  if (size < leastCharacters) {
    const least = 4 * heldOutEvery * leastCharacters;
    throw dataError(
      'DATA_SHORT',
      `the text has ${characters} characters, too few to cut and hold one piece in ${heldOutEvery} out`,
      `give at least ${least} characters of text, or a smaller data.heldOutEvery`,
    );
  }
  const split: DocumentSplit = { train: [], heldOut: [] };
  let index = 0;
  for (const whole of documents) {
    const pieces = cutText(whole.text, size);
    let open: TextDocument | null = null;
    pieces.forEach((piece, part) => {
      const document = { ...whole, name: `${whole.name} (part ${part + 1})`, text: piece };
      if (isHeldOut(index)) {
        split.heldOut.push(document);
        open = null;
      } else if (open) open.text += piece;
      else split.train.push((open = document));
      index += 1;
    });
  }
  return split;
}

/**
 * Cuts text at the best border behind every `size` characters: a blank line, else a line's end, else a space.
 * @param text - any text
 * @param size - characters of a piece, at least; at most three times as many
 * @returns pieces that are the text again when joined
 */
export function cutText(text: string, size: number): string[] {
  const pieces: string[] = [];
  let start = 0;
  // Cutting ends early enough to leave `size` characters for the last piece.
  while (text.length - start > 3 * size) {
    const window = text.slice(start + size, start + 2 * size);
    const border = /\n[^\S\n]*\n\s*/.exec(window) ?? /\n\s*/.exec(window) ?? /\s+/.exec(window);
    let end = start + size + (border ? border.index + border[0].length : 0);
    // Never between the two halves of a character outside the basic plane.
    if (/^[\uDC00-\uDFFF]/.test(text.slice(end, end + 1))) end += 1;
    pieces.push(text.slice(start, end));
    start = end;
  }
  if (start < text.length) pieces.push(text.slice(start));
  return pieces;
}
