// A call on its way, as steps that never block: its rank's thread takes them where the call blocks, its mover where it
// does not. All ranks of a group take the steps of a call together, through the group's memory:
//
// collective: post what is called (once this rank has ended its calls before), wait until all have posted, judge whether
//             that goes together, move the data that is this rank's to move, wait until all have moved theirs.
// message:    the sender posts and waits until it was received; the receiver waits for the post, copies, and says so.

import { blame, type Failure } from '../failure';
import type { CallTimes } from '../order';
import { disagreement, meetingOf, membersInWords, messageDisagreement } from '../signature';
import { now } from './bells';
import type { Surroundings } from './job';
import { type GroupMemory, located, messageWord, reached, word } from './memory';
import { moveCollective, moveMessage } from './move';

/** A rank's place in a group. */
export interface Place {
  readonly memory: GroupMemory;
  /** This rank in the group. */
  readonly rank: number;
  /** Ranks of the job by their rank in the group. */
  readonly members: readonly number[];
}

/** A call that a rank makes on a group. */
export interface Order extends CallTimes {
  readonly row: 'collective' | 'send' | 'recv';
  /** Its number in its row. */
  readonly call: number;
  /** The other rank of a message. */
  readonly peer: number;
  /** Signature and places of arrays. */
  readonly descriptor: Float64Array;
}

/** Wakes every thread of a group that waits for something to move on. */
export function ringGroup({ members }: Place, { bells, ranks }: Surroundings): void {
  for (const member of members) {
    bells.ring(member);
    bells.ring(ranks + member);
  }
}

/** A call on its way. */
export abstract class Task {
  /** Whether the call ended in a failure, which the group's memory has. */
  failed = false;
  protected readonly name: string;

  constructor(
    protected readonly order: Order,
    protected readonly place: Place,
    protected readonly surroundings: Surroundings,
  ) {
    this.name = meetingOf(order.descriptor);
  }

  /** When to look again though nobody rings. */
  get wakeAt(): number {
    return now() < this.order.leaveAt
      ? Math.min(this.order.leaveAt, this.order.deadlineAt)
      : this.order.deadlineAt;
  }

  /**
   * Goes as far as it can.
   * @returns whether the call has ended
   */
  step(): boolean {
    if (this.failed || this.advance()) return true;
    const { cancel } = this.order;
    if (cancel && Atomics.load(cancel, 0) !== 0 && !this.place.memory.record.failed)
      this.fail('ABORTED', `rank ${this.place.rank} gave it up`, [this.place.rank]);
    if (this.place.memory.record.failed) this.failed = true;
    return this.failed;
  }

  /** Gives up when it is too late; to be called after every `wakeAt`. */
  late(): void {
    if (now() < this.order.deadlineAt || this.step()) return;
    const missing = this.missing();
    const { rank, members } = this.place;
    const text =
      missing.length === 0
        ? `an earlier call of rank ${rank} was still under way after ${this.order.deadlineMs} ms`
        : `${membersInWords(missing, members)} did not come within ${this.order.deadlineMs} ms`;
    this.fail('DEADLINE', text, missing.length === 0 ? [rank] : missing);
    this.failed = true;
  }

  /** Takes the steps that can be taken; true at the end. */
  protected abstract advance(): boolean;
  /** The ranks that it waits for. */
  protected abstract missing(): number[];

  protected fail(what: Failure['what'], text: string, ranks: readonly number[]): void {
    const { memory, members } = this.place;
    memory.record.fail(blame(what, `${this.name}: ${text}`, ranks, members));
    ringGroup(this.place, this.surroundings);
  }

  /**
   * Whether a rank has come somewhere; one that never will fails the call.
   * @param rank - of the group
   * @param index - of the word that counts its calls
   */
  protected came(rank: number, index: number): boolean {
    const { memory, members } = this.place;
    const there = (): boolean => reached(Atomics.load(memory.words, index), this.order.call);
    if (there()) return true;
    const end =
      this.surroundings.ends.of(members[rank]) ??
      (Atomics.load(memory.words, memory.at(rank, word.closed)) === 1
        ? 'closed this communicator'
        : null);
    // It may have come just before its end.
    if (end === null || there()) return end !== null;
    this.fail('RANK_FAILED', `${membersInWords([rank], members)} ${end}`, [rank]);
    return false;
  }

  /** Whether this rank's calls before this one in its row have ended, and its data may leave. */
  protected mayBegin(index: number): boolean {
    const { call, leaveAt } = this.order;
    return (
      Atomics.load(this.place.memory.words, index) === call && (leaveAt === 0 || now() >= leaveAt)
    );
  }
}

class Collective extends Task {
  private phase: 'begin' | 'post' | 'move' = 'begin';

  protected advance(): boolean {
    const { memory, rank } = this.place;
    const { call, descriptor } = this.order;
    const descriptors = memory.collective[call & 1];
    const next = (call + 1) | 0;
    if (this.phase === 'begin') {
      if (!this.mayBegin(memory.at(rank, word.ended))) return false;
      descriptors[rank].set(descriptor);
      Atomics.store(memory.words, memory.at(rank, word.posted), next);
      this.phase = 'post';
      ringGroup(this.place, this.surroundings);
    }
    if (this.phase === 'post') {
      if (!this.allCame(word.posted)) return false;
      const found = disagreement(descriptors);
      if (found) {
        this.fail('MISMATCH', found.message, found.ranks);
        return false;
      }
      moveCollective(descriptors, rank, memory.locatedAt, this.surroundings.buffers);
      Atomics.store(memory.words, memory.at(rank, word.moved), next);
      this.phase = 'move';
      // Nothing was moved: that all have come is all there is to it.
      const empty = this.name === 'barrier' || this.name === 'split';
      if (!empty) ringGroup(this.place, this.surroundings);
      else return this.end(next);
    }
    return this.allCame(word.moved) && this.end(next);
  }

  protected missing(): number[] {
    const { memory, members, rank } = this.place;
    if (this.phase === 'begin') return [];
    const name = this.phase === 'post' ? word.posted : word.moved;
    return [...members.keys()].filter(
      (other) =>
        other !== rank &&
        !reached(Atomics.load(memory.words, memory.at(other, name)), this.order.call),
    );
  }

  private allCame(name: number): boolean {
    const { memory } = this.place;
    for (let rank = 0; rank < memory.size; rank += 1)
      if (!this.came(rank, memory.at(rank, name))) return false;
    return true;
  }

  private end(next: number): boolean {
    const { memory, rank, members } = this.place;
    Atomics.store(memory.words, memory.at(rank, word.ended), next);
    // This rank's other thread may have the next call.
    const { bells, ranks } = this.surroundings;
    bells.ring(members[rank]);
    bells.ring(ranks + members[rank]);
    return true;
  }
}

class Message extends Task {
  private posted = false;

  protected advance(): boolean {
    const { memory, rank } = this.place;
    const { row, peer, call, descriptor } = this.order;
    const next = (call + 1) | 0;
    const [from, to] = row === 'send' ? [rank, peer] : [peer, rank];
    const sent = memory.atMessage(from, to, messageWord.sent);
    const sendEnded = memory.atMessage(from, to, messageWord.sendEnded);
    const received = memory.atMessage(from, to, messageWord.received);
    const slot = memory.messages[from * memory.size + to];
    if (row === 'send') {
      if (!this.posted) {
        if (!this.mayBegin(sendEnded)) return false;
        slot.set(descriptor);
        Atomics.store(memory.words, sent, next);
        this.posted = true;
        this.ring();
      }
      if (!this.came(peer, received)) return false;
      Atomics.store(memory.words, sendEnded, next);
    } else {
      this.posted ||= Atomics.load(memory.words, received) === call;
      if (!this.posted || !this.came(peer, sent)) return false;
      const found = messageDisagreement(slot, descriptor, [from, to]);
      if (found) {
        this.fail('MISMATCH', found.message, found.ranks);
        return false;
      }
      moveMessage(slot, descriptor, descriptor.length - located.count, this.surroundings.buffers);
      Atomics.store(memory.words, received, next);
    }
    this.ring();
    return true;
  }

  protected missing(): number[] {
    return this.posted ? [this.order.peer] : [];
  }

  private ring(): void {
    const { members, rank } = this.place;
    const { bells, ranks } = this.surroundings;
    for (const member of [members[this.order.peer], members[rank]]) {
      bells.ring(member);
      bells.ring(ranks + member);
    }
  }
}

/**
 * The task of an order.
 * @param order - what is called
 * @param place - on which group
 * @param surroundings - in which thread
 * @returns a task that has not begun
 */
export function taskOf(order: Order, place: Place, surroundings: Surroundings): Task {
  return order.row === 'collective'
    ? new Collective(order, place, surroundings)
    : new Message(order, place, surroundings);
}
