// Where packed documents begin, from the document of every token.
import { checkLength, checkWhole, refuse } from './checks';

/**
 * Borders of packed documents, as attention takes them to keep documents apart.
 * @param numbers - the document that each token belongs to [batch · length]; neighbours of one number are of one document,
 *   which ends with its sequence
 * @param sizes - sequences, tokens of each, and `rows`: how many of each, from the first on, there are rows of (default all;
 *   depth k of multi-token prediction has length − k)
 * @param options - `out`: an array to write into [batch · rows + 1]
 * @returns the first row of every document and then the number of rows, as often as there is room: the documents behind the
 *   last are empty, and the length does not depend on what is packed
 * @throws ERR_BALEEN_MLA_SIZES where sizes and lengths do not agree
 *
 * @example
 * ```ts
 * import { documentBorders } from '@baleen/mla';
 * const numbers = Int32Array.of(7, 7, 8, 8, 8, 9); // two sequences of three tokens
 * console.log(documentBorders(numbers, { batch: 2, length: 3 }).join(' ')); // => 0 2 3 5 6 6 6
 * ```
 */
export function documentBorders(
  numbers: Int32Array,
  sizes: { batch: number; length: number; rows?: number },
  options: { out?: Int32Array } = {},
): Int32Array {
  const { batch, length, rows = length } = sizes;
  checkWhole({ batch, length, rows });
  checkLength('numbers', numbers, { batch, length });
  if (rows > length)
    refuse(
      'rows',
      `rows (${rows}) exceed length (${length})`,
      'count the first rows of a sequence',
    );
  const out = options.out ?? new Int32Array(batch * rows + 1);
  checkLength('out', out, { 'batch · rows + 1': batch * rows + 1 });
  let count = 0;
  for (let b = 0; b < batch; b += 1)
    for (let i = 0; i < rows; i += 1) {
      const at = b * length + i;
      if (i > 0 && numbers[at] === numbers[at - 1]) continue;
      out[count] = b * rows + i;
      count += 1;
    }
  out.fill(batch * rows, count);
  return out;
}
