// Dispatch and combine as calls: what they count, several at once, what they refuse, and who is missing.
//
// Legend: n ranks, r this one, K experts a token.
import assert from 'node:assert/strict';

import { dispatchLayout, dispatchTraffic, ExpertExchange, topologyOf } from '@baleen/comm';

import {
  chosen,
  everywhere,
  expected,
  filled,
  hidden,
  k,
  loads,
  quantized,
  same,
  value,
} from './worlds.mjs';

/** @type {Record<string, (group: any, n: number, r: number) => Promise<void> | void>} */
export const calls = {
  'bytes of each level are those that the topology predicts'(group, n, r) {
    everywhere(group, n, r, ({ what, exchange, route, all, experts, rankOfExpert, tokens }) => {
      const devices = exchange.spec.devicesPerNode;
      const sizes = { expertsPerToken: k, experts, ranks: n, ranksPerNode: devices };
      const layouts = all.map((indices) =>
        dispatchLayout(
          indices,
          { ...sizes, tokens: indices.length / k },
          { ...(rankOfExpert && { rankOfExpert }) },
        ),
      );
      const topology = topologyOf('h800', { nodes: n / devices, devicesPerNode: devices });
      const bytes = hidden + 4 * Math.ceil(hidden / 128);
      const predicted = dispatchTraffic(layouts, topology, { copies: 'node', bytes });
      exchange.dispatch(quantized(r, tokens), route);
      for (const level of ['within', 'between'])
        for (const way of ['sent', 'received'])
          assert.equal(
            exchange.traffic[level][way],
            predicted[level][way][r],
            `${what}: ${level} ${way}`,
          );
      const { traffic } = exchange;
      const before = { within: { ...traffic.within }, between: { ...traffic.between } };
      exchange.combine(new Float32Array(route.rows * hidden), route);
      // Results of the same copies, of two bytes a value, the other way.
      for (const level of ['within', 'between'])
        assert.equal(
          (traffic[level].sent - before[level].sent) * bytes,
          before[level].received * 2 * hidden,
          what,
        );
    });
  },

  'exchanges that are under way at once do not mix'(group, n, r) {
    const experts = 2 * n;
    const exchange = new ExpertExchange(group, {
      ...{ experts, expertsPerToken: k, hidden, devicesPerNode: n % 2 === 0 ? 2 : n },
    });
    const routes = [loads.even, loads.unbalanced].map((load) => {
      const all = Array.from({ length: n }, (_, rank) => chosen(load, rank, k, experts));
      return { all, route: exchange.route(all[r]) };
    });
    const begun = [0, 1, 2, 3].map((i) => {
      const { all, route } = routes[i % 2];
      const x = filled(Float32Array, all[r].length / k, (t, c) => value(r, t + i, c));
      return exchange.start.dispatch(x, route);
    });
    begun.forEach((handle, i) => {
      const { rows } = expected(routes[i % 2].all, exchange.localExperts, k, 1);
      const right = rows.flatMap(({ rank, token }) =>
        Array.from({ length: hidden }, (_, c) => value(rank, token + i, c)),
      );
      same(handle.wait(), Float32Array.from(right), `exchange ${i}`);
    });
  },

  'what does not fit is refused before anything is sent'(group, n, r) {
    const make = (changes, on = group) =>
      new ExpertExchange(on, { experts: 2 * n, expertsPerToken: 2, hidden: 4, ...changes });
    const refused = (call, path, code = 'SIZES') =>
      assert.throws(call, (error) => {
        assert.equal(error.code, `ERR_BALEEN_COMM_${code}`, error.message);
        assert.equal(error.path, path);
        assert.equal(typeof error.hint, 'string');
        return true;
      });
    refused(() => make({ experts: 0 }), 'experts');
    refused(() => make({ devicesPerNode: n + 1 }), 'devicesPerNode');
    const exchange = make({});
    refused(() => exchange.route(Int32Array.of(0)), 'indices');
    refused(() => exchange.route(Int32Array.of(0, 2 * n)), 'indices[1]');
    const route = exchange.route(Int32Array.of(0, 1));
    refused(() => exchange.dispatch(new Float32Array(3), route), 'x');
    refused(
      () => exchange.dispatch(new Float32Array(4), route, { out: new Float32Array(1) }),
      'out',
    );
    refused(
      () => exchange.dispatch(new Float32Array(4), make({}).route(Int32Array.of(0, 1))),
      'route',
    );
    const y = new Float32Array(route.rows * 4);
    refused(
      () => exchange.combine(y.subarray(1), route.rows ? route : { ...route }),
      route.rows ? 'y' : 'route',
    );
    refused(
      () => exchange.combine(y, route, { per: 'choice', weights: new Float32Array(route.rows) }),
      'weights',
    );
    if (n === 1) return;
    // Ranks that differ are named on all of them.
    for (const [path, changes] of [
      ['hidden', { hidden: r === 1 ? 5 : 4 }],
      ['rankOfExpert', { rankOfExpert: new Int32Array(2 * n).fill(r === 1 ? 1 : 0) }],
    ])
      assert.throws(
        () => make(changes),
        (error) => {
          assert.equal(error.code, 'ERR_BALEEN_COMM_MISMATCH');
          assert.deepEqual([error.path, error.ranks], [path, [1]]);
          return true;
        },
      );
  },

  async 'a rank that comes without the others is named'(group, n, r) {
    if (n === 1) return;
    const exchange = new ExpertExchange(group, { experts: n, expertsPerToken: 1, hidden: 4 });
    const route = exchange.route(Int32Array.of(r));
    assert.throws(
      () => (r === 0 ? group.barrier() : exchange.dispatch(new Float32Array(4), route)),
      (error) => {
        assert.equal(error.code, 'ERR_BALEEN_COMM_MISMATCH');
        assert.match(error.message, /rank 0 called barrier/);
        return true;
      },
    );
  },
};
