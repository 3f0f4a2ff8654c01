// The communicator of one: every operation copies, counts nothing as sent, and checks what every transport checks.
import { self } from '@baleen/comm';
import { expect, test } from 'vitest';

const one = self();

test('operations copy', async () => {
  const x = Float64Array.of(1, NaN, -0);
  for (const operation of ['allReduce', 'reduceScatter', 'allGather', 'allToAll'] as const) {
    const out = new Float64Array(3);
    one[operation](out, x);
    expect(out, operation).toEqual(x);
    const later = new Float64Array(3);
    await one.start[operation](later, x).done;
    expect(later, `start.${operation}`).toEqual(x);
  }
  const kept = x.slice();
  one.broadcast(x, 0);
  one.allReduce(x, x);
  one.barrier();
  one.start.barrier().wait();
  expect(x).toEqual(kept);
});

test('bits survive that a number would lose', () => {
  const x = new Float32Array(Uint32Array.of(0x7fa00001, 0xffc12345).buffer);
  const out = new Float32Array(2);
  one.allGather(out, x);
  expect([...new Uint32Array(out.buffer)]).toEqual([0x7fa00001, 0xffc12345]);
});

test('a rank alone sends nothing; calls are counted', () => {
  const counted = self();
  counted.allReduce(new Int32Array(4), new Int32Array(4));
  counted.start.allReduce(new Int32Array(4), new Int32Array(4)).wait();
  expect(counted.traffic.allReduce).toEqual({ calls: 2, sentBytes: 0, receivedBytes: 0 });
  expect(counted.traffic.barrier.calls).toBe(0);
});

test('groups of one', () => {
  expect(one.split(null)).toBeNull();
  const group = one.split(3, -1);
  expect([group?.rank, group?.size]).toEqual([0, 1]);
  group?.close();
  expect(() => group?.barrier()).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_COMM_CLOSED' }),
  );
  one.barrier();
});

test('a raised signal gives the call up', async () => {
  const signal = AbortSignal.abort();
  const aborted: unknown = expect.objectContaining({
    code: 'ERR_BALEEN_COMM_ABORTED',
    ranks: [0],
  });
  expect(() => {
    one.barrier({ signal });
  }).toThrow(aborted);
  const handle = one.start.barrier({ signal });
  expect(() => {
    handle.wait();
  }).toThrow(aborted);
  await expect(handle.done).rejects.toThrow(aborted);
});

const f = (length: number): Float32Array => new Float32Array(length);
const memory = new Float32Array(8);

test.each<[string, string, string, () => unknown]>([
  [
    'a type that does not travel',
    'TYPE',
    'x',
    () => {
      one.broadcast(new BigInt64Array(1) as never, 0);
    },
  ],
  [
    'two types',
    'TYPE',
    'out',
    () => {
      one.allReduce(new Int32Array(1), f(1));
    },
  ],
  [
    'a sum of bytes',
    'TYPE',
    'x',
    () => {
      one.allReduce(new Uint8Array(1), new Uint8Array(1));
    },
  ],
  [
    'a root that is no rank',
    'RANK',
    'root',
    () => {
      one.broadcast(f(1), 1);
    },
  ],
  [
    'half a rank',
    'RANK',
    'to',
    () => {
      one.send(f(1), 0.5);
    },
  ],
  [
    'a message to oneself',
    'RANK',
    'to',
    () => {
      one.send(f(1), 0);
    },
  ],
  [
    'an output of another size',
    'SIZES',
    'out',
    () => {
      one.allReduce(f(2), f(3));
    },
  ],
  [
    'pieces that do not fit',
    'SIZES',
    'out',
    () => {
      one.allGather(f(2), f(3));
    },
  ],
  [
    'counts for other ranks',
    'SIZES',
    'counts',
    () => {
      one.allGather(f(2), f(2), { counts: [1, 1] });
    },
  ],
  [
    'a negative count',
    'SIZES',
    'sendCounts[0]',
    () => {
      one.allToAll(f(1), f(1), { sendCounts: [-1] });
    },
  ],
  [
    'counts that add up to less',
    'SIZES',
    'recvCounts',
    () => {
      one.allToAll(f(2), f(1), { recvCounts: [1] });
    },
  ],
  [
    'another piece for oneself',
    'SIZES',
    'recvCounts',
    () => {
      one.allToAll(f(2), f(1), { sendCounts: [1], recvCounts: [2] });
    },
  ],
  [
    'memory that overlaps',
    'OVERLAP',
    'out',
    () => {
      one.allReduce(memory.subarray(0, 4), memory.subarray(1, 5));
    },
  ],
  [
    'an exchange in place',
    'OVERLAP',
    'out',
    () => {
      one.allToAll(memory, memory);
    },
  ],
  [
    'a deadline that is no time',
    'OPTIONS',
    'deadlineMs',
    () => {
      one.barrier({ deadlineMs: NaN });
    },
  ],
  ['a color that is no number', 'OPTIONS', 'color', () => one.split(-2)],
])('%s is refused, and nothing is counted', (_, what, path, call) => {
  const before = structuredClone(one.traffic);
  expect(call).toThrow(
    expect.objectContaining({
      code: `ERR_BALEEN_COMM_${what}`,
      path,
      hint: expect.any(String) as string,
    }),
  );
  expect(one.traffic).toEqual(before);
});
