// Where rows go and what comes back, bit for bit, as DeepEP's tests have it: payload names where it is from.
//
// Legend: n ranks, r this one, K experts a token.
import assert from 'node:assert/strict';

import { ExpertExchange } from '@baleen/comm';

import {
  difference,
  everywhere,
  filled,
  hidden,
  k,
  quantized,
  randomFrom,
  rounded,
  same,
  toBf16,
  value,
} from './worlds.mjs';

/** @type {Record<string, (group: any, n: number, r: number) => Promise<void> | void>} */
export const rows = {
  'rows name their origin: BF16, FP32 and FP8, sorted by expert, source and token'(group, n, r) {
    everywhere(group, n, r, ({ what, exchange, route, wanted, tokens }) => {
      assert.deepEqual([...route.offsets], wanted.offsets, what);
      assert.deepEqual([...route.counts], wanted.counts, what);
      assert.deepEqual([...route.sourceOffsets], wanted.bySource, what);
      assert.equal(route.rows, wanted.rows.length);
      const ofRows = (Kind, of, cols = hidden) =>
        Kind.from({ length: route.rows * cols }, (_, i) => {
          const row = wanted.rows[Math.floor(i / cols)];
          return row ? of(row, i % cols) : 0;
        });
      for (const [Kind, of] of [
        [Float32Array, value],
        [Uint16Array, (...at) => toBf16(value(...at))],
      ]) {
        const x = filled(Kind, tokens, (t, c) => of(r, t, c));
        const right = ofRows(Kind, ({ rank, token }, c) => of(rank, token, c));
        same(exchange.dispatch(x, route), right, what);
        // Cached: the same way again, into memory that is there.
        const out = new Kind(right.length).fill(1);
        assert.equal(exchange.start.dispatch(x, route, { out }).wait(), out);
        same(out, right, `${what}, again`);
      }
      const { codes, scales } = exchange.dispatch(quantized(r, tokens), route);
      const whole = Array.from({ length: n }, (_, rank) => quantized(rank, 200));
      const tiles = Math.ceil(hidden / 128);
      same(
        codes,
        ofRows(Uint8Array, (row, c) => whole[row.rank].codes[row.token * hidden + c]),
        what,
      );
      same(
        scales,
        ofRows(Float32Array, (row, c) => whole[row.rank].scales[row.token * tiles + c], tiles),
        what,
      );
    });
  },

  'what belongs to a choice goes with it and comes back'(group, n, r) {
    everywhere(group, n, r, ({ what, exchange, route, all, wanted, tokens }) => {
      const weights = filled(Float32Array, tokens, (t, j) => r + t / 64 + j / 1024, k);
      const there = exchange.dispatch(weights, route, { per: 'choice', cols: 1 });
      same(
        there,
        Float32Array.from(wanted.rows, (row) =>
          row ? row.rank + row.token / 64 + (row.slot % k) / 1024 : 0,
        ),
        what,
      );
      for (const transport of ['fp32', 'bf16']) {
        const back = exchange.combine(there, route, { per: 'choice', cols: 1, transport });
        const right = weights.map((weight, slot) =>
          all[r][slot] < 0 ? 0 : transport === 'fp32' ? weight : rounded(weight),
        );
        same(back, right, `${what}, ${transport}`);
      }
    });
  },

  'combine sums in the order of ranks, FP32 and BF16'(group, n, r) {
    everywhere(
      group,
      n,
      r,
      ({ what, exchange, route, all, wanted, tokens, experts, rankOfExpert }) => {
        const at = (rank, slot, c) =>
          Math.fround(Math.sin(rank * 977 + slot * 31 + c) * 2 ** (c % 11));
        const weigh = (rank, slot) => Math.fround(0.1 + ((rank + slot) % 7) / 9);
        const y = new Float32Array(route.rows * hidden).fill(NaN); // padding is not read
        const weights = new Float32Array(route.rows).fill(NaN);
        wanted.rows.forEach((row, i) => {
          if (!row) return;
          weights[i] = weigh(row.rank, row.slot);
          for (let c = 0; c < hidden; c += 1) y[i * hidden + c] = at(row.rank, row.slot, c);
        });
        const rankOf = (e) => rankOfExpert?.[e] ?? Math.floor(e / (experts / n));
        const devices = exchange.spec.devicesPerNode;
        const twoLevel = devices < n && devices > 1;
        for (const transport of ['fp32', 'bf16'])
          for (const weighted of [false, true]) {
            const round = transport === 'bf16' ? rounded : Math.fround;
            const right = filled(Float32Array, tokens, (t, c) => {
              const add = (terms) => terms.reduce((sum, x) => Math.fround(sum + x), 0);
              const slots = Array.from({ length: k }, (_, j) => t * k + j).filter(
                (s) => all[r][s] >= 0,
              );
              // As they are summed on each rank: by expert.
              slots.sort((a, b) => all[r][a] - all[r][b]);
              const ofRank = (rank) => {
                const own = slots.filter((slot) => rankOf(all[r][slot]) === rank);
                const terms = own.map((slot) =>
                  weighted ? Math.fround(weigh(r, slot) * at(r, slot, c)) : at(r, slot, c),
                );
                return own.length === 0 ? [] : [round(add(terms))];
              };
              const ranks = Array.from({ length: n }, (_, rank) => rank);
              if (!twoLevel) return add(ranks.flatMap(ofRank));
              return add(
                Array.from({ length: n / devices }, (_, node) => node).flatMap((node) => {
                  const terms = ranks.slice(node * devices, (node + 1) * devices).flatMap(ofRank);
                  return terms.length === 0 ? [] : [round(add(terms))];
                }),
              );
            });
            const options = { transport, ...(weighted && { weights }) };
            same(exchange.combine(y, route, options), right, `${what}, ${transport}`);
          }
      },
    );
  },

  async 'combine of dispatch is the token as often as it went, within what DeepEP publishes'(
    group,
    n,
    r,
  ) {
    const random = randomFrom(r + 1);
    const check = async ({ exchange, route, all, tokens, what }) => {
      const x = filled(Float32Array, tokens, () => rounded(random() * 2 - 1));
      const begun = exchange.start.dispatch(x, route);
      await begun.done;
      const rows = begun.wait();
      assert.equal(begun.wait(), rows);
      const back = exchange.start.combine(rows, route);
      await back.done;
      const times = (t) => all[r].subarray(t * k, (t + 1) * k).filter((e) => e >= 0).length;
      const right = filled(Float32Array, tokens, (t, c) => x[t * hidden + c] * times(t));
      const found = difference(back.wait(), right);
      assert.ok(found < 5e-6, `${what}: ${found}`);
      for (let t = 0; t < tokens; t += 1)
        if (times(t) === 0)
          assert.ok(
            back
              .wait()
              .subarray(t * hidden, (t + 1) * hidden)
              .every((v) => v === 0),
          );
    };
    const worlds = [];
    everywhere(group, n, r, (world) => worlds.push(world));
    for (const world of worlds) await check(world);
  },

  'each is the gradient of the other: inner products agree exactly'(group, n, r) {
    everywhere(group, n, r, ({ what, exchange, route, tokens }) => {
      for (const per of ['token', 'choice']) {
        const count = per === 'token' ? tokens : tokens * k;
        const x = filled(Float32Array, count, (t, c) => value(r, t, c));
        const g = filled(Float32Array, route.rows, (t, c) => value(r + 3, t, c) % 16);
        const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
        const there = exchange.dispatch(x, route, { per });
        const back = exchange.combine(g, route, { per, transport: 'fp32' });
        const sums = Float64Array.of(dot(there, g), dot(x, back));
        group.allReduce(sums, sums);
        assert.equal(sums[0], sums[1], `${what}, ${per}`);
      }
    });
  },

  'a row that is not finite stays with its token'(group, n) {
    const exchange = new ExpertExchange(group, { experts: 2 * n, expertsPerToken: 2, hidden: 3 });
    // Token 0 has two experts of rank 0, token 1 one of them, token 2 none.
    const route = exchange.route(Int32Array.of(0, 1, 1, -1, -1, -1));
    const y = exchange.dispatch(Float32Array.of(1, 2, 3, 4, 5, Infinity, 7, 8, 9), route);
    const sums = exchange.combine(y, route);
    assert.ok(!Number.isFinite(sums[5]));
    sums[5] = 0;
    same(sums, Float32Array.of(2, 4, 6, 4, 5, 0, 0, 0, 0), 'one infinity');
  },
};
