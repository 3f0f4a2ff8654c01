// DualPipe's own test in kind, as a job that all ranks run together, on threads and under MPI: a small network is trained for one
// step by every method, and compared with the same network in a single process. Plain JavaScript, since Node.js runs it as it is.
//
// Legend: R ranks, 2R layers y = x + tanh(W x + b) of width H, M micro-batches of different sizes.
import { arrayLink, execute, generateSchedule, methods, ReplicaSums } from '@baleen/dualpipe';

const width = 6;

/** Numbers in (−1, 1) that follow from a seed. */
function numbers(count, seed) {
  let state = (seed + 1) * 0x9e3779b1;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  });
}

/** Micro-batches differ in size. */
const rowsOf = (microBatch) => 2 + ((microBatch * 5) % 4);
const inputOf = (microBatch) => numbers(rowsOf(microBatch) * width, 1000 + microBatch);
const targetOf = (microBatch) => numbers(rowsOf(microBatch) * width, 2000 + microBatch);

/** One layer as a phase. With `recompute` only the input is kept, and the rest made again. */
function layer(index, recompute) {
  const weight = numbers(width * width, index).map((value) => value / 2);
  const bias = numbers(width, 500 + index);
  const gradients = [new Float64Array(width * width), new Float64Array(width)];
  const kept = new Map();
  const operands = new Map();
  const activation = (x) => {
    const t = new Float64Array(x.length);
    for (let r = 0; r < x.length; r += width)
      for (let i = 0; i < width; i += 1) {
        let sum = bias[i];
        for (let j = 0; j < width; j += 1) sum += weight[i * width + j] * x[r + j];
        t[r + i] = Math.tanh(sum);
      }
    return t;
  };
  return {
    gradients,
    held: () => kept.size + operands.size,
    kind: 'compute',
    forward(microBatch, input) {
      const x = input ?? inputOf(microBatch);
      const t = activation(x);
      kept.set(microBatch, recompute ? { x } : { x, t });
      return t.map((value, i) => x[i] + value);
    },
    inputGrad(microBatch, dy) {
      const { x, t = activation(x) } = kept.get(microBatch);
      kept.delete(microBatch);
      const dz = dy.map((value, i) => value * (1 - t[i] * t[i]));
      operands.set(microBatch, { x, dz });
      const dx = dy.slice();
      for (let r = 0; r < x.length; r += width)
        for (let i = 0; i < width; i += 1)
          for (let j = 0; j < width; j += 1) dx[r + j] += weight[i * width + j] * dz[r + i];
      return dx;
    },
    weightGrad(microBatch) {
      const { x, dz } = operands.get(microBatch);
      operands.delete(microBatch);
      for (let r = 0; r < x.length; r += width)
        for (let i = 0; i < width; i += 1) {
          gradients[1][i] += dz[r + i];
          for (let j = 0; j < width; j += 1) gradients[0][i * width + j] += dz[r + i] * x[r + j];
        }
    },
  };
}

/** The loss as a phase, Σ (y − target)² / 2. */
function loss(losses) {
  const kept = new Map();
  return {
    gradients: [],
    held: () => kept.size,
    kind: 'compute',
    forward(microBatch, y) {
      const target = targetOf(microBatch);
      const difference = y.map((value, i) => value - target[i]);
      kept.set(microBatch, difference);
      losses[microBatch] = difference.reduce((sum, value) => sum + (value * value) / 2, 0);
      return null;
    },
    inputGrad(microBatch) {
      const difference = kept.get(microBatch);
      kept.delete(microBatch);
      return difference;
    },
  };
}

/** Layers of a part of the network; the last part has the loss. */
function part(from, to, layers, recompute, losses) {
  const phases = Array.from({ length: to - from }, (_, i) => layer(from + i, recompute));
  return to === layers ? [...phases, loss(losses)] : phases;
}

/** The whole network in this process, one micro-batch after the other. */
function single(layers, microBatches) {
  const losses = new Float64Array(microBatches);
  const phases = part(0, layers, layers, false, losses);
  for (let microBatch = 0; microBatch < microBatches; microBatch += 1) {
    let value = null;
    for (const phase of phases) value = phase.forward(microBatch, value);
    for (const phase of phases.toReversed()) {
      value = phase.inputGrad(microBatch, value);
      phase.weightGrad?.(microBatch);
    }
  }
  return { losses, gradients: phases.map((phase) => phase.gradients) };
}

/** DualPipe's measure of how much two gradients differ. */
function cosineDifference(a, b) {
  let [product, squares] = [0, 0];
  a.forEach((x, i) => {
    product += x * b[i];
    squares += x * x + b[i] * b[i];
  });
  return 1 - (2 * product) / squares;
}

/** Sizes that a method allows: 20 micro-batches, or the next more; null where it does not allow so many ranks. */
function sizesOf(method, ranks) {
  if (method === 'dualpipe' && ranks % 2 !== 0) return null;
  const microBatches = method === 'interleaved' ? Math.ceil(20 / ranks) * ranks : 20;
  return { ranks, microBatches };
}

async function oneMethod(communicator, method, recompute, fault) {
  const { rank, size } = communicator;
  const sizes = sizesOf(method, size);
  if (!sizes) return [];
  const { microBatches } = sizes;
  const schedule = generateSchedule(method, sizes);
  const layers = 2 * size;
  const each = layers / schedule.stages;
  const losses = new Float64Array(microBatches);
  const held = new Set(
    schedule.pipelines.flatMap(({ rankOfStage }) =>
      rankOfStage.flatMap((holder, stage) => (holder === rank ? [stage] : [])),
    ),
  );
  const stages = new Map(
    [...held].map((s) => [s, part(s * each, (s + 1) * each, layers, recompute, losses)]),
  );
  if (fault && rank === fault.rank) {
    const [phase] = stages.get(fault.stage);
    const { forward } = phase;
    phase.forward = (microBatch, input) => {
      if (microBatch === fault.microBatch) throw new Error('no more memory');
      return forward(microBatch, input);
    };
  }
  const link = arrayLink(
    communicator,
    ({ microBatch }) => new Float64Array(rowsOf(microBatch) * width),
  );
  const { computations, messages } = await execute(schedule, rank, { stages, link });
  const sums = new ReplicaSums(schedule, communicator);
  sums.add((stage) => stages.get(stage).flatMap((phase) => phase.gradients));
  sums.close();

  const wrong = [];
  const expect = (what, holds) => {
    if (!holds) wrong.push(`rank ${rank}, ${method}: ${what}`);
  };
  const reference = single(layers, microBatches);
  // Each micro-batch has its loss on one rank, and nothing elsewhere.
  communicator.allReduce(losses, losses);
  expect(
    'a loss is not that of a single process',
    losses.every((x, m) => x === reference.losses[m]),
  );
  for (const [stage, phases] of stages)
    phases.forEach((phase, i) => {
      phase.gradients.forEach((gradient, g) => {
        const difference = cosineDifference(gradient, reference.gradients[stage * each + i][g]);
        expect(`gradients of stage ${stage} differ by ${difference}`, difference < 1e-13);
      });
      expect(`stage ${stage} still holds something`, phase.held() === 0);
    });
  expect(
    'not all was done',
    computations.length + messages.length === schedule.actions[rank].length,
  );
  expect(
    'a time is missing',
    messages.every(({ start, end }) => end >= start),
  );
  return wrong;
}

export default async function run(communicator, { fault, recompute = [false, true] }) {
  if (fault) return oneMethod(communicator, fault.method, false, fault);
  const wrong = [];
  for (const method of Object.keys(methods))
    for (const either of recompute) wrong.push(...(await oneMethod(communicator, method, either)));
  return wrong;
}
