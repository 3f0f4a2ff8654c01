// What goes wrong: calls that do not go together, ranks that do not come, calls that are given up. All ranks hear the same.
//
// Legend: n ranks, r this one.
import assert from 'node:assert/strict';

import { before, sleep } from './data.mjs';

/** What a call throws, or rejects with. */
async function thrown(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}

/** All ranks fail in the same way, now and from then on. */
async function fails(group, call, code, ranks) {
  const error = await thrown(call);
  assert.equal(error.code, `ERR_BALEEN_COMM_${code}`, error.message);
  assert.equal(typeof error.hint, 'string');
  if (ranks) assert.deepEqual(error.ranks, ranks, error.message);
  const again = await thrown(() => group.barrier());
  assert.equal(again.message, error.message);
  assert.deepEqual((await thrown(() => group.start.barrier().done)).ranks, error.ranks);
  return error;
}

/** @type {Record<string, (group: any, n: number, r: number) => Promise<void> | void>} */
export const misuse = {
  async 'different calls are named on every rank'(group, n, r) {
    if (n === 1) return;
    const error = await fails(
      group,
      () => (r === 0 ? group.barrier() : group.allReduce(new Float32Array(1), new Float32Array(1))),
      'MISMATCH',
      n === 2 ? [1] : [0],
    );
    assert.match(error.message, /rank 0 called barrier, ranks? 1.* called allReduce/);
  },

  async 'different types'(group, n, r) {
    if (n === 1) return;
    const Kind = r === n - 1 ? Int32Array : Float32Array;
    const error = await fails(
      group,
      () => group.start.allReduce(new Kind(2), new Kind(2)).done,
      'MISMATCH',
      [n - 1],
    );
    assert.match(error.message, /f32.*i32/);
  },

  async 'different lengths'(group, n, r) {
    if (n === 1) return;
    const length = r === n - 1 ? 5 : 4;
    const error = await fails(
      group,
      () => group.broadcast(new Float32Array(length), 0),
      'MISMATCH',
      [n - 1],
    );
    assert.match(error.message, /of 4 elements.*of 5 elements/);
  },

  async 'different lengths of arrays that do not travel with the call'(group, n, r) {
    if (n === 1) return;
    const length = r === n - 1 ? 60_000 : 50_000 * n;
    const call = () => group.allReduce(new Float64Array(length), new Float64Array(length));
    await fails(group, call, 'MISMATCH', n === 2 ? [1] : [n - 1]);
  },

  async 'different roots'(group, n, r) {
    if (n === 1) return;
    const error = await fails(
      group,
      () => group.broadcast(new Float32Array(4), r === n - 1 ? 1 : 0),
      'MISMATCH',
      [n - 1],
    );
    assert.match(error.message, /root 0.*root 1/);
  },

  async 'different pieces'(group, n, r) {
    if (n === 1) return;
    const counts = Array.from({ length: n }, () => 2);
    if (r === n - 1) {
      counts[0] = 3;
      counts[1] = 1;
    }
    await fails(
      group,
      () => group.allGather(new Float32Array(2 * n), new Float32Array(counts[r]), { counts }),
      'MISMATCH',
      [n - 1],
    );
  },

  async 'an exchange in which one expects what another does not send'(group, n, r) {
    if (n === 1) return;
    const recvCounts = Array.from({ length: n }, () => 1);
    if (r === 1) recvCounts[0] = 2;
    const out = new Uint8Array(before(recvCounts, n));
    const error = await fails(
      group,
      () => group.allToAll(out, new Uint8Array(n), { recvCounts }),
      'MISMATCH',
      [0, 1],
    );
    assert.match(error.message, /rank 0 .* 1 elements for rank 1, which expects 2/);
  },

  async 'a message of another size'(group, n, r) {
    if (n === 1) return;
    const call = () => {
      if (r === 0) group.send(new Float32Array(3), 1);
      else if (r === 1) group.recv(new Float32Array(4), 0);
      else group.barrier();
    };
    const error = await fails(group, call, 'MISMATCH', [0, 1]);
    assert.match(error.message, /rank 0 called send of 3 f32, rank 1 called recv of 4 f32/);
  },

  async 'who does not come in time is named'(group, n, r) {
    if (n === 1) return;
    // Longer where more ranks share the processors.
    if (r === n - 1) await sleep(150 + 100 * n);
    const error = await fails(group, () => group.barrier({ deadlineMs: 100 }), 'DEADLINE', [n - 1]);
    assert.match(error.message, /within 100 ms/);
  },

  async 'who does not come in time for a call beside compute is named'(group, n, r) {
    if (n === 1) return;
    if (r === 0) await sleep(250);
    const x = new Float32Array(2);
    const handle = r < 2 ? null : group.start.recv(x, 0, { deadlineMs: 100 });
    const call = () => (r < 2 ? sleep(200).then(() => group.barrier()) : handle.done);
    if (n > 2) await fails(group, call, 'DEADLINE', [0]);
  },

  async 'a call that one rank gives up is given up on all'(group, n, r) {
    if (n === 1) return;
    const controller = new AbortController();
    const handle = r === 0 ? group.start.barrier({ signal: controller.signal }) : null;
    setTimeout(() => controller.abort(), 30);
    // Rank 1 waits for a message that will not come, the others for the call itself.
    const call = () => {
      if (r === 0) return handle.done;
      if (r === 1) return group.start.recv(new Float32Array(1), 0).done;
      return group.barrier();
    };
    await fails(group, call, 'ABORTED', [0]);
  },

  async 'a signal raised before gives the call up on all'(group, n, r) {
    if (n === 1) return;
    const options = r === n - 1 ? { signal: AbortSignal.abort() } : {};
    await fails(group, () => group.barrier(options), 'ABORTED', [n - 1]);
  },

  async 'who closes is named by those who wait'(group, n, r) {
    if (n === 1) return;
    group.barrier();
    if (r === 0) {
      group.close();
      group.close();
      assert.equal((await thrown(() => group.barrier())).code, 'ERR_BALEEN_COMM_CLOSED');
    } else await fails(group, () => group.barrier(), 'RANK_FAILED', [0]);
  },

  async 'wrong arguments harm nothing'(group, n, r) {
    const error = await thrown(() => group.allReduce(new Float32Array(2), new Float32Array(3)));
    assert.equal(error.code, 'ERR_BALEEN_COMM_SIZES');
    const error2 = await thrown(() => group.start.send(new Float32Array(1), n));
    assert.equal(error2.code, 'ERR_BALEEN_COMM_RANK');
    const out = new Int32Array(1);
    group.allReduce(out, Int32Array.of(r));
    assert.equal(out[0], (n * (n - 1)) / 2);
  },
};
