// The transport between processes: a call is carried out by this thread where it blocks, and by the mover where it does not,
// where earlier calls of its row are still with the mover, or where the library lets only one thread in.
import { bytesOf, type CommArray } from '../arrays';
import type { Call } from '../calls';
import type { CallOptions, Handle } from '../communicator';
import { blame } from '../failure';
import { noColor, type Transport } from '../group';
import { failedHandle } from '../handles';
import { callWord } from '../movers';
import { membersOf, timesOf } from '../order';
import { signatureLength, writeSignature, writeSplit } from '../signature';
import { type Memory, Place } from './place';
import { type Process, pin, type Span, type ToMpiMover } from './process';
import type { Order } from './task';
import { taskOf } from './tasks';

/** One rank's end of a group of processes. */
export class MpiTransport implements Transport {
  readonly rank: number;
  readonly size: number;
  /** Calls that the mover has, by their row. */
  private readonly under = new Map<string, Int32Array>();
  private readonly meeting: Float64Array;
  private readonly message: Float64Array;

  /**
   * @param process - this one
   * @param place - its place in the group
   */
  constructor(
    private readonly process: Process,
    private readonly place: Place,
  ) {
    this.rank = place.rank;
    this.size = place.size;
    this.meeting = new Float64Array(signatureLength(this.size));
    this.message = new Float64Array(signatureLength(0));
  }

  run(call: Call, options: CallOptions): void {
    this.check(call.operation, options);
    this.carryOut(this.order(call, options), call.x, call.out);
  }

  begin(call: Call, options: CallOptions): Handle {
    try {
      this.check(call.operation, options);
    } catch (error) {
      return failedHandle(error as Error);
    }
    return this.submit(this.order(call, options), call.x, call.out, options.signal);
  }

  split(color: number, key: number, options: CallOptions): MpiTransport | null {
    const colors = this.exchange([color, key], options);
    // The largest number that any of them would take next: groups of different members may share it.
    const numbers = this.exchange([this.process.nextGroup, 0], options).map(([number]) => number);
    const group = Math.max(...numbers);
    this.process.nextGroup = group + 1;
    if (color === noColor) return null;
    const members = membersOf(colors, color);
    return new MpiTransport(
      this.process,
      new Place(this.process.mpi, {
        group,
        rank: members.indexOf(this.rank),
        members: members.map((rank) => this.place.members[rank]),
        pids: members.map((rank) => this.place.data.pids[rank]),
        memory: Place.memory(members.length),
      }),
    );
  }

  /**
   * Learns which ranks run on this machine. Collective.
   * @param pid - of this process
   * @param host - a number that tells machines apart
   * @returns the same communicator, which notices when one of them dies
   */
  acquainted(pid: number, host: number): MpiTransport {
    const peers = this.exchange([pid, host], {});
    const pids = peers.map(([of, on]) => (on === host ? of : 0));
    this.process.neighbours(pids.filter((of) => of !== 0).length);
    return new MpiTransport(
      this.process,
      new Place(this.process.mpi, { ...this.place.data, pids }),
    );
  }

  close(): void {
    this.place.close();
    this.process.leave(this.place.data.group);
  }

  private check(operation: string, { signal }: CallOptions): void {
    const { place } = this;
    if (signal?.aborted) {
      const text = `${operation}: rank ${this.rank} gave it up, its signal was raised before it began`;
      place.fail(blame('ABORTED', text, [this.rank], place.members));
    }
    if (place.record.failed) throw place.record.error();
  }

  private order(call: Call, options: CallOptions): Order {
    const { operation, peer } = call;
    const isMessage = operation === 'send' || operation === 'recv';
    const signature = isMessage ? this.message : this.meeting;
    writeSignature(signature, call, isMessage ? 0 : this.size);
    return {
      row: isMessage ? operation : 'meeting',
      peer,
      signature,
      ...timesOf(options, this.process.deadlineMs),
    };
  }

  private carryOut(order: Order, x: CommArray, out: CommArray): void {
    const row = rowOf(order);
    const earlier = this.under.get(row);
    if (this.process.alone || (earlier && Atomics.load(earlier, callWord.state) === 0)) {
      this.submit(order, x, out, undefined).wait();
      return;
    }
    if (earlier) this.under.delete(row);
    const task = taskOf(this.place, order, this.memory(x), this.memory(out));
    this.process.bells.wait(
      () => task.step(),
      () => task.wakeAt,
      () => {
        task.look();
      },
    );
    if (task.failed) throw this.place.record.error();
  }

  private submit(
    order: Order,
    x: CommArray,
    out: CommArray,
    signal: AbortSignal | undefined,
  ): Handle {
    const { process, place } = this;
    process.introduce(place.data);
    const span = (array: CommArray): Span => ({
      address: this.memory(array).address,
      bytes: array.byteLength,
    });
    return process.mover.submit(
      (id, words): ToMpiMover => {
        this.under.set(rowOf(order), words);
        const cancel = words.subarray(callWord.cancel);
        const on = place.data.group;
        return { id, on, order: { ...order, cancel }, x: span(x), out: span(out), words };
      },
      place.record,
      pin(x, out),
      signal,
    );
  }

  private memory(array: CommArray): Memory {
    return { bytes: bytesOf(array), address: this.process.mpi.addressOf(array) };
  }

  /** What every rank gives of two numbers. */
  private exchange(values: readonly [number, number], options: CallOptions): [number, number][] {
    this.check('split', options);
    writeSplit(this.meeting, values);
    const nothing = new Uint8Array(0);
    const order: Order = {
      row: 'meeting',
      peer: -1,
      signature: this.meeting,
      ...timesOf(options, this.process.deadlineMs),
    };
    const table = new Float64Array(new SharedArrayBuffer(16 * this.size));
    this.carryOut(order, nothing, table);
    return this.place.members.map((_, rank) => [table[2 * rank], table[2 * rank + 1]]);
  }
}

/** A row: calls of it are carried out one after another. */
function rowOf({ row, peer }: Order): string {
  return row === 'meeting' ? row : `${row} ${peer}`;
}
