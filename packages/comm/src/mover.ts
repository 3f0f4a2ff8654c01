// The thread beside a rank that carries out calls which the rank does not wait for, so that they go on while it computes.
import { receiveMessageOnPort, workerData } from 'node:worker_threads';

import { blame } from './failure';
import { callWord, state } from './movers';
import { GroupMemory } from './threads/memory';
import { type Place, ringGroup, type Task, taskOf } from './threads/tasks';
import { type MoverData, surroundingsOf, type ToMover } from './threads/thread';

/** How often it looks before it sleeps: few times, for the rank computes beside it. */
const spins = 50;

const { job, rank, port, ready } = workerData as MoverData;
const surroundings = surroundingsOf(job, rank, job.ranks + rank, spins);
const { bells, buffers } = surroundings;
const places = new Map<number, Place>();
let tasks: { id: number; words: Int32Array; task: Task; place: Place }[] = [];

Atomics.store(ready, 0, 1);
Atomics.notify(ready, 0);

for (;;) {
  if (tasks.length === 0) bells.nap(takeOrders, Infinity);
  else
    bells.wait(
      () => takeOrders() || goOn(),
      () => Math.min(...tasks.map(({ task }) => task.wakeAt)),
      () => {
        for (const { task } of tasks) task.late();
      },
    );
}

/** Takes what the rank has to say; true where that was something. */
function takeOrders(): boolean {
  let some = false;
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: ToMover } | undefined;
    if (!received) return some;
    some = true;
    const { message } = received;
    if ('buffers' in message) buffers.adopt(message.buffers);
    else if ('group' in message) {
      const { group, memory, rank: own, members } = message;
      places.set(group, { memory: new GroupMemory(memory, members.length), rank: own, members });
    } else if ('leave' in message) places.delete(message.leave);
    else {
      const place = places.get(message.on);
      if (!place) throw new Error(`group ${message.on} is unknown`);
      const { id, words, order } = message;
      tasks.push({ id, words, place, task: taskOf(order, place, surroundings) });
    }
  }
}

/** Takes the steps that can be taken; true where a call ended. */
function goOn(): boolean {
  const before = tasks.length;
  tasks = tasks.filter(({ id, words, task, place }) => {
    let ended = true;
    try {
      ended = task.step();
    } catch (error) {
      const text = `what moves its data failed: ${error instanceof Error ? error.message : String(error)}`;
      const message = `rank ${place.rank}: ${text}`;
      place.memory.record.fail(blame('RANK_FAILED', message, [place.rank], place.members));
      ringGroup(place, surroundings);
      task.failed = true;
    }
    if (!ended) return true;
    Atomics.store(words, callWord.state, task.failed ? state.failed : state.ended);
    if (Atomics.load(words, callWord.wanted) === 1) port.postMessage(id);
    bells.ring(rank);
    return false;
  });
  return tasks.length < before;
}
