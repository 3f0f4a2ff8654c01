// What every communicator must do, as cases that all ranks run together: on one rank, on threads, and as processes under
// MPI. Each case gets a group of its own, for some leave theirs broken. Plain JavaScript, since Node.js runs it as it is.
//
// Legend: n ranks, r this one.
import assert from 'node:assert/strict';

const kinds = {
  f32: Float32Array,
  f64: Float64Array,
  i32: Int32Array,
  bf16: Uint16Array,
  u8: Uint8Array,
};
const sizes = [0, 1, 3, 64, 4097];

/** An array of a type, in shared memory or not. */
function array(kind, length, shared) {
  const Kind = kinds[kind];
  if (!shared) return new Kind(length);
  return new Kind(new SharedArrayBuffer(Math.max(1, length) * Kind.BYTES_PER_ELEMENT), 0, length);
}

/** Element i of rank r: values that lose bits in a sum, so that its order shows. */
function element(kind, r, i, salt = 0) {
  const hash = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(r + 1 + 31 * salt, 0x85ebca6b);
  const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
  if (kind === 'i32') return mixed | 0;
  if (kind === 'u8') return mixed & 255;
  // Finite patterns of BF16 of about one size.
  if (kind === 'bf16') return 0x3c00 + (mixed % 0x400) + (mixed & 0x80000000 ? 0x8000 : 0);
  return ((mixed % 2001) - 1000) * 2 ** ((mixed >>> 16) % 40) * 1.1;
}

function filled(kind, length, shared, r, salt) {
  const x = array(kind, length, shared);
  for (let i = 0; i < length; i += 1) x[i] = element(kind, r, i, salt);
  return x;
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);
const fromBf16 = (pattern) => {
  word[0] = pattern << 16;
  return float[0];
};
const toBf16 = (x) => {
  float[0] = x;
  return (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16;
};

/** The sum over ranks in their order of the elements i = from … from + length. */
function summed(kind, n, from, length, salt) {
  const out = array(kind, length, false);
  for (let i = 0; i < length; i += 1) {
    const at = (r) => {
      const cell = new kinds[kind](1);
      cell[0] = element(kind, r, from + i, salt);
      return cell[0];
    };
    if (kind === 'bf16') {
      let sum = fromBf16(at(0));
      for (let r = 1; r < n; r += 1) sum = Math.fround(sum + fromBf16(at(r)));
      out[i] = toBf16(sum);
    } else {
      let sum = at(0);
      for (let r = 1; r < n; r += 1)
        sum =
          kind === 'f32'
            ? Math.fround(sum + at(r))
            : kind === 'i32'
              ? (sum + at(r)) | 0
              : sum + at(r);
      out[i] = sum;
    }
  }
  return out;
}

function same(found, expected, what) {
  assert.equal(found.length, expected.length, what);
  const bytes = (x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  if (bytes(found).equals(bytes(expected))) return;
  const i = expected.findIndex((value, j) => !Object.is(value, found[j]));
  assert.fail(`${what}: element ${i} is ${found[i]}, expected ${expected[i]}`);
}

/** Runs a call in each form: blocking, waited for, and as a promise. */
const forms = {
  blocking: (group, name, args) => group[name](...args),
  wait: (group, name, args) => group.start[name](...args).wait(),
  done: (group, name, args) => group.start[name](...args).done,
};

/** Whether every form is run with every type and size, or each with some. */
let thorough = false;

/** Calls `check` for every type asked for, in all forms and with both kinds of memory. */
async function everyForm(types, check) {
  const variants = Object.keys(forms).flatMap((form) =>
    [true, false].map((shared) => [form, shared]),
  );
  let turn = 0;
  for (const kind of types)
    for (const length of sizes)
      for (const [form, shared] of thorough ? variants : [variants[turn++ % variants.length]])
        await check({
          kind,
          length,
          shared,
          what: `${form} ${kind} × ${length}${shared ? ' shared' : ''}`,
          call: (group, name, ...args) => forms[form](group, name, args),
        });
}

const sums = ['f32', 'f64', 'i32', 'bf16'];
const all = [...sums, 'u8'];
/** Uneven pieces, some of nothing. */
const ragged = (length, n) => {
  const counts = Array.from({ length: n }, (_, k) => (k % 3 === 1 ? 0 : Math.floor(length / n)));
  counts[n - 1] += length - counts.reduce((a, b) => a + b, 0);
  return counts;
};
const before = (counts, k) => counts.slice(0, k).reduce((a, b) => a + b, 0);

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

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @type {Record<string, (group: any, n: number, r: number) => Promise<void> | void>} */
const cases = {
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
    if (r === n - 1) await sleep(250);
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

/**
 * Runs the cases, or those whose name includes a text.
 * @param communicator - this rank's end
 * @param options - which cases, and whether they run every combination of form, memory, type and size
 * @returns what went wrong on this rank, in words; empty where nothing did
 */
export default async function run(communicator, { only = '', thoroughly = false } = {}) {
  thorough = thoroughly;
  const wrong = [];
  for (const [name, test] of Object.entries(cases)) {
    if (!name.includes(only)) continue;
    const group = communicator.split(0, communicator.rank);
    try {
      await test(group, group.size, group.rank);
    } catch (error) {
      wrong.push(`rank ${communicator.rank} of ${communicator.size}, “${name}”: ${error.stack}`);
    }
    communicator.barrier();
  }
  return wrong;
}
