// The executor beside the simulator: schedules run on threads whose stages sleep instead of computing, with messages and
// all-to-alls over emulated links, so that a machine of two cores times pipelines of eight ranks.
//
//   node bench/pipeline.mjs [--ranks 2,3,4,5,6,7,8] [--methods dualpipe,1f1b] [--unit 100] [--micro-batches 16] [--rounds 3]
//                           [--compute] [--json]
//
// Every method on every number of ranks that it allows, with two micro-batches a rank where nothing else is asked for: a forward,
// a gradient of the input and one of the weights of a rank's share of the model take `unit` ms each, a message unit / 20 to send
// and unit / 40 to arrive. Then DualPipe and DualPipeV with the phases of DeepSeek's published profile, unit / 25 times as long, on
// 2 and 4 ranks, in two pipelines whose ranks exchange tokens in pairs: how much of the exchange a pair hides.
//
// With --compute also every method on 2 ranks that multiply matrices, one on each core, beside the simulator at the times that
// the products took in the middle. There is no limit for it: whatever else computes on those cores shows as idle time.
//
// A rank that sleeps does nothing but pass messages on, so what else the machine does can make it late and never early: of several
// rounds the shortest counts. Ranks that wake up late are what is measured on a busy machine; where one may,
// `chrt -r 1 node bench/pipeline.mjs` lets them wake up first.
//
// `retimed` is the simulator's idle time with the times that computations took in the end, sleeping too long included. Fails where
// idle time is not within 5 % of the simulator's (or of one forward, where that is longer: DualPipe on two ranks never stands
// still), or where less than 90 % of the exchange is hidden.
import { parseArgs } from 'node:util';

import { publishedProfile } from '../packages/dualpipe/dist/index.js';
import {
  allMethods,
  apart,
  measureCompute,
  measurePhases,
  measurePlain,
  scaled,
  sizesFor,
} from './pipeline-measure.mjs';

const { values } = parseArgs({
  options: {
    ranks: { type: 'string', default: '2,3,4,5,6,7,8' },
    methods: { type: 'string', default: allMethods.join(',') },
    unit: { type: 'string', default: '100' },
    'micro-batches': { type: 'string' },
    rounds: { type: 'string', default: '3' },
    compute: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const ranks = values.ranks.split(',').map(Number);
const methods = values.methods.split(',');
const unit = Number(values.unit);
const rounds = Number(values.rounds);
/** How much longer phases are than those of the profile. */
const stretch = unit / 25;
const limits = { idle: 0.05, hidden: 0.9 };

if (!ranks.some((count) => methods.some((method) => sizesFor(method, count, 2 * count)))) {
  note(
    `nothing to run: --methods ${values.methods} takes an even number of --ranks, not ${values.ranks}`,
  );
  process.exit(2);
}

const plain = [];
for (const count of ranks)
  for (const method of methods) {
    const sizes = sizesFor(method, count, Number(values['micro-batches'] ?? 2 * count));
    if (!sizes) continue;
    const message = { sending: unit / 20, latency: unit / 40 };
    plain.push(await shortest(() => measurePlain({ method, sizes, unit, message })));
    note(`${method}, ${count} ranks: idle time ${share(apart(plain.at(-1)))} apart`);
  }
const phases = [];
for (const count of ranks.filter((each) => each === 2 || each === 4))
  for (const method of methods.filter((each) => each.startsWith('dualpipe'))) {
    const sizes = sizesFor(method, count, Number(values['micro-batches'] ?? 2 * count));
    const times = scaled(publishedProfile, stretch);
    const message = { sending: 2 * stretch, latency: stretch / 2 };
    phases.push(await shortest(() => measurePhases({ method, sizes, times, message })));
    const { hidden, simulatedHidden } = phases.at(-1);
    note(`${method}, ${count} ranks, phases: hidden ${share(hidden)} of ${share(simulatedHidden)}`);
  }

const compute = [];
for (const method of values.compute ? methods : []) {
  const sizes = sizesFor(method, 2, 20);
  const matrix = { rows: 512, width: 768 };
  compute.push(await shortest(() => measureCompute({ method, sizes, matrix })));
  const { idleShare, simulatedIdleShare } = compute.at(-1);
  note(`${method}, 2 ranks that compute: idle ${share(idleShare)}, ${share(simulatedIdleShare)}`);
}

if (values.json) console.log(JSON.stringify({ unit, rounds, limits, plain, phases, compute }));
else {
  const ms = (value) => value.toFixed(1);
  const sizes = ({ method, ranks: count, microBatches }) => ({
    method,
    ranks: count,
    'micro-batches': microBatches,
  });
  const beside = (row) => ({
    'total, ms': ms(row.totalMs),
    simulated: ms(row.simulatedTotalMs),
    'idle, ms': ms(row.idleMs),
    'simulated ': ms(row.simulatedIdleMs),
    apart: share(apart(row)),
    'retimed, ms': ms(row.retimedIdleMs),
  });
  console.table(
    plain.map((row) => ({ ...sizes(row), ...beside(row), 'late, ms': row.lateMs.toFixed(2) })),
  );
  console.table(
    phases.map((row) => ({
      ...sizes(row),
      ...beside(row),
      'pair, ms': ms(row.pairMs),
      'simulated  ': ms(row.simulatedPairMs),
      hidden: share(row.hidden),
      'simulated   ': share(row.simulatedHidden),
    })),
  );
  if (compute.length > 0)
    console.table(
      compute.map((row) => ({
        ...sizes(row),
        'total, ms': ms(row.totalMs),
        simulated: ms(row.simulatedTotalMs),
        idle: share(row.idleShare),
        'simulated ': share(row.simulatedIdleShare),
      })),
    );
}
const far = (row) => Math.abs(apart(row)) > limits.idle;
if ([...plain, ...phases].some(far) || phases.some(({ hidden }) => hidden < limits.hidden))
  process.exitCode = 1;

/** The round whose schedule took the shortest time. */
async function shortest(measure) {
  const all = [];
  for (let round = 0; round < rounds; round += 1) all.push(await measure());
  return all.reduce((best, each) => (each.totalMs < best.totalMs ? each : best));
}

function note(text) {
  process.stderr.write(`${text}\n`);
}

function share(part) {
  return `${(100 * part).toFixed(1)} %`;
}
