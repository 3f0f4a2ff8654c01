// What ranks do in threads.test.ts, by name.
import { BroadcastChannel } from 'node:worker_threads';

import { emulatedLink } from '@baleen/comm';

const work = {
  /** Returns what it was given, and writes into memory that all share. */
  share(communicator, { counts }) {
    Atomics.add(counts, 0, communicator.rank + 1);
    communicator.barrier();
    return { rank: communicator.rank, seen: Atomics.load(counts, 0) };
  },

  async threads(communicator) {
    const { describeKernels } = await import('@baleen/kernels');
    communicator.barrier();
    return describeKernels().threads;
  },

  /** Rank 1 fails in some way while the others wait for it; they report what they were thrown. */
  fail(communicator, { how, channel }) {
    communicator.barrier();
    if (communicator.rank === 1) {
      if (how === 'throws') throw Object.assign(new RangeError('no more memory'), { cause: 1 });
      if (how === 'exits') process.exit(3);
      if (how === 'hangs') for (;;);
      return null;
    }
    try {
      communicator.start.barrier().wait();
    } catch (error) {
      const heard = new BroadcastChannel(channel);
      heard.postMessage({
        rank: communicator.rank,
        code: error.code,
        ranks: error.ranks,
        message: error.message,
      });
      heard.close();
      throw error;
    }
    return null;
  },

  /** Rank 3 hangs while the other of its group waits for it; the ranks of the other group end. */
  hangInGroup(communicator) {
    const group = communicator.split(communicator.rank % 2);
    if (communicator.rank === 3) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    group.barrier();
  },

  /** Rank 1 comes 100 ms late, to a call that blocks, one that does not, and one on a group: how long each spent in calls. */
  waiting(communicator) {
    const group = communicator.split(0);
    communicator.start.barrier().wait();
    const calls = [
      () => communicator.barrier(),
      () => communicator.start.barrier().wait(),
      () => group.barrier(),
    ];
    return calls.map((call) => {
      communicator.barrier();
      const before = communicator.spentMs;
      if (communicator.rank === 1) {
        const until = performance.now() + 100;
        while (performance.now() < until);
      }
      call();
      return communicator.spentMs - before;
    });
  },

  /** An exchange that was begun before a long computation is complete at its end. */
  overlap(communicator, { bytes }) {
    const { rank, size } = communicator;
    const shared = () => new Uint8Array(new SharedArrayBuffer(bytes));
    const [x, out] = [shared().fill(rank + 1), shared()];
    // The mover's thread starts once.
    communicator.start.barrier().wait();
    communicator.barrier();
    const handle = communicator.start.allToAll(out, x);
    const until = performance.now() + 500;
    while (performance.now() < until);
    // Nothing of it waits for this thread: what is there is there by now.
    const complete = Array.from(
      { length: size },
      (_, k) => out[((k + 1) * bytes) / size - 1] === k + 1,
    );
    const start = performance.now();
    handle.wait();
    return { complete, waitedMs: performance.now() - start };
  },

  /** Times of calls over a slow link, ms, and what they cost the processor. */
  async link(communicator, options) {
    const { rank, size } = communicator;
    const slow = emulatedLink(communicator, options);
    slow.start.barrier().wait();
    const timed = async (call) => {
      communicator.barrier();
      const start = performance.now();
      await call();
      return performance.now() - start;
    };
    const x = new Uint8Array(size * 500_000).fill(rank + 1);
    const out = new Uint8Array(x.length);
    const cpu = process.cpuUsage();
    const exchange = await timed(() => slow.allToAll(out, x));
    const twice = await timed(() =>
      Promise.all([
        slow.start.allToAll(out, x).done,
        slow.start.allToAll(new Uint8Array(x.length), x).done,
      ]),
    );
    const { user, system } = process.cpuUsage(cpu);
    const barrier = await timed(() => slow.barrier());
    const group = slow.split(0, -rank);
    const message = await timed(() => {
      if (group.rank === 0) group.send(x, 1);
      else if (group.rank === 1) group.recv(out, 0);
    });
    return {
      exchange,
      twice,
      barrier,
      message,
      cpuMs: (user + system) / 1000,
      got: out.at(-1),
      sent: slow.traffic.allToAll.sentBytes,
    };
  },

  /** Calls that nobody waits for end before the rank does. */
  forgotten(communicator, { out }) {
    communicator.start.allReduce(out[communicator.rank], Int32Array.of(1));
  },
};

export default function run(communicator, { what, ...args }) {
  return work[what](communicator, args);
}
