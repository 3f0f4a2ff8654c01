// Calls that meet: messages, calls that are under way at once, and groups that are cut from others.
//
// Legend: n ranks, r this one.
import assert from 'node:assert/strict';

import { all, array, filled, same, sizes, summed, sums } from './data.mjs';

/** @type {Record<string, (group: any, n: number, r: number) => Promise<void> | void>} */
export const order = {
  async 'messages between neighbours, both ways at once'(group, n, r) {
    if (n === 1) return;
    const [next, last] = [(r + 1) % n, (r + n - 1) % n];
    for (const shared of [true, false])
      for (const kind of all)
        for (const length of sizes) {
          const there = group.start.send(filled(kind, length, shared, r), next);
          const back = group.start.send(filled(kind, length, shared, r, 1), last);
          const [a, b] = [array(kind, length, shared), array(kind, length, shared)];
          const first = group.start.recv(a, last);
          group.recv(b, next);
          there.wait();
          await back.done;
          first.wait();
          same(a, filled(kind, length, false, last), `${kind} × ${length} from before`);
          same(b, filled(kind, length, false, next, 1), `${kind} × ${length} from after`);
        }
  },

  async 'messages arrive in the order of their calls'(group, n, r) {
    if (n === 1) return;
    const count = 40;
    if (r === 0) {
      const sent = [];
      for (let i = 0; i < count; i += 1)
        for (let to = 1; to < n; to += 1)
          if (i % 3 === 0) group.send(Int32Array.of(i), to);
          else sent.push(group.start.send(Int32Array.of(i), to));
      await Promise.all(sent.map((handle) => handle.done));
    } else
      for (let i = 0; i < count; i += 1) {
        const out = new Int32Array(1);
        if (i % 2 === 0) group.recv(out, 0);
        else await group.start.recv(out, 0).done;
        assert.equal(out[0], i);
      }
  },

  async 'blocking and non-blocking calls are one row'(group, n, r) {
    const x = Float64Array.of(r);
    const outs = Array.from({ length: 30 }, () => new Float64Array(1));
    const handles = outs.map((out, i) => {
      x[0] = r;
      if ((i + r) % 2 === 0) return group.start.allReduce(out, Float64Array.of(r + i));
      group.allReduce(out, Float64Array.of(r + i));
      return null;
    });
    for (const handle of handles.reverse()) handle?.wait();
    outs.forEach((out, i) => assert.equal(out[0], (n * (n - 1)) / 2 + n * i));
  },

  async 'groups: cut, numbered by key, cut again, each on its own'(group, n, r) {
    // A call that is still under way is no hindrance.
    const sum = new Int32Array(1);
    const earlier = group.start.allReduce(sum, Int32Array.of(1));
    const half = group.split(r % 2, -r);
    earlier.wait();
    assert.equal(sum[0], n);
    const members = Array.from({ length: n }, (_, k) => k)
      .filter((k) => k % 2 === r % 2)
      .reverse();
    assert.deepEqual([half.rank, half.size], [members.indexOf(r), members.length]);
    const out = new Int32Array(half.size);
    half.allGather(out, Int32Array.of(r));
    assert.deepEqual([...out], members);
    assert.equal(group.split(r === 0 ? null : 0) === null, r === 0);
    // Calls on two groups meet in whatever order they are made.
    const twin = group.split(7, r);
    const [a, b] = [new Int32Array(1), new Int32Array(1)];
    const [first, second] = r % 2 === 0 ? [group, twin] : [twin, group];
    const sums = r % 2 === 0 ? [a, b] : [b, a];
    const handles = [
      first.start.allReduce(sums[0], Int32Array.of(first === group ? 1 : 10)),
      second.start.allReduce(sums[1], Int32Array.of(second === group ? 1 : 10)),
    ];
    for (const handle of handles) await handle.done;
    assert.deepEqual([a[0], b[0]], [n, 10 * n]);
    half.close();
    twin.barrier();
    const third = half.rank === 0 ? twin.split(null) : twin.split(1, 0);
    third?.barrier();
    group.barrier();
  },

  async 'a random sequence of calls'(group, n, r) {
    const stream = (seed) => {
      let state = seed;
      return (limit) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * limit);
      };
    };
    // What is called is the same everywhere; when it is waited for is each rank's own affair.
    const random = stream(12345);
    const own = stream(r);
    const open = [];
    for (let i = 0; i < 120; i += 1) {
      const kind = sums[random(4)];
      const length = random(300);
      const root = random(n);
      const operation = random(5);
      const style = (r + i) % 3;
      const expected = summed(kind, n, 0, length, i);
      const x = filled(kind, length, style === 0, r, i);
      const out = array(
        kind,
        operation === 2 || operation === 3 ? length * n : length,
        style === 1,
      );
      const form = style === 2 ? group : group.start;
      let handle;
      let check;
      if (operation === 0) {
        handle = form.allReduce(out, x);
        check = () => same(out, expected, `call ${i}`);
      } else if (operation === 1) {
        handle = form.broadcast(x, root);
        check = () => same(x, filled(kind, length, false, root, i), `call ${i}`);
      } else if (operation === 2) {
        handle = form.allGather(out, x);
        check = () =>
          same(
            out.subarray(root * length, (root + 1) * length),
            filled(kind, length, false, root, i),
            `call ${i}`,
          );
      } else if (operation === 3) {
        handle = form.allToAll(out, filled(kind, length * n, true, r, i));
        check = () =>
          same(
            out.subarray(root * length, (root + 1) * length),
            filled(kind, length * n, false, root, i).subarray(r * length, (r + 1) * length),
            `call ${i}`,
          );
      } else {
        handle = form.barrier();
        check = () => undefined;
      }
      if (handle) open.push([handle, check]);
      else check();
      while (open.length > own(6)) {
        const [[oldest, verify]] = open.splice(own(open.length), 1);
        oldest.wait();
        verify();
      }
    }
    for (const [handle, check] of open) {
      await handle.done;
      check();
    }
  },

  async 'what is sent later leaves later'(group, n, r) {
    if (n === 1) return;
    group.barrier();
    const start = performance.now();
    const options = r === 0 ? { delayMs: 80 } : {};
    await group.start.allGather(new Int32Array(n), Int32Array.of(r), options).done;
    assert.ok(performance.now() - start > 70, 'non-blocking');
    if (r === 0) group.send(Int32Array.of(5), 1, options);
    else if (r === 1) {
      group.recv(new Int32Array(1), 0);
      assert.ok(performance.now() - start > 150, 'blocking');
    }
    group.barrier();
  },
};
