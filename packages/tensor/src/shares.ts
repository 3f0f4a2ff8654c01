// How ranks share the update of a model's parameters (ZeRO-1): which elements are whose.
//
// Parameters are cut into pieces of whole rows. Where they are cut follows from shapes alone, so that sums over pieces
// are the same however many ranks there are; a rank has neighbouring pieces.
import { type Shape, shapeError, sizeOf } from './tensor';

/** A parameter of fewer elements is one piece; a larger one is cut into no more than so many, or one an entry of a stack. */
const [smallest, most] = [2 ** 16, 64];

/** Which of the ranks that share an update this is. */
export interface Share {
  /** This rank, from 0. */
  rank: number;
  /** Ranks. */
  ranks: number;
}

/** Neighbouring elements of a parameter. */
export interface Piece {
  /** First element. */
  start: number;
  /** Elements. */
  count: number;
}

/**
 * Cuts a parameter into pieces of whole rows.
 * @param shape - of the whole parameter; in a stack of matrices no piece belongs to two of them
 * @returns the pieces, in order
 */
export function cutPieces(shape: Shape): Piece[] {
  const size = sizeOf(shape);
  const row = shape.length > 1 ? (shape.at(-1) ?? 1) : 1;
  const entry = shape.length > 2 ? size / shape[0] : size;
  const length = Math.ceil(Math.max(smallest, size / most) / row) * row;
  const pieces: Piece[] = [];
  for (let begin = 0; begin < size; begin += entry)
    for (let start = begin; start < begin + entry; start += length)
      pieces.push({ start, count: Math.min(length, begin + entry - start) });
  return pieces;
}

/**
 * Gives pieces to ranks: a piece is whose share of all elements its middle lies in.
 * @param counts - elements of every piece, in order
 * @param ranks - how many share them
 * @returns the rank of each, ascending
 * @throws `ERR_BALEEN_TENSOR_SHAPE` where `ranks` is no whole number from 1
 */
export function ownersOf(counts: readonly number[], ranks: number): number[] {
  if (!Number.isInteger(ranks) || ranks < 1)
    throw shapeError(`parameters cannot be shared by ${ranks} ranks`);
  const total = counts.reduce((sum, count) => sum + count, 0);
  let before = 0;
  return counts.map((count) => {
    const owner = Math.min(ranks - 1, Math.floor(((before + count / 2) * ranks) / total));
    before += count;
    return owner;
  });
}
