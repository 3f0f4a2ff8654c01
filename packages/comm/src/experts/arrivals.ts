// What a rank's experts get: copies of tokens fanned out to a row for each of this rank's experts that a token chose, sorted by
// expert, then by the rank that the token is from, then by its place there.
import type { Items } from './hop';
import { placesOf, type Sums, sumsOf } from './sums';

/** Rows of this rank's experts. */
export interface Arrivals {
  /** Rows of each expert, without padding [L]. */
  counts: Int32Array;
  /** First row of each expert, and the number of rows [L + 1]: multiples of the alignment. */
  offsets: Int32Array;
  /** First row of each expert from each rank, and the number of rows [L · R + 1]; padding counts to an expert's last rank. */
  sourceOffsets: Int32Array;
  /** Item of each row, −1 in padding. */
  itemOfRow: Int32Array;
  /** Choice of each row, −1 in padding. */
  choiceOfRow: Int32Array;
  /** Row of each choice. */
  rowOfChoice: Int32Array;
  /** Rows of each item. */
  sums: Sums;
}

/**
 * Fans items out.
 * @param items - what arrived
 * @param k - experts a token
 * @param places - `localOf`: place of each expert on this rank, −1 elsewhere [E]; how many there are; ranks; and what
 *   every expert's rows are aligned to
 * @returns the rows
 */
export function fanOut(
  items: Items,
  k: number,
  places: { localOf: Int32Array; experts: number; ranks: number; alignment: number },
): Arrivals {
  const { indices, choices, choiceCount, sources } = items;
  const { localOf, experts, ranks, alignment } = places;
  const counts = new Int32Array(experts);
  const bySource = new Int32Array(experts * ranks);
  const groupOf = (slot: number): number =>
    localOf[indices[slot]] * ranks + sources[Math.floor(slot / k)];
  for (let slot = 0; slot < indices.length; slot += 1)
    if (indices[slot] >= 0) {
      counts[localOf[indices[slot]]] += 1;
      bySource[groupOf(slot)] += 1;
    }
  const offsets = new Int32Array(experts + 1);
  const sourceOffsets = new Int32Array(experts * ranks + 1);
  for (let e = 0; e < experts; e += 1) {
    offsets[e + 1] = offsets[e] + Math.ceil(counts[e] / alignment) * alignment;
    let row = offsets[e];
    for (let source = 0; source < ranks; source += 1) {
      sourceOffsets[e * ranks + source] = row;
      row += bySource[e * ranks + source];
    }
  }
  const rows = offsets[experts];
  sourceOffsets[experts * ranks] = rows;
  const itemOfRow = new Int32Array(rows).fill(-1);
  const choiceOfRow = new Int32Array(rows).fill(-1);
  // Items of one rank come in the order that they have there, whichever way they took.
  const next = sourceOffsets.slice();
  for (let slot = 0; slot < indices.length; slot += 1)
    if (indices[slot] >= 0) {
      const row = next[groupOf(slot)]++;
      itemOfRow[row] = Math.floor(slot / k);
      choiceOfRow[row] = choices[slot];
    }
  return {
    counts,
    offsets,
    sourceOffsets,
    itemOfRow,
    choiceOfRow,
    rowOfChoice: placesOf(choiceCount, choiceOfRow),
    sums: sumsOf(sources.length, itemOfRow),
  };
}
