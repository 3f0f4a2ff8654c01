// A message from one rank to another: the sender sends a signature, with the data where they are small. The receiver answers then;
// large data are sent so that the library says when they were received.
import { elementBytes } from '../arrays';
import { at, messageDisagreement, signatureLength, typeOfSignature } from '../signature';
import type { Requests } from './library';
import { inlineBytes, kind, type Memory, type MessageKit, type Place } from './place';
import { type Order, Task } from './task';

/** See the top of this file. */
export class Message extends Task {
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
