// The bytes that a call has to move, whatever the transport.
import { elementBytes } from './arrays';
import { type Call, pieceOf } from './calls';

/**
 * Where rank r's part of elements begins that all ranks share evenly: ⌊r · elements / n⌋.
 * @param elements - how many there are
 * @param size - n
 * @param rank - r, from 0 to n: the part of r ends where that of r + 1 begins
 * @returns an index
 */
export function evenBorder(elements: number, size: number, rank: number): number {
  return Math.floor((elements * rank) / size);
}

/** Elements sent and received by this rank. */
function elementsOf(call: Call, rank: number, size: number): [sent: number, received: number] {
  const { operation, x, out } = call;
  const others = size - 1;
  const own = (offsets: readonly number[]): number => pieceOf(offsets, rank);
  const foreign = (offsets: readonly number[]): number => offsets[size] - own(offsets);
  switch (operation) {
    case 'send':
      return [x.length, 0];
    case 'recv':
      return [0, out.length];
    case 'broadcast':
      return call.peer === rank ? [x.length * others, 0] : [0, x.length];
    case 'allReduce': {
      const mine = evenBorder(x.length, size, rank + 1) - evenBorder(x.length, size, rank);
      const rest = x.length - mine;
      return [rest + mine * others, mine * others + rest];
    }
    case 'reduceScatter':
      return [foreign(call.sendOffsets), own(call.sendOffsets) * others];
    case 'allGather':
      return [own(call.recvOffsets) * others, foreign(call.recvOffsets)];
    case 'allToAll':
      return [foreign(call.sendOffsets), foreign(call.recvOffsets)];
    case 'barrier':
      return [0, 0];
  }
}

/**
 * The bytes that a call sends and receives.
 * @param call - a checked call
 * @param rank - of the caller
 * @param size - ranks of the group
 * @returns both, in bytes
 */
export function bytesOfCall(
  call: Call,
  rank: number,
  size: number,
): [sentBytes: number, receivedBytes: number] {
  const [sent, received] = elementsOf(call, rank, size);
  return [sent * elementBytes[call.type], received * elementBytes[call.type]];
}
