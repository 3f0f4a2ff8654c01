// A rank of pipeline.mjs. Its stages sleep instead of computing, and messages and exchanges go over emulated links; or they
// multiply matrices, and messages go as fast as they can.
import { emulatedLink } from '../packages/comm/dist/index.js';
import {
  arrayLink,
  execute,
  generateSchedule,
  replicasOf,
  timedStage,
} from '../packages/dualpipe/dist/index.js';
import { loadKernels, viewOf } from '../packages/kernels/dist/index.js';
import { scaled } from './pipeline-scaled.mjs';

/** Bytes that a link carries in a millisecond: few, for copying them takes a processor, and the link's time is what counts. */
const bytesAMillisecond = 800;
const gbps = bytesAMillisecond / 1e6;

/** `exchangers` ranks share the experts of a stage: each belongs to a pipeline of its own. */
export default async function rank(communicator, options) {
  if (options.matrix) return computing(communicator, options);
  const { method, sizes, times, message, exchangers } = options;
  const schedule = generateSchedule(method, sizes);
  const own = Math.floor(communicator.rank / exchangers);
  const pipeline = communicator.split(communicator.rank % exchangers);
  const experts = communicator.split(own);
  const latencyUs = 1000 * message.latency;
  const output = () => new Float64Array((message.sending * bytesAMillisecond) / 8);
  const link = arrayLink(emulatedLink(pipeline, { gbps, latencyUs }), output);
  const far = emulatedLink(experts, { gbps, latencyUs: 0 });
  const exchange = (ms) => {
    // What stays on the rank takes no time: the others' parts are together as long as asked for.
    const each = Math.round((ms * bytesAMillisecond) / 8 / (exchangers - 1));
    const x = new Float64Array(each * exchangers);
    return far.start.allToAll(new Float64Array(x.length), x);
  };
  const run = (scale) => {
    const stage = timedStage(scaled(times, scale), {
      output,
      ...(exchangers > 1 ? { exchange: (ms) => exchange(ms) } : {}),
    });
    const held = replicasOf(schedule).flatMap((ranks, s) =>
      ranks.includes(own) ? [[s, stage]] : [],
    );
    communicator.barrier();
    return execute(schedule, own, { stages: new Map(held), link });
  };
  // Compiles what the second one runs.
  await run(0.02);
  return { pipeline: communicator.rank % exchangers, execution: await run(1) };
}

/** Stages of one product each: y = x · Wᵀ, dx = dy · W, dW = dW + dyᵀ · x, which take about as long as each other. */
async function computing(communicator, { method, sizes, matrix: { rows, width } }) {
  const schedule = generateSchedule(method, sizes);
  const own = communicator.rank;
  const kernels = loadKernels();
  const outs = Math.round((width * schedule.ranks) / schedule.stages);
  const numbers = (count) => Float32Array.from({ length: count }, (_, i) => Math.sin(i));
  const stageOf = (s) => {
    const [weight, gradient] = [numbers(outs * width), new Float32Array(outs * width)];
    // What goes on is as wide as a message, and has the product's numbers at its begin.
    const passed = new Float32Array(rows * width);
    const [kept, grads] = [new Map(), new Map()];
    return [
      {
        kind: 'compute',
        forward(m, input) {
          const x = input ?? numbers(rows * width);
          kept.set(m, x);
          const y = passed.subarray(0, rows * outs);
          kernels.gemm(viewOf(y), viewOf(x), viewOf(weight), {
            ...{ m: rows, n: outs, k: width, transB: true },
          });
          return s === schedule.stages - 1 ? null : passed.slice();
        },
        inputGrad(m, outputGrad) {
          const dy = (outputGrad ?? numbers(rows * width)).subarray(0, rows * outs);
          grads.set(m, dy);
          const dx = new Float32Array(rows * width);
          kernels.gemm(viewOf(dx), viewOf(dy), viewOf(weight), { m: rows, n: width, k: outs });
          return s === 0 ? null : dx;
        },
        weightGrad(m) {
          const sizesOfGradient = { m: outs, n: width, k: rows, transA: true, accumulate: true };
          kernels.gemm(
            viewOf(gradient),
            viewOf(grads.get(m)),
            viewOf(kept.get(m)),
            sizesOfGradient,
          );
          kept.delete(m);
          grads.delete(m);
        },
      },
    ];
  };
  const link = arrayLink(communicator, () => new Float32Array(rows * width));
  const stages = new Map(
    replicasOf(schedule).flatMap((ranks, s) => (ranks.includes(own) ? [[s, stageOf(s)]] : [])),
  );
  const run = () => {
    communicator.barrier();
    return execute(schedule, own, { stages, link });
  };
  await run();
  return { pipeline: 0, execution: await run() };
}
