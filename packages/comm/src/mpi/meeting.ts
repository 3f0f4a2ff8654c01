// A call of all ranks: every rank sends its call's signature to every other, with what it has for that rank where that is small,
// judges what it got, and exchanges the rest; a large sum is made in parts, each by one rank, and then exchanged as well.
import { arrayOf, type CommArray, elementBytes } from '../arrays';
import { evenBorder } from '../call-bytes';
import { copyBytes, goesPast } from '../copy';
import {
  at,
  disagreement,
  meetingOf,
  receivedPiece,
  sentPiece,
  signatureLength,
  typeOfSignature,
} from '../signature';
import { sumInOrder } from '../sum';
import type { Requests } from './library';
import { inlineBytes, kind, type Memory, type Place } from './place';
import { type Order, Task } from './task';

/** Elements of x that a rank sends another in the first round. */
function outgoing(
  signature: Float64Array,
  from: number,
  to: number,
  size: number,
): [from: number, count: number] {
  const length = signature[at.xLength];
  switch (meetingOf(signature)) {
    case 'broadcast':
      return [0, signature[at.peer] === from ? length : 0];
    case 'allReduce': {
      if (isWhole(signature)) return [0, length];
      const begin = evenBorder(length, size, to);
      return [begin, evenBorder(length, size, to + 1) - begin];
    }
    case 'reduceScatter':
    case 'allToAll':
      return sentPiece(signature, to);
    case 'allGather':
      return [0, length];
    default:
      return [0, 0];
  }
}

/** Whether a sum is so small that every rank makes all of it. */
function isWhole(signature: Float64Array): boolean {
  return signature[at.xLength] * elementBytes[typeOfSignature(signature)] <= inlineBytes;
}

/** See the top of this file. */
export class Meeting extends Task {
  private phase: 'begin' | 'meet' | 'exchange' | 'spread' = 'begin';
  private readonly arrivals: readonly Requests[];
  private readonly signatures: Float64Array[];
  private readonly width: number;
  private readonly head: number;
  /** Summands of other ranks that did not come with their signatures. */
  private readonly summands: (Memory | null)[];

  constructor(place: Place, order: Order, x: Memory, out: Memory) {
    super(place, order, x, out);
    this.head = 8 * signatureLength(place.size);
    this.width = elementBytes[typeOfSignature(order.signature)];
    this.arrivals = place.arrivals;
    this.signatures = place.in.map(({ signature }, rank) =>
      rank === place.rank ? order.signature : signature,
    );
    this.summands = place.members.map(() => null);
  }

  // From phase to phase without a pause: what is here already is not waited for.
  protected advance(): boolean {
    if (this.phase === 'begin') {
      if (!this.mayBegin) return false;
      this.begin();
      this.phase = 'meet';
    }
    if (this.phase === 'meet') {
      if (!this.allArrived()) return false;
      const found = disagreement(this.signatures);
      if (found) {
        this.fail('MISMATCH', found.message, found.ranks);
        return false;
      }
      if (this.name === 'split') this.report();
      else if (this.name !== 'barrier') this.exchange();
      this.phase = 'exchange';
    }
    if (!this.allEnded()) return false;
    if (this.phase === 'spread' || !this.finish()) return true;
    this.phase = 'spread';
    return false;
  }

  protected missing(): number[] {
    if (this.phase === 'begin') return [];
    return this.place.others.filter((rank) => !this.arrivals[rank].ended());
  }

  protected receives(): readonly Requests[] {
    return this.arrivals;
  }

  private allArrived(): boolean {
    // Not one after another: each look lets the library go on.
    let here = true;
    for (const arrival of this.arrivals) here = arrival.ended() && here;
    return here;
  }

  private allEnded(): boolean {
    const left = this.place.requests.ended();
    return this.allArrived() && left;
  }

  private isInline(count: number): boolean {
    return count * this.width <= inlineBytes;
  }

  private begin(): void {
    const { place, head, width } = this;
    const { signature } = this.order;
    for (const other of this.place.others) {
      const arrival = place.in[other];
      this.move('Irecv', arrival, 0, head + inlineBytes, other, kind.meeting, this.arrivals[other]);
      const leaving = place.out[other];
      leaving.signature.set(signature);
      const [from, count] = outgoing(signature, place.rank, other, place.size);
      const small = this.isInline(count) ? count * width : 0;
      if (small > 0)
        leaving.bytes.set(this.x.bytes.subarray(from * width, from * width + small), head);
      this.move('Isend', leaving, 0, head + small, other, kind.meeting, place.requests);
      // Not only when the others' signatures are here: theirs may lie ready to be fetched by then.
      if (!this.isInline(count))
        this.move('Isend', this.x, from * width, count * width, other, kind.data, place.requests);
    }
  }

  private exchange(): void {
    const { place, width, head } = this;
    const { size, rank } = place;
    const { signature } = this.order;
    for (const other of this.place.others) {
      const [, expected] = outgoing(this.signatures[other], other, rank, size);
      const bytes = expected * width;
      const target = this.targetOf(other, bytes);
      if (this.isInline(expected)) {
        if (target)
          target[0].bytes.set(place.in[other].bytes.subarray(head, head + bytes), target[1]);
      } else if (target)
        this.move('Irecv', target[0], target[1], bytes, other, kind.data, this.arrivals[other]);
    }
    const own = this.targetOf(rank, 0);
    if (!own || signature[at.peer] === rank) return;
    const [from, count] = outgoing(signature, rank, rank, size);
    const [{ bytes, address }, begin] = own;
    const source = this.x.bytes.subarray(from * width, (from + count) * width);
    if (this.x.address + from * width !== address + begin)
      copyBytes(bytes.subarray(begin, begin + source.length), source, goesPast(bytes.length));
  }

  /** Writes the two numbers that each rank gave to a cut. */
  private report(): void {
    const { bytes } = this.out;
    const table = new Float64Array(bytes.buffer, bytes.byteOffset, 2 * this.place.size);
    this.signatures.forEach((signature, rank) => {
      table.set([signature[at.xLength], signature[at.outLength]], 2 * rank);
    });
  }

  /** Where what comes from a rank belongs; null where it came with the signature and is summed from there. */
  private targetOf(other: number, bytes: number): [Memory, number] | null {
    const { place, width } = this;
    const { signature } = this.order;
    switch (this.name) {
      case 'broadcast':
        return [this.out, 0];
      case 'allGather':
      case 'allToAll':
        return [this.out, receivedPiece(signature, other, place.size)[0] * width];
      default: {
        if (other === place.rank || bytes <= inlineBytes) return null;
        const memory = place.summand(other, bytes);
        this.summands[other] = memory;
        return [memory, 0];
      }
    }
  }

  /** Sums, where there is something to sum; true: the sums are to be exchanged. */
  private finish(): boolean {
    if (this.name !== 'allReduce' && this.name !== 'reduceScatter') return false;
    const { place, width, head } = this;
    const { signature } = this.order;
    const type = typeOfSignature(signature);
    const [from, count] = outgoing(signature, place.rank, place.rank, place.size);
    const array = ({ bytes }: Memory, byte: number): CommArray =>
      arrayOf(type, bytes.buffer, bytes.byteOffset + byte, count);
    const sum = this.name === 'reduceScatter' ? 0 : from * width;
    if (count > 0)
      sumInOrder(
        [array(this.out, sum)],
        place.members.map((_, rank) => {
          if (rank === place.rank) return array(this.x, from * width);
          const summand = this.summands[rank];
          return summand ? array(summand, 0) : array(place.in[rank], head);
        }),
        type,
      );
    if (this.name === 'reduceScatter' || isWhole(signature)) return false;
    for (const other of this.place.others) {
      const border = (r: number): number =>
        evenBorder(signature[at.xLength], place.size, r) * width;
      this.move('Isend', this.out, sum, count * width, other, kind.data, place.requests);
      const bytes = border(other + 1) - border(other);
      this.move('Irecv', this.out, border(other), bytes, other, kind.data, this.arrivals[other]);
    }
    return true;
  }
}
