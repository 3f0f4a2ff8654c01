// Jobs of threads: what they are given and return, how they end when a rank does not, and calls that go on beside compute.
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BroadcastChannel } from 'node:worker_threads';

import { threads } from '@baleen/comm/threads';
import { describeKernels, setThreads } from '@baleen/kernels';
import { describe, expect, test, vi } from 'vitest';

import { Buffers } from '../src/threads/buffers';

const job = new URL('./job.mjs', import.meta.url);

test('arguments reach every rank, shared memory in them stays shared, results come back by rank', async () => {
  const counts = new Int32Array(new SharedArrayBuffer(4));
  const results = await threads(3, job, { what: 'share', counts });
  expect(results).toEqual([0, 1, 2].map((rank) => ({ rank, seen: 6 })));
  expect(counts[0]).toBe(6);
});

test('the kernels get each rank’s share of the threads, and the process its own back', async () => {
  const before = describeKernels().threads;
  setThreads(4);
  try {
    const native = describeKernels().implementation === 'native';
    expect(await threads(2, job, { what: 'threads' })).toEqual(native ? [2, 2] : [1, 1]);
    expect(describeKernels().threads).toBe(native ? 4 : 1);
  } finally {
    setThreads(before);
  }
});

describe('a rank that fails', () => {
  interface Heard {
    rank: number;
    code: string;
    ranks: number[];
    message: string;
  }

  /** How a job ends in which rank 1 fails, and what the others heard. */
  async function failing(how: string, ranks = 3): Promise<{ error: unknown; heard: Heard[] }> {
    const heard: Heard[] = [];
    const channel = `heard-${how}-${ranks}`;
    const listener = new BroadcastChannel(channel);
    listener.onmessage = ({ data }: { data: unknown }) => heard.push(data as Heard);
    const error: unknown = await threads(
      ranks,
      job,
      { what: 'fail', how, channel },
      { deadlineMs: 2000, graceMs: 2000 },
    ).catch((thrown: unknown) => thrown);
    listener.close();
    return { error, heard };
  }

  test.each([
    ['throws', /^rank 1 threw “no more memory”$/],
    ['exits', /^rank 1 exited with code 3 before its work was done$/],
  ])('%s: the others name it, and so does the job', async (how, message) => {
    const { error, heard } = await failing(how);
    expect(error).toMatchObject({
      code: 'ERR_BALEEN_COMM_RANK_FAILED',
      ranks: [1],
      message: expect.stringMatching(message) as string,
      hint: expect.any(String) as string,
    });
    expect(heard.map(({ rank }) => rank).sort()).toEqual([0, 2]);
    for (const { code, ranks } of heard)
      expect({ code, ranks }).toEqual({ code: 'ERR_BALEEN_COMM_RANK_FAILED', ranks: [1] });
  });

  test('returns: those who wait for it name it', async () => {
    const { error, heard } = await failing('returns');
    expect(error).toMatchObject({
      code: 'ERR_BALEEN_COMM_RANK_FAILED',
      ranks: [1],
      message: 'barrier: rank 1 has ended',
    });
    expect(heard).toHaveLength(2);
  });

  test('hangs: the others name it at the deadline, and it is stopped', async () => {
    const { error, heard } = await failing('hangs');
    expect(error).toMatchObject({
      code: 'ERR_BALEEN_COMM_DEADLINE',
      ranks: [1],
      message: 'barrier: rank 1 did not come within 2000 ms',
    });
    expect(heard.map(({ ranks }) => ranks)).toEqual([[1], [1]]);
  });
});

test('a group that was split off names ranks as the job counts them, too', async () => {
  const ended = threads(4, job, { what: 'hangInGroup' }, { deadlineMs: 500, graceMs: 500 });
  await expect(ended).rejects.toMatchObject({
    code: 'ERR_BALEEN_COMM_DEADLINE',
    ...{ ranks: [1], jobRanks: [3] },
    message: 'barrier: rank 1 (rank 3 of the job) did not come within 500 ms',
  });
});

test('time in calls is counted, over all groups together', async () => {
  const spent = await threads<number[]>(2, job, { what: 'waiting' });
  for (const ms of spent[0]) expect(ms).toBeGreaterThan(90);
  for (const ms of spent[1]) expect(ms).toBeLessThan(90);
});

test('a signal stops the job', async () => {
  const signal = AbortSignal.timeout(200);
  const ended = threads(2, job, { what: 'fail', how: 'hangs', channel: 'stopped' }, { signal });
  await expect(ended).rejects.toMatchObject({ code: 'ERR_BALEEN_COMM_ABORTED' });
});

test.each([
  ['a module that is not there', 2, './none.mjs', 'RANK_FAILED'],
  ['a module without a function', 2, 'data:text/javascript,export default 1', 'RANK_FAILED'],
  ['half a rank', 1.5, './job.mjs', 'OPTIONS'],
  ['no rank', 0, './job.mjs', 'OPTIONS'],
])('%s is refused', async (_, ranks, module, what) => {
  const ended = threads(ranks, new URL(module, import.meta.url), {});
  await expect(ended).rejects.toMatchObject({ code: `ERR_BALEEN_COMM_${what}` });
});

test('64 MB that are under way when a computation of 500 ms begins have arrived at its end', async () => {
  const results = await threads<{ complete: boolean[]; waitedMs: number }>(2, job, {
    what: 'overlap',
    bytes: 64e6,
  });
  for (const { complete, waitedMs } of results) {
    expect(complete).toEqual([true, true]);
    expect(waitedMs).toBeLessThan(availableParallelism() > 1 ? 20 : 200);
  }
});

test('calls that nobody waits for end before the rank does', async () => {
  const out = [0, 1].map(() => new Int32Array(new SharedArrayBuffer(4)));
  await threads(2, job, { what: 'forgotten', out });
  expect(out.map(([sum]) => sum)).toEqual([2, 2]);
});

test('shared memory that a rank no longer has is kept by nobody', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const [mine, other] = [0, 1].map((rank) => new Buffers('kept by nobody', rank));
  const id = (() => mine.idOf(new SharedArrayBuffer(8)))();
  expect(other.get(id).byteLength).toBe(8);
  await vi.waitFor(() => {
    collect();
    expect(() => other.get(id)).toThrow('was never announced');
  });
  mine.close();
  other.close();
});
