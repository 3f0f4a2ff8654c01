// All ranks of a schedule in one thread, over links in memory: what is sent arrives when it is sent.
import {
  type Execution,
  execute,
  type Message,
  type MessageLink,
  replicasOf,
  type Schedule,
  type Stage,
} from '../src/index';

/** Links of all ranks. */
export function memoryLinks<T>(ranks: number): MessageLink<T>[] {
  const boxes = new Map<string, { promise: Promise<T>; resolve: (value: T) => void }>();
  const box = (from: number, to: number, { tensor, stage, microBatch }: Message) => {
    const name = [from, to, tensor, stage, microBatch].join();
    let found = boxes.get(name);
    if (!found) {
      let resolve!: (value: T) => void;
      found = { promise: new Promise<T>((r) => (resolve = r)), resolve };
      boxes.set(name, found);
    }
    return found;
  };
  return Array.from({ length: ranks }, (_, rank) => ({
    send: (message, value) => {
      box(rank, message.peer, message).resolve(value);
      return { done: Promise.resolve(), wait: () => undefined };
    },
    receive: (message) => {
      let value!: T;
      const done = box(message.peer, rank, message).promise.then((arrived) => {
        value = arrived;
      });
      return { done, wait: () => value };
    },
  }));
}

/** Runs a schedule on all ranks, each with stages of its own, made by their number and their rank. */
export function runAll<T>(
  schedule: Schedule,
  make: (stage: number, rank: number) => Stage<T>,
): Promise<Execution[]> {
  return Promise.all(
    memoryLinks<T>(schedule.ranks).map((link, rank) => {
      const own = replicasOf(schedule).flatMap((ranks, stage) =>
        ranks.includes(rank) ? [[stage, make(stage, rank)] as const] : [],
      );
      return execute(schedule, rank, { stages: new Map(own), link });
    }),
  );
}
