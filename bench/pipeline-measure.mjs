// Runs a schedule on threads whose stages sleep, and puts what was measured beside what the simulator says. For pipeline.mjs and
// for test/long/pipeline.test.ts.
import { threads } from '../packages/comm/dist/threads.js';
import {
  generateSchedule,
  measuredTimeline,
  methods,
  phaseTimeline,
  simulate,
} from '../packages/dualpipe/dist/index.js';

export { scaled } from './pipeline-scaled.mjs';

const rankModule = new URL('./pipeline-rank.mjs', import.meta.url);

/** Sizes that a method allows nearest to what is asked for; null where it does not allow so many ranks. */
export function sizesFor(method, ranks, microBatches) {
  if (method === 'dualpipe' && ranks % 2 !== 0) return null;
  if (method === 'interleaved')
    return { ranks, microBatches: Math.ceil(microBatches / ranks) * ranks };
  return { ranks, microBatches };
}

/** The methods. */
export const allMethods = Object.keys(methods);

/**
 * Measures a schedule whose computations are one.
 * @param {object} what - `method`, `sizes`, `unit` (milliseconds of a forward, of a gradient of the input and of one of the
 *   weights, of a rank's share of the model), and `message` (milliseconds `sending` and `latency`)
 */
export async function measurePlain({ method, sizes, unit, message }) {
  const schedule = generateSchedule(method, sizes);
  const each = (unit * schedule.ranks) / schedule.stages;
  const times = { forward: each, inputGrad: each, weightGrad: each };
  const ran = await threads(sizes.ranks, rankModule, {
    ...{ method, sizes, times, message, exchangers: 1 },
  });
  const measured = measuredTimeline(
    schedule,
    ran.map(({ execution }) => execution),
  );
  const simulated = simulate(schedule, { times, link: linkOf(message) });
  return { method, ...sizes, forwardMs: unit, ...compared(measured, simulated, message) };
}

/**
 * Measures a schedule of stages with phases: two pipelines, whose ranks share experts in pairs.
 * @param {object} what - `method`, `sizes`, `times` (of a rank's share of the model, by phase), `message`
 */
export async function measurePhases({ method, sizes, times, message }) {
  const schedule = generateSchedule(method, sizes);
  const own = { ...times, layers: (times.layers * schedule.ranks) / schedule.stages };
  const exchangers = 2;
  const ran = await threads(exchangers * sizes.ranks, rankModule, {
    ...{ method, sizes, times: own, message, exchangers },
  });
  const measured = measuredTimeline(
    schedule,
    ran.filter(({ pipeline }) => pipeline === 0).map(({ execution }) => execution),
  );
  const simulated = simulate(schedule, { times: own, link: linkOf(message) });
  const pair = phaseTimeline('overlap', own);
  const pairs = measured.ranks.flatMap(({ computations }) =>
    computations.filter(({ action }) => action.kind === 'overlap'),
  );
  const lasted = pairs.map(({ start, end }) => end - start);
  return {
    method,
    ...sizes,
    forwardMs: (simulated.costs.forward * schedule.stages) / schedule.ranks,
    ...compared(measured, simulated, message),
    // Of the communication in pairs, what did not make them longer than their compute. Sleeping too long counts against it.
    hidden: pairs.length === 0 ? null : 1 - (median(lasted) - pair.compute) / pair.communication,
    simulatedHidden: pairs.length === 0 ? null : pair.hidden / pair.communication,
    pairMs: pairs.length === 0 ? null : median(lasted),
    simulatedPairMs: pair.duration,
    exposedMs: mean(measured.exposed),
    simulatedExposedMs: mean(simulated.exposed),
  };
}

/**
 * Measures a schedule whose stages multiply matrices; what the simulator says follows from how long they took.
 * @param {object} what - `method`, `sizes`, `matrix` (`rows` of a micro-batch, `width`)
 */
export async function measureCompute({ method, sizes, matrix }) {
  const schedule = generateSchedule(method, sizes);
  const ran = await threads(sizes.ranks, rankModule, { method, sizes, matrix });
  const measured = measuredTimeline(
    schedule,
    ran.map(({ execution }) => execution),
  );
  const unit = { forward: 1, inputGrad: 1, weightGrad: 1 };
  const simulated = simulate(schedule, { times: tookOf(measured, { ...unit, overlap: 3 }) });
  return {
    method,
    ...sizes,
    times: simulated.costs,
    totalMs: measured.total,
    simulatedTotalMs: simulated.total,
    idleShare: measured.bubbleShare,
    simulatedIdleShare: simulated.bubbleShare,
  };
}

function linkOf({ sending, latency }) {
  return { bytes: sending, bandwidth: 1, latency };
}

function compared(measured, simulated, message) {
  const idle = (timeline) => mean(timeline.ranks.map((rank) => rank.idle));
  const busy = (timeline) => timeline.ranks.reduce((sum, rank) => sum + rank.busy, 0);
  // The same schedule with what each kind of computation took in the end: what then is left is not the computations'.
  const took = tookOf(measured, simulated.costs);
  const retimed = simulate(measured.schedule, { times: took, link: linkOf(message) });
  return {
    totalMs: measured.total,
    simulatedTotalMs: simulated.total,
    idleMs: idle(measured),
    simulatedIdleMs: idle(simulated),
    retimedIdleMs: idle(retimed),
    // What a computation takes beyond its sleep.
    lateMs: (busy(measured) - busy(simulated)) / spansOf(measured).length,
  };
}

const spansOf = ({ ranks }) => ranks.flatMap(({ computations }) => computations);

/** What each kind of computation took in the middle; those that a method has not stay as they were. */
function tookOf(measured, costs) {
  const spans = spansOf(measured);
  const of = (kind) =>
    spans.filter(({ action }) => action.kind === kind).map(({ start, end }) => end - start);
  const took = { ...costs };
  for (const kind of Object.keys(took)) if (of(kind).length > 0) took[kind] = median(of(kind));
  // A full backward is the sum of two, of which a method may have no other.
  const full = of('fullBackward');
  if (full.length > 0 && of('weightGrad').length === 0) took.weightGrad = median(full) / 2;
  if (full.length > 0 && of('inputGrad').length === 0)
    took.inputGrad = median(full) - took.weightGrad;
  return took;
}

/** How far idle time is from the simulator's, beside it; where it is shorter than one forward, beside that. */
export function apart({ idleMs, simulatedIdleMs, forwardMs }) {
  return (idleMs - simulatedIdleMs) / Math.max(simulatedIdleMs, forwardMs);
}

function mean(list) {
  return list.reduce((sum, each) => sum + each, 0) / list.length;
}

function median(list) {
  return list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
}
