// Byte-level spelling: how tokenizer files write bytes as characters, and where text is cut into words before merging.
//
// Both are GPT-2's (Radford et al. 2019), as every byte-level tokenizer file has them: printable characters of Latin-1
// stand for their own byte, the rest are counted from U+0100, so that a space is written Ġ and a line's end Ċ.

/** The character that stands for each byte. */
export const byteCharacters: readonly string[] = makeCharacters();

/** The byte that a character stands for. */
const characterBytes: ReadonlyMap<string, number> = new Map(
  byteCharacters.map((character, byte) => [character, byte]),
);

function makeCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}

/**
 * Bytes of a token as a tokenizer file spells it.
 * @param spelling - characters of the byte alphabet
 * @returns its bytes, or null where another character is among them
 */
export function spelledBytes(spelling: string): Uint8Array | null {
  const bytes: number[] = [];
  for (const character of spelling) {
    const byte = characterBytes.get(character);
    if (byte === undefined) return null;
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

// White space is Unicode's, which is not quite JavaScript's \s: the next line U+0085 is in it, U+FEFF is not.
const space = String.raw`\p{White_Space}`;

/** Words: a contraction's end, or letters, digits or other signs with the space before them, or white space. */
const wordPattern: string = [
  "'s|'t|'re|'ve|'m|'ll|'d",
  String.raw` ?\p{L}+`,
  String.raw` ?\p{N}+`,
  String.raw` ?[^${space}\p{L}\p{N}]+`,
  String.raw`${space}+(?!\P{White_Space})`,
  `${space}+`,
].join('|');

/**
 * Cuts text into the words inside which bytes are merged.
 * @param text - any text
 * @param visit - is given each word; joined, they are the text
 */
export function forEachWord(text: string, visit: (word: string) => void): void {
  const pattern = new RegExp(wordPattern, 'gu');
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) visit(match[0]);
}
