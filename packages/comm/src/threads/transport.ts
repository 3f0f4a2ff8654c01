// The transport between threads: calls become orders, which this thread carries out where it blocks and its mover where it
// does not.
import type { Call } from '../calls';
import type { CallOptions, Handle } from '../communicator';
import { blame } from '../failure';
import { noColor, type Transport } from '../group';
import { failedHandle } from '../handles';
import type { Lease } from '../movers';
import { membersOf, timesOf } from '../order';
import { at, signatureLength, writeSplit } from '../signature';
import { GroupMemory, located, word } from './memory';
import { type Order, type Place, ringGroup, taskOf } from './tasks';
import type { RankThread } from './thread';

/** Numbers groups of this thread, for its mover. */
let groups = 0;

/** One rank's end of a group of threads. */
export class ThreadTransport implements Transport {
  readonly rank: number;
  readonly size: number;
  private readonly number = groups++;
  /** Calls made so far: collective, sent to each rank, received from each. */
  private collective = 0;
  private readonly sent: Int32Array;
  private readonly received: Int32Array;
  /** Descriptors, written anew for each call: where it goes, they are copied. */
  private readonly meeting: Float64Array;
  private readonly message: Float64Array;

  /**
   * @param place - this rank's place in the group
   * @param thread - of the rank
   */
  constructor(
    private readonly place: Place,
    private readonly thread: RankThread,
  ) {
    this.rank = place.rank;
    this.size = place.memory.size;
    this.sent = new Int32Array(this.size);
    this.received = new Int32Array(this.size);
    this.meeting = new Float64Array(signatureLength(this.size) + located.count);
    this.message = new Float64Array(signatureLength(0) + located.count);
  }

  run(call: Call, options: CallOptions): void {
    this.check(call.operation, options);
    const lease = this.lease(call);
    const well = this.carryOut(this.order(call, options));
    lease.end(well);
    if (!well) throw this.place.memory.record.error();
  }

  begin(call: Call, options: CallOptions): Handle {
    try {
      this.check(call.operation, options);
    } catch (error) {
      return failedHandle(error as Error);
    }
    const lease = this.lease(call);
    const order = this.order(call, options);
    return this.thread.submit(order, this.number, this.place, lease, options.signal);
  }

  split(color: number, key: number, options: CallOptions): ThreadTransport | null {
    const colors = this.exchange([color, key], options);
    const members = membersOf(colors, color);
    // The first of each group makes its memory and tells the others its number.
    const first = color !== noColor && members[0] === this.rank;
    const buffer = first ? GroupMemory.make(members.length) : null;
    const { buffers } = this.thread.surroundings;
    const numbers = this.exchange([buffer ? buffers.idOf(buffer) : 0, 0], options);
    if (color === noColor) return null;
    const shared = buffer ?? buffers.get(numbers[members[0]][0]);
    return new ThreadTransport(
      {
        memory: new GroupMemory(shared, members.length),
        rank: members.indexOf(this.rank),
        members: members.map((rank) => this.place.members[rank]),
      },
      this.thread,
    );
  }

  close(): void {
    const { memory, rank } = this.place;
    Atomics.store(memory.words, memory.at(rank, word.closed), 1);
    ringGroup(this.place, this.thread.surroundings);
    this.thread.leave(this.number);
  }

  /** Refuses a call on a group that has failed, or that is given up before it begins. */
  private check(operation: string, { signal }: CallOptions): void {
    const { memory, members } = this.place;
    if (signal?.aborted && !memory.record.failed) {
      const text = `${operation}: rank ${this.rank} gave it up, its signal was raised before it began`;
      memory.record.fail(blame('ABORTED', text, [this.rank], members));
      ringGroup(this.place, this.thread.surroundings);
    }
    if (memory.record.failed) throw this.place.memory.record.error();
  }

  private lease(call: Call): Lease {
    const { operation, peer } = call;
    const message = operation === 'send' || operation === 'recv';
    const receives = operation !== 'send' && !(operation === 'broadcast' && peer === this.rank);
    const descriptor = message ? this.message : this.meeting;
    return this.thread.lease(call, descriptor, message ? 0 : this.size, receives);
  }

  private order(call: Call, options: CallOptions): Order {
    const { operation, peer } = call;
    const message = operation === 'send' || operation === 'recv';
    return {
      row: message ? operation : 'collective',
      call: message ? this.nextMessage(operation, peer) : this.nextCollective(),
      peer,
      descriptor: message ? this.message : this.meeting,
      ...timesOf(options, this.thread.job.deadlineMs),
    };
  }

  // Counts wrap like the words that they are compared with.
  private nextCollective(): number {
    const call = this.collective;
    this.collective = (call + 1) | 0;
    return call;
  }

  private nextMessage(operation: 'send' | 'recv', peer: number): number {
    const counts = operation === 'send' ? this.sent : this.received;
    return counts[peer]++;
  }

  private carryOut(order: Order): boolean {
    const { surroundings } = this.thread;
    const task = taskOf(order, this.place, surroundings);
    surroundings.bells.wait(
      () => task.step(),
      () => task.wakeAt,
      () => {
        task.late();
      },
    );
    return !task.failed;
  }

  /** What every rank gives of two numbers. */
  private exchange(values: readonly [number, number], options: CallOptions): [number, number][] {
    this.check('split', options);
    writeSplit(this.meeting, values);
    const call = this.nextCollective();
    const order: Order = {
      row: 'collective',
      call,
      peer: -1,
      descriptor: this.meeting,
      ...timesOf(options, this.thread.job.deadlineMs),
    };
    if (!this.carryOut(order)) throw this.place.memory.record.error();
    // What all have posted stays until the call after the next.
    return this.place.memory.collective[call & 1].map((of) => [of[at.xLength], of[at.outLength]]);
  }
}
