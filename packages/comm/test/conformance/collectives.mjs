// Calls of all ranks: every operation, type, size and form, in place and in pieces.
//
// Legend: n ranks, r this one.
import assert from 'node:assert/strict';

import {
  all,
  array,
  before,
  everyForm,
  filled,
  ragged,
  same,
  sleep,
  summed,
  sums,
} from './data.mjs';

/** @type {Record<string, (group: any, n: number, r: number) => Promise<void> | void>} */
export const collectives = {
  async broadcast(group, n, r) {
    await everyForm(all, async ({ kind, length, shared, what, call }) => {
      const root = length % n;
      const x = filled(kind, length, shared, r);
      await call(group, 'broadcast', x, root);
      same(x, filled(kind, length, false, root), what);
    });
  },

  async 'allReduce, also in place'(group, n, r) {
    await everyForm(sums, async ({ kind, length, shared, what, call }) => {
      const x = filled(kind, length, shared, r);
      const out = array(kind, length, shared);
      const expected = summed(kind, n, 0, length);
      await call(group, 'allReduce', out, x);
      same(out, expected, what);
      await call(group, 'allReduce', x, x);
      same(x, expected, `${what} in place`);
    });
  },

  async 'reduceScatter, equal and uneven pieces'(group, n, r) {
    await everyForm(sums, async ({ kind, length, shared, what, call }) => {
      const piece = array(kind, length, shared);
      await call(group, 'reduceScatter', piece, filled(kind, length * n, shared, r));
      same(piece, summed(kind, n, length * r, length), what);
      const counts = ragged(length, n);
      const whole = filled(kind, length, shared, r);
      const from = before(counts, r);
      const own = whole.subarray(from, from + counts[r]);
      await call(group, 'reduceScatter', own, whole, { counts });
      same(own, summed(kind, n, from, counts[r]), `${what} uneven, in place`);
    });
  },

  async 'allGather, equal and uneven pieces'(group, n, r) {
    await everyForm(all, async ({ kind, length, shared, what, call }) => {
      const out = array(kind, length * n, shared);
      await call(group, 'allGather', out, filled(kind, length, shared, r));
      for (let k = 0; k < n; k += 1)
        same(out.subarray(k * length, (k + 1) * length), filled(kind, length, false, k), what);
      const counts = ragged(length, n);
      const whole = array(kind, length, shared);
      const own = whole.subarray(before(counts, r), before(counts, r + 1));
      own.set(filled(kind, counts[r], false, r));
      await call(group, 'allGather', whole, own, { counts });
      for (let k = 0; k < n; k += 1)
        same(
          whole.subarray(before(counts, k), before(counts, k + 1)),
          filled(kind, counts[k], false, k),
          `${what} uneven, in place`,
        );
    });
  },

  async 'allToAll, equal and variable pieces'(group, n, r) {
    await everyForm(all, async ({ kind, length, shared, what, call }) => {
      const out = array(kind, length * n, shared);
      await call(group, 'allToAll', out, filled(kind, length * n, shared, r));
      for (let k = 0; k < n; k += 1)
        same(
          out.subarray(k * length, (k + 1) * length),
          filled(kind, length * n, false, k).subarray(r * length, (r + 1) * length),
          what,
        );
      const count = (from, to) =>
        (from * 7 + to * 3) % 4 === 0 ? 0 : Math.floor(length / (1 + ((from + to) % 3)));
      const sendCounts = Array.from({ length: n }, (_, k) => count(r, k));
      const recvCounts = Array.from({ length: n }, (_, k) => count(k, r));
      const x = filled(kind, before(sendCounts, n), shared, r);
      const got = array(kind, before(recvCounts, n), shared);
      await call(group, 'allToAll', got, x, { sendCounts, recvCounts });
      for (let k = 0; k < n; k += 1) {
        const from = before(
          Array.from({ length: n }, (_, to) => count(k, to)),
          r,
        );
        same(
          got.subarray(before(recvCounts, k), before(recvCounts, k + 1)),
          filled(kind, from + count(k, r), false, k).subarray(from),
          `${what} variable`,
        );
      }
    });
  },

  'arrays that no cache holds, from an odd place on'(group, n, r) {
    const length = 2 ** 21 + 3;
    const x = array('f32', length + 1, true).subarray(1);
    // Whole numbers, whose sums are exact.
    for (let i = 0; i < length; i += 1) x[i] = (r + 1) * (i % 1021);
    const out = array('f32', length + 2, true).fill(-1);
    group.allReduce(out.subarray(1, -1), x);
    const wrong = (array, of) => array.findIndex((value, i) => value !== of(i));
    const total = (n * (n + 1)) / 2;
    assert.equal(
      wrong(out.subarray(1, -1), (i) => total * (i % 1021)),
      -1,
    );
    assert.deepEqual([out[0], out.at(-1)], [-1, -1]);
    const bytes = array('u8', 2 ** 23 + 5, true).subarray(5);
    if (r === n - 1) for (let i = 0; i < bytes.length; i += 1) bytes[i] = i % 251;
    group.broadcast(bytes, n - 1);
    assert.equal(
      wrong(bytes, (i) => i % 251),
      -1,
    );
  },

  'bits survive that a number would lose'(group, n, r) {
    const x = new Float32Array(Uint32Array.of(0x7fa00001, 0xffc12345 + r).buffer);
    const out = new Float32Array(2 * n);
    group.allGather(out, x);
    for (let k = 0; k < n; k += 1)
      assert.deepEqual([...new Uint32Array(out.buffer, 8 * k, 2)], [0x7fa00001, 0xffc12345 + k]);
  },

  async 'nobody leaves a barrier before all have come'(group, n, r) {
    if (n === 1) return;
    group.barrier();
    const start = performance.now();
    if (r === n - 1) await sleep(60);
    await group.start.barrier().done;
    assert.ok(performance.now() - start > 50);
  },

  'bytes are counted by operation'(group, n) {
    group.allGather(new Float32Array(3 * n), new Float32Array(3));
    group.start.allToAll(new Uint16Array(2 * n), new Uint16Array(2 * n)).wait();
    group.allReduce(new Float64Array(n), new Float64Array(n));
    const others = n - 1;
    assert.deepEqual(group.traffic.allGather, {
      calls: 1,
      sentBytes: 12 * others,
      receivedBytes: 12 * others,
    });
    assert.deepEqual(group.traffic.allToAll, {
      calls: 1,
      sentBytes: 4 * others,
      receivedBytes: 4 * others,
    });
    assert.deepEqual(group.traffic.allReduce, {
      calls: 1,
      sentBytes: 16 * others,
      receivedBytes: 16 * others,
    });
    assert.equal(group.traffic.barrier.calls, 0);
  },
};
