// A call on its way between processes, as steps that never block: what all such calls have, and how they give up.
import { blame, type Failure } from '../failure';
import type { CallTimes } from '../order';
import { meetingOf, membersInWords } from '../signature';
import { now } from '../threads/bells';
import { mostBytes, type Requests } from './library';
import type { Memory, Place } from './place';

/** A call that a rank makes. */
export interface Order extends CallTimes {
  readonly row: 'meeting' | 'send' | 'recv';
  /** The other rank of a message. */
  readonly peer: number;
  readonly signature: Float64Array;
}

/** Milliseconds between calls that follow one another at once. */
const quick = 1;
/** Milliseconds between looks while nothing happens. */
const pause = 0.2;
/** Steps between looks for notices. */
const looks = 16;
/** Milliseconds between looks at who still is there. */
const lookPause = 100;
/** How long what a rank sent before its end may still be on its way, ms. */
const lastWords = 200;

/** Looks at the beginning of a call of so many ranks. */
const looksFor = (ranks: number): number => 2 * ranks + 2;

/** A call on its way. */
export abstract class Task {
  /** Whether the call ended in a failure. */
  failed = false;
  protected readonly name: string;
  private steps = 0;
  private endSeen = 0;
  /** When to look next, once it has looked. */
  private lookAt = 0;

  constructor(
    protected readonly place: Place,
    protected readonly order: Order,
    protected readonly x: Memory,
    protected readonly out: Memory,
  ) {
    this.name = meetingOf(order.signature);
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
    if (this.steps === 0) this.hearFirst();
    if (!record.failed && this.advance()) return true;
    const { cancel } = this.order;
    if (cancel && Atomics.load(cancel, 0) !== 0)
      this.fail('ABORTED', `rank ${rank} gave it up`, [rank]);
    // By steps, not only when it sleeps: on a busy machine each step may give the processor away.
    // Not at once: short calls end before.
    this.steps += 1;
    if (this.steps % looks === 0) this.look();
    if (record.failed) this.stop();
    return this.failed;
  }

  /** What others gave up since this rank's last call must not be begun; of calls in quick succession that is seen later. */
  private hearFirst(): void {
    const began = this.order.deadlineAt - this.order.deadlineMs;
    const soon = began - this.place.lastBegan <= quick;
    this.place.lastBegan = began;
    if (soon) return;
    // Each look lets the library go on by a message or two, and one to be heard may stand behind those of the call itself,
    // which every other rank may have sent.
    for (let i = 0; i < looksFor(this.place.size); i += 1) this.place.listen();
  }

  /** Hears what others say, and gives up when it is too late or when a rank will not come any more. */
  look(): void {
    const { place, order } = this;
    place.listen();
    const time = now();
    const first = this.lookAt === 0;
    if (time < this.lookAt) return;
    this.lookAt = Math.min(time + lookPause, order.deadlineAt);
    if (first && time < order.deadlineAt) return;
    const missing = this.missing();
    const named = (ranks: readonly number[]): string => membersInWords(ranks, place.members);
    const closed = missing.filter((rank) => place.closed(rank));
    if (closed.length > 0) {
      this.endSeen ||= now();
      if (now() - this.endSeen > lastWords)
        this.fail('RANK_FAILED', `${named(closed)} closed this communicator`, closed);
    }
    const dead = missing.filter((rank) => place.dead(rank));
    if (dead.length > 0) this.fail('RANK_FAILED', `${named(dead)} died`, dead);
    if (now() < order.deadlineAt) return;
    const text =
      missing.length === 0
        ? `an earlier call was still under way after ${order.deadlineMs} ms`
        : `${named(missing)} did not come within ${order.deadlineMs} ms`;
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
    this.place.fail(blame(what, `${this.name}: ${text}`, ranks, this.place.members));
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
