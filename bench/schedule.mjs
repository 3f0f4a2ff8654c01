// Pipeline schedules at V3's size: 16 ranks and 240 micro-batches generated and validated, by every method.
//
//   node bench/schedule.mjs                 20 rounds
//   node bench/schedule.mjs --rounds 50
//
// Needs a build (`npx -y pnpm@12 build`). Prints medians, of processor time as well (all threads of Node), the best round and the
// first, which compiles; the last line is JSON. Fails where a method's median is above the limit of 50 ms.
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

import { generateSchedule, methods, validateSchedule } from '../packages/dualpipe/dist/index.js';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' } } });
const rounds = Number(values.rounds);
const limit = 50;
const sizes = { ranks: 16, microBatches: 240 };

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const results = Object.keys(methods).map((method) => {
  const times = { generate: [], validate: [], processor: [] };
  let actions = 0;
  for (let round = 0; round < rounds; round += 1) {
    const before = process.cpuUsage();
    const begin = performance.now();
    const schedule = generateSchedule(method, sizes);
    const made = performance.now();
    validateSchedule(schedule);
    times.validate.push(performance.now() - made);
    times.generate.push(made - begin);
    const { user, system } = process.cpuUsage(before);
    times.processor.push((user + system) / 1000);
    actions = schedule.actions.reduce((sum, list) => sum + list.length, 0);
  }
  const both = times.generate.map((ms, i) => ms + times.validate[i]);
  return {
    method,
    actions,
    firstMs: both[0],
    generateMs: median(times.generate),
    validateMs: median(times.validate),
    bothMs: median(both),
    bestMs: Math.min(...both),
    processorMs: median(times.processor),
  };
});
console.table(
  Object.fromEntries(
    results.map(({ method, actions, ...ms }) => [
      method,
      {
        actions,
        ...Object.fromEntries(Object.entries(ms).map(([key, value]) => [key, value.toFixed(1)])),
      },
    ]),
  ),
);
console.log(JSON.stringify({ ...sizes, rounds, limitMs: limit, results }));
if (results.some(({ bothMs }) => bothMs > limit)) process.exitCode = 1;
