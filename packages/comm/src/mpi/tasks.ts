// A call on its way between processes, as steps that never block.
//
// meeting: every rank sends its call's signature to every other, with what it has for that rank where that is small, judges
//          what it got, and exchanges the rest; a large sum is made in parts, each by one rank, and then exchanged as well.
// message: the sender sends a signature, with the data where they are small. The receiver answers then; large data are sent
//          so that the library says when they were received.
import { arrayOf, type CommArray, elementBytes } from '../arrays';
import { evenBorder } from '../call-bytes';
import type { Failure } from '../failure';
import {
  at,
  disagreement,
  meetingOf,
  messageDisagreement,
  ranksInWords,
  receivedPiece,
  sentPiece,
  signatureLength,
  typeOfSignature,
} from '../signature';
import { sumInOrder } from '../sum';
import { now } from '../threads/bells';
import { mostBytes, type Requests } from './library';
import { inlineBytes, kind, type Memory, type MessageKit, memoryOf, type Place } from './place';

/** A call that a rank makes. */
export interface Order {
  readonly row: 'meeting' | 'send' | 'recv';
  /** The other rank of a message. */
  readonly peer: number;
  readonly signature: Float64Array;
  readonly leaveAt: number;
  readonly deadlineAt: number;
  readonly deadlineMs: number;
  /** Not 0 at index 0 once the rank gave the call up; null: it cannot. */
  readonly cancel: Int32Array | null;
}

/** Milliseconds between looks while nothing happens. */
const pause = 0.2;
/** Steps between looks for notices. */
const looks = 16;
/** Milliseconds between looks at who still is there. */
const lookPause = 100;
/** How long what a rank sent before its end may still be on its way, ms. */
const lastWords = 200;

/** A call on its way. */
export abstract class Task {
  /** Whether the call ended in a failure. */
  failed = false;
  protected readonly name: string;
  private steps = 0;
  private endSeen = 0;
  private lookAt: number;

  constructor(
    protected readonly place: Place,
    protected readonly order: Order,
    protected readonly x: Memory,
    protected readonly out: Memory,
  ) {
    this.name = meetingOf(order.signature);
    this.lookAt = Math.min(now() + lookPause, order.deadlineAt);
  }

  /** When to look again. */
  get wakeAt(): number {
    const time = now();
    const { leaveAt, deadlineAt } = this.order;
    return time < leaveAt ? Math.min(leaveAt, deadlineAt) : time + pause;
  }

  /** Goes as far as it can; true: the call has ended. */
  step(): boolean {
    if (this.failed) return true;
    const { record, rank } = this.place;
    // What others gave up in the meantime must not be begun.
    if (this.steps === 0) this.place.listen();
    if (!record.failed && this.advance()) return true;
    const { cancel } = this.order;
    if (cancel && Atomics.load(cancel, 0) !== 0)
      this.fail('ABORTED', `rank ${rank} gave it up`, [rank]);
    // By steps, not only when it sleeps: on a busy machine each step may give the processor away.
    if (this.steps++ % looks === 0) this.look();
    if (record.failed) this.stop();
    return this.failed;
  }

  /** Hears what others say, and gives up when it is too late or when a rank will not come any more. */
  look(): void {
    const { place, order } = this;
    place.listen();
    if (now() < this.lookAt) return;
    this.lookAt = Math.min(now() + lookPause, order.deadlineAt);
    const missing = this.missing();
    const closed = missing.filter((rank) => place.closed(rank));
    if (closed.length > 0) {
      this.endSeen ||= now();
      if (now() - this.endSeen > lastWords)
        this.fail('RANK_FAILED', `${ranksInWords(closed)} closed this communicator`, closed);
    }
    const dead = missing.filter((rank) => place.dead(rank));
    if (dead.length > 0) this.fail('RANK_FAILED', `${ranksInWords(dead)} died`, dead);
    if (now() < order.deadlineAt) return;
    const text =
      missing.length === 0
        ? `an earlier call was still under way after ${order.deadlineMs} ms`
        : `${ranksInWords(missing)} did not come within ${order.deadlineMs} ms`;
    this.fail('DEADLINE', text, missing.length === 0 ? [place.rank] : missing);
  }

  protected abstract advance(): boolean;
  protected abstract missing(): number[];
  /** Receives that must not be written to any more. */
  protected abstract receives(): readonly Requests[];

  protected get mayBegin(): boolean {
    return this.order.leaveAt === 0 || now() >= this.order.leaveAt;
  }

  protected fail(what: Failure['what'], text: string, ranks: readonly number[]): void {
    this.place.fail({ what, message: `${this.name}: ${text}`, ranks });
  }

  /** Begins to move bytes, in messages of what a count can say. */
  protected move(
    how: 'Isend' | 'Issend' | 'Irecv',
    { address }: Memory,
    from: number,
    bytes: number,
    rank: number,
    tag: number,
    requests: Requests,
  ): void {
    const { mpi, members } = this.place;
    for (let done = 0; done < bytes; done += mostBytes)
      mpi.transfer(
        how,
        address + from + done,
        Math.min(mostBytes, bytes - done),
        members[rank],
        this.place.tag(tag),
        requests.next(),
      );
  }

  private stop(): void {
    if (this.failed) return;
    this.failed = true;
    for (const requests of this.receives()) {
      for (let i = 0; i < requests.count; i += 1)
        if (!this.place.mpi.test(requests.at(i))) this.place.mpi.cancel(requests.at(i));
      requests.count = 0;
    }
    // What was to be sent stays where it is: the library may still read it.
    graveyard.push(this);
  }
}

/** Failed calls, whose memory the library may still use. */
const graveyard: unknown[] = [];

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

class Meeting extends Task {
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

  protected advance(): boolean {
    switch (this.phase) {
      case 'begin':
        if (!this.mayBegin) return false;
        this.begin();
        this.phase = 'meet';
        return false;
      case 'meet': {
        // Not one after another: each look lets the library go on.
        let here = true;
        for (const arrival of this.arrivals) here = arrival.ended() && here;
        if (!here) return false;
        const found = disagreement(this.signatures);
        if (found) {
          this.fail('MISMATCH', found.message, found.ranks);
          return false;
        }
        if (this.name === 'split') this.report();
        else this.exchange();
        this.phase = 'exchange';
        return false;
      }
      case 'exchange':
        if (!this.allEnded()) return false;
        if (!this.finish()) return true;
        this.phase = 'spread';
        return false;
      case 'spread':
        return this.allEnded();
    }
  }

  protected missing(): number[] {
    if (this.phase === 'begin') return [];
    return this.others().filter((rank) => !this.arrivals[rank].ended());
  }

  protected receives(): readonly Requests[] {
    return this.arrivals;
  }

  private others(): number[] {
    const { size, rank } = this.place;
    return Array.from({ length: size - 1 }, (_, i) => (rank + i + 1) % size);
  }

  private allEnded(): boolean {
    let ended = this.place.requests.ended();
    for (const arrival of this.arrivals) ended = arrival.ended() && ended;
    return ended;
  }

  private isInline(count: number): boolean {
    return count * this.width <= inlineBytes;
  }

  private begin(): void {
    const { place, head, width } = this;
    const { signature } = this.order;
    for (const other of this.others()) {
      const arrival = place.in[other];
      this.move('Irecv', arrival, 0, head + inlineBytes, other, kind.meeting, this.arrivals[other]);
      const leaving = place.out[other];
      leaving.signature.set(signature);
      const [from, count] = outgoing(signature, place.rank, other, place.size);
      const small = this.isInline(count) ? count * width : 0;
      if (small > 0)
        leaving.bytes.set(this.x.bytes.subarray(from * width, from * width + small), head);
      this.move('Isend', leaving, 0, head + small, other, kind.meeting, place.requests);
    }
  }

  private exchange(): void {
    const { place, width, head } = this;
    const { size, rank } = place;
    const { signature } = this.order;
    for (const other of this.others()) {
      const [from, count] = outgoing(signature, rank, other, size);
      if (!this.isInline(count))
        this.move('Isend', this.x, from * width, count * width, other, kind.data, place.requests);
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
    const { bytes } = own[0];
    const source = this.x.bytes.subarray(from * width, (from + count) * width);
    if (this.x.address + from * width !== own[0].address + own[1]) bytes.set(source, own[1]);
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
        const memory = memoryOf(place.mpi, bytes);
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
    for (const other of this.others()) {
      const border = (r: number): number =>
        evenBorder(signature[at.xLength], place.size, r) * width;
      this.move('Isend', this.out, sum, count * width, other, kind.data, place.requests);
      const bytes = border(other + 1) - border(other);
      this.move('Irecv', this.out, border(other), bytes, other, kind.data, this.arrivals[other]);
    }
    return true;
  }
}

class Message extends Task {
  private phase: 'begin' | 'meet' | 'data' = 'begin';
  private readonly kit: MessageKit;
  private readonly head = 8 * signatureLength(0);
  private readonly bytes: number;

  constructor(place: Place, order: Order, x: Memory, out: Memory) {
    super(place, order, x, out);
    this.kit = place.takeKit();
    const { signature } = order;
    this.bytes =
      signature[order.row === 'send' ? at.xLength : at.outLength] *
      elementBytes[typeOfSignature(signature)];
  }

  protected advance(): boolean {
    if (this.phase === 'begin') {
      if (!this.mayBegin) return false;
      this.begin();
    }
    if (this.phase === 'meet') {
      if (!this.kit.arrivals.ended()) return false;
      if (this.order.row === 'recv' && !this.meet()) return false;
      this.phase = 'data';
    }
    const arrived = this.kit.arrivals.ended();
    if (!this.kit.leaving.ended() || !arrived) return false;
    this.place.giveKit(this.kit);
    return true;
  }

  protected missing(): number[] {
    return this.phase === 'begin' ? [] : [this.order.peer];
  }

  protected receives(): readonly Requests[] {
    return [this.kit.arrivals];
  }

  private begin(): void {
    const { bytes, head } = this;
    const { envelope, answer, arrivals, leaving } = this.kit;
    const { row, peer, signature } = this.order;
    const small = bytes <= inlineBytes;
    this.phase = 'meet';
    if (row === 'recv') {
      this.move('Irecv', envelope, 0, head + inlineBytes, peer, kind.send, arrivals);
      return;
    }
    envelope.signature.set(signature);
    if (small) {
      envelope.bytes.set(this.x.bytes.subarray(0, bytes), head);
      this.move('Irecv', answer, 0, 1, peer, kind.received, arrivals);
    } else this.move('Issend', this.x, 0, bytes, peer, kind.sendData, leaving);
    this.move('Isend', envelope, 0, head + (small ? bytes : 0), peer, kind.send, leaving);
  }

  /** What a receiver does when a message has come; false where it does not fit. */
  private meet(): boolean {
    const { bytes, head } = this;
    const { envelope, answer, arrivals, leaving } = this.kit;
    const { peer, signature } = this.order;
    const found = messageDisagreement(envelope.signature, signature, [peer, this.place.rank]);
    if (found) {
      this.fail('MISMATCH', found.message, found.ranks);
      return false;
    }
    if (bytes <= inlineBytes) {
      this.out.bytes.set(envelope.bytes.subarray(head, head + bytes));
      this.move('Isend', answer, 0, 1, peer, kind.received, leaving);
    } else this.move('Irecv', this.out, 0, bytes, peer, kind.sendData, arrivals);
    return true;
  }
}

/**
 * The task of an order.
 * @param place - on which group
 * @param order - what is called
 * @param x - this rank's memory that is read
 * @param out - and that is written
 * @returns a task that has not begun
 */
export function taskOf(place: Place, order: Order, x: Memory, out: Memory): Task {
  return order.row === 'meeting'
    ? new Meeting(place, order, x, out)
    : new Message(place, order, x, out);
}
