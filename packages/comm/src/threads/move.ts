// The data of a call that every rank has come to: each rank moves what is to lie in its own output, out of the memory of
// the others. Only sums are written to all outputs, by the rank whose part they are, while they are in its cache.
import { arrayOf, type CommArray, elementBytes } from '../arrays';
import { evenBorder } from '../call-bytes';
import { copyElements, goesPast } from '../copy';
import { at, meetingOf, receivedPiece, sentPiece, typeOfSignature } from '../signature';
import { sumInOrder } from '../sum';
import type { Buffers } from './buffers';
import { located } from './memory';

const nothing = new Uint8Array(0);

/** Elements of a rank's array, from one on. */
function part(
  buffers: Buffers,
  descriptor: Float64Array,
  locatedAt: number,
  which: 'x' | 'out',
  from: number,
  count: number,
): CommArray {
  if (count === 0) return nothing;
  const type = typeOfSignature(descriptor);
  const [buffer, byte] =
    which === 'x' ? [located.xBuffer, located.xByte] : [located.outBuffer, located.outByte];
  return arrayOf(
    type,
    buffers.get(descriptor[locatedAt + buffer]),
    descriptor[locatedAt + byte] + from * elementBytes[type],
    count,
  );
}

/**
 * Moves what a rank has to move in a collective call.
 * @param descriptors - of all ranks [n], which go together
 * @param rank - this one
 * @param locatedAt - where in a descriptor the places of its arrays are
 * @param buffers - shared memory by number
 */
export function moveCollective(
  descriptors: readonly Float64Array[],
  rank: number,
  locatedAt: number,
  buffers: Buffers,
): void {
  const size = descriptors.length;
  const own = descriptors[rank];
  const take = (which: 'x' | 'out', of: number, from: number, count: number): CommArray =>
    part(buffers, descriptors[of], locatedAt, which, from, count);
  const past = goesPast(own[at.outLength] * elementBytes[typeOfSignature(own)]);
  const copy = (to: number, source: number, from: number, count: number): void => {
    if (count === 0) return;
    copyElements(take('out', rank, to, count), 0, take('x', source, from, count), 0, count, past);
  };
  const sum = (from: number, to: number, outs: readonly number[], at0: number): void => {
    if (from === to) return;
    const count = to - from;
    sumInOrder(
      outs.map((of) => take('out', of, at0, count)),
      descriptors.map((_, of) => take('x', of, from, count)),
      typeOfSignature(own),
    );
  };
  /** The others after this rank, so that not all read from the same one at once. */
  const around = (visit: (other: number) => void): void => {
    for (let i = 0; i < size; i += 1) visit((rank + i) % size);
  };
  switch (meetingOf(own)) {
    case 'broadcast':
      if (own[at.peer] !== rank) copy(0, own[at.peer], 0, own[at.xLength]);
      break;
    case 'allReduce': {
      const [from, to] = [rank, rank + 1].map((r) => evenBorder(own[at.xLength], size, r));
      sum(from, to, [...descriptors.keys()], from);
      break;
    }
    case 'reduceScatter': {
      const [from, count] = sentPiece(own, rank);
      sum(from, from + count, [rank], 0);
      break;
    }
    case 'allGather':
      around((other) => {
        const [to, count] = receivedPiece(own, other, size);
        copy(to, other, 0, count);
      });
      break;
    case 'allToAll':
      around((other) => {
        const [to, count] = receivedPiece(own, other, size);
        copy(to, other, sentPiece(descriptors[other], rank)[0], count);
      });
      break;
    default:
  }
}

/**
 * Moves a message.
 * @param sent - descriptor of the send
 * @param expected - of the receive
 * @param locatedAt - where in a descriptor the places of its arrays are
 * @param buffers - shared memory by number
 */
export function moveMessage(
  sent: Float64Array,
  expected: Float64Array,
  locatedAt: number,
  buffers: Buffers,
): void {
  const count = sent[at.xLength];
  if (count === 0) return;
  const out = part(buffers, expected, locatedAt, 'out', 0, count);
  const x = part(buffers, sent, locatedAt, 'x', 0, count);
  copyElements(out, 0, x, 0, count, goesPast(x.byteLength));
}
