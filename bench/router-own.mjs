// What bench/router.mjs measures of ours: one process, short rounds, medians. Prints one line of JSON.
//
// Bytes of permute and unpermute are those of every row read and written once: what a copy of the rows would move.
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

import { loadKernels, measurePeaks, setThreads } from '../packages/kernels/dist/index.js';
import {
  permuteTokens,
  routeTokens,
  unpermuteTokens,
  unpermuteTokensBackward,
} from '../packages/moe-router/dist/index.js';

const { values } = parseArgs({
  options: { threads: { type: 'string', default: '2' } },
});
const kernels = loadKernels();
setThreads(Number(values.threads));

/** @param {() => void} body what is timed; its median of 9 in seconds, after 2 to warm up */
function seconds(body) {
  const times = [];
  for (let i = 0; i < 11; i += 1) {
    const begin = performance.now();
    body();
    times.push((performance.now() - begin) / 1000);
  }
  return times.slice(2).sort((a, b) => a - b)[4];
}

let state = 1;
const uniform = () => (state = (state * 48271) % 2147483647) / 2147483647;
const floats = (/** @type {number} */ count) =>
  Float32Array.from({ length: count }, () => 4 * uniform() - 2);

const gate = { experts: 256, expertsPerToken: 8, groups: 8, groupsPerToken: 4, scaling: 2.5 };
const sizes = { ...gate, tokens: 16384 };
const logits = floats(sizes.tokens * 256);
const bias = floats(256).map((value) => value / 100);
const out = routeTokens(logits, sizes, { bias });
const route = seconds(() => routeTokens(logits, sizes, { bias, out })) / sizes.tokens;

const few = { ...gate, tokens: 4096, cols: 1024 };
const routing = routeTokens(floats(few.tokens * 256), few, { bias });
const x = floats(few.tokens * few.cols);
const rows = permuteTokens(x, routing, few);
const sum = new Float32Array(x.length);
const gradients = { dy: new Float32Array(rows.length), dweights: new Float32Array(few.tokens * 8) };
const gigabytes = (4 * rows.length) / 1e9;
const own = (4 * x.length) / 1e9;
const permute = (2 * gigabytes) / seconds(() => permuteTokens(x, routing, few, { out: rows }));
const unpermute =
  (gigabytes + own) / seconds(() => unpermuteTokens(rows, routing, few, { out: sum }));
const backward =
  (2 * gigabytes + own) /
  seconds(() => unpermuteTokensBackward(x, rows, routing, few, { out: gradients }));
const { copy } = measurePeaks();
console.log(
  JSON.stringify({
    nsPerToken: route * 1e9,
    permute,
    unpermute,
    unpermuteBackward: backward,
    copy,
    kernels: kernels.isa,
  }),
);
