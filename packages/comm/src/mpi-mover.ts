// The thread beside a process's own that carries out calls which it does not wait for.
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { blame } from './failure';
import { callWord, state } from './movers';
import { Mpi } from './mpi/library';
import { Place } from './mpi/place';
import { type MpiMoverData, stops, type ToMpiMover, thread } from './mpi/process';
import type { Task } from './mpi/task';
import { taskOf } from './mpi/tasks';
import { Bells } from './threads/bells';

/** Steps before it sleeps: few, for the rank computes beside it. */
const spins = 20;

const { bells: words, port, stop } = workerData as MpiMoverData;
const bells = new Bells(words, thread.mover, spins);
const mpi = new Mpi();
const places = new Map<number, Place>();

/** A call that waits for its turn in its row, or is under way. */
interface Held {
  readonly id: number;
  readonly words: Int32Array;
  readonly row: string;
  readonly place: Place;
  readonly task: Task;
}
let held: Held[] = [];

while (!stops(stop))
  if (held.length === 0) bells.nap(() => takeOrders() || stops(stop), Infinity);
  else
    bells.wait(
      () => takeOrders() || goOn() || stops(stop),
      () => Math.min(...held.map(({ task }) => task.wakeAt)),
      () => {
        for (const { task } of heads()) task.look();
      },
    );

/** Takes what the rank has to say; true where that was something. */
function takeOrders(): boolean {
  let some = false;
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: ToMpiMover } | undefined;
    if (!received) return some;
    some = true;
    const { message } = received;
    if ('place' in message) places.set(message.place.group, new Place(mpi, message.place));
    else if ('leave' in message) places.delete(message.leave);
    else {
      const { id, on, order, x, out, words: callWords } = message;
      const place = places.get(on);
      if (!place) throw new Error(`group ${on} is unknown`);
      const [from, to] = [x, out].map(({ address, bytes }) => ({
        address,
        bytes: mpi.bytesAt(address, bytes),
      }));
      const row = `${on} ${order.row} ${order.peer}`;
      const task = taskOf(place, order, from, to);
      held.push({
        id,
        words: callWords,
        row: order.row === 'meeting' ? `${on}` : row,
        place,
        task,
      });
    }
  }
}

/** The first call of each row: the others wait for it. */
function heads(): Held[] {
  const rows = new Set<string>();
  return held.filter(({ row }) => !rows.has(row) && rows.add(row));
}

/** Takes the steps that can be taken; true where a call ended. */
function goOn(): boolean {
  const ended = new Set(heads().filter(hasEnded));
  if (ended.size === 0) return false;
  held = held.filter((call) => !ended.has(call));
  return true;
}

/** Takes the steps of a call that can be taken, and reports it where it ended. */
function hasEnded({ id, words: callWords, place, task }: Held): boolean {
  let ended = true;
  try {
    ended = task.step();
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const message = `rank ${place.rank}: what moves its data failed: ${text}`;
    place.fail(blame('RANK_FAILED', message, [place.rank], place.members));
    task.failed = true;
  }
  if (!ended) return false;
  Atomics.store(callWords, callWord.state, task.failed ? state.failed : state.ended);
  if (Atomics.load(callWords, callWord.wanted) === 1) port.postMessage(id);
  bells.ring(thread.rank);
  return true;
}
