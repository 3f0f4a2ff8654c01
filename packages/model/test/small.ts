// A decoder small enough for gradient checks, and batches for it.
import type { Kernels } from '@baleen/kernels';
import { lossWeights, mtpTargets } from '@baleen/mtp';
import { type Bundle, initialize, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';

import { randomFrom, values } from '../../../test/support';
import { Decoder, type ForwardOptions, type ModelConfig, type Precision } from '../src/index';

/** Two layers, one with experts, and two depths of multi-token prediction; every width different. */
export const smallConfig: ModelConfig = {
  vocabSize: 20,
  hiddenSize: 12,
  layers: 2,
  denseLayers: 1,
  intermediateSize: 14,
  maxSequence: 16,
  normEps: 1e-6,
  initStd: 0.3,
  attention: {
    heads: 2,
    nopeDim: 5,
    ropeDim: 4,
    valueDim: 3,
    queryRank: 9,
    kvRank: 8,
    ropeTheta: 100,
    yarn: null,
  },
  moe: {
    routedExperts: 4,
    sharedExperts: 1,
    expertsPerToken: 2,
    groups: 2,
    groupsPerToken: 1,
    intermediateSize: 6,
    routedScaling: 2.5,
    normalizeGates: true,
  },
  mtp: { depth: 2 },
};

/**
 * A model with random weights, norms and router biases.
 * @param kernels - the backend
 * @param changes - to {@link smallConfig}
 * @param precision - of the products
 * @returns the model
 */
export function smallModel(
  kernels: Kernels,
  changes: Partial<ModelConfig> = {},
  precision: Precision = 'fp32',
): Decoder {
  const model = new Decoder(kernels, { ...smallConfig, ...changes }, precision);
  initialize(model, model.config.initStd, 3);
  let seed = 0;
  for (const [, { data, init }] of model.parameters())
    if (init === 'ones') data.readSync().set(values(data.size, (seed += 1)).map((v) => 1 + v / 2));
  for (const router of model.routers) router.bias.readSync().set(values(4, (seed += 1), 0.2));
  return model;
}

/** Every value of a model, parameters first, then state. */
export function snapshot(model: Decoder): Float32Array {
  const lists = [...model.parameters(), ...model.states()].map(([, { data }]) => data.readSync());
  const all = new Float32Array(lists.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const list of lists) {
    all.set(list, at);
    at += list.length;
  }
  return all;
}

/** Sequences of a training batch on the host. */
export interface HostBatch {
  /** Tokens of each sequence. */
  length: number;
  /** Inputs, [sequences × length]. */
  ids: Int32Array;
  /** The token after each, −1 where it does not count. */
  next: Int32Array;
  /** Documents of both. */
  documents: { inputs: Int32Array; targets: Int32Array };
}

/**
 * Random sequences of documents of one to six tokens.
 * @param sequences - how many
 * @param length - tokens of each
 * @param seed - any integer
 * @param vocab - tokens to choose from
 * @returns the batch
 */
export function randomBatch(
  sequences: number,
  length: number,
  seed: number,
  vocab = 20,
): HostBatch {
  const random = randomFrom(seed);
  const count = sequences * length;
  const batch = { ids: new Int32Array(count), next: new Int32Array(count) };
  const documents = { inputs: new Int32Array(count), targets: new Int32Array(count) };
  let document = 0;
  let left = 0;
  for (let b = 0; b < sequences; b += 1)
    for (let i = 0; i <= length; i += 1) {
      if (left === 0) {
        document += 1;
        left = 1 + Math.floor(random() * 6);
      }
      left -= 1;
      const token = Math.floor(random() * vocab);
      if (i < length)
        [batch.ids[b * length + i], documents.inputs[b * length + i]] = [token, document];
      if (i > 0)
        [batch.next[b * length + i - 1], documents.targets[b * length + i - 1]] = [token, document];
    }
  return { length, ...batch, documents };
}

/**
 * Targets of the main model and of every depth.
 * @param batch - sequences
 * @param depth - D
 * @returns D + 1 lists
 */
export function targetsOf(
  { ids, next, documents, length }: HostBatch,
  depth: number,
): Int32Array[] {
  const sizes = { batch: ids.length / length, length };
  return [
    next,
    ...Array.from({ length: depth }, (_, k) =>
      mtpTargets(next, documents, { ...sizes, depth: k + 1 }),
    ),
  ];
}

/** Some of a batch's sequences. */
export function sequencesOf(batch: HostBatch, start: number, count: number): HostBatch {
  const { length } = batch;
  const cut = (list: Int32Array): Int32Array =>
    list.slice(start * length, (start + count) * length);
  return {
    length,
    ids: cut(batch.ids),
    next: cut(batch.next),
    documents: { inputs: cut(batch.documents.inputs), targets: cut(batch.documents.targets) },
  };
}

/**
 * Runs a batch in micro-batches of some sequences, forward and (unless told otherwise) backward, and adds to the gradients.
 * @param model - the model
 * @param batch - all sequences of the step
 * @param microBatch - sequences at a time
 * @param options - α of the balance loss; whether to go back
 * @returns the total loss with the balance loss, and each position's own loss
 */
export function runBatch(
  model: Decoder,
  batch: HostBatch,
  microBatch: number,
  options: { alpha?: number; backward?: boolean; forward?: ForwardOptions } = {},
): { total: number; losses: Float32Array[] } {
  const { kernels } = model;
  const { length } = batch;
  const sequences = batch.ids.length / length;
  const { depth } = model.config.mtp;
  const counted = targetsOf(batch, depth).map((list) => list.filter((t) => t >= 0).length);
  const inputs = new Region(kernels, 'inputs');
  const region = new Region(kernels, 'micro-batch');
  const routers = model.allRouters.length;
  const balanceLoss = tensorFrom(inputs, [routers], new Float32Array(routers));
  const one = tensorFrom(inputs, [1], Float32Array.of(1));
  const phases = model.lossPhases({
    balanceFactor: (options.alpha ?? 0) / sequences,
    balanceLoss,
    ...options.forward,
  });
  let total = 0;
  const losses: Float32Array[] = [];
  for (let start = 0; start < sequences; start += microBatch) {
    const part = sequencesOf(batch, start, microBatch);
    const targets = targetsOf(part, depth);
    const scale = lossWeights(targets, counted, 0.3);
    const all = Int32Array.from(targets.flatMap((list) => [...list]));
    const run = new Run(region);
    let out: Bundle = {
      ids: tensorFrom(inputs, [microBatch, length], part.ids),
      targets: tensorFrom(inputs, [all.length], all),
      rowScale: tensorFrom(inputs, [all.length], scale),
    };
    phases.forEach((phase, p) => {
      out = run.forward(phase, p === 0 ? out : undefined);
    });
    const own = (out.losses as Tensor).readSync().slice() as Float32Array;
    losses.push(own);
    own.forEach((loss, i) => {
      total += loss * scale[i];
    });
    if (options.backward === false) run.abandon();
    else {
      phases.forEach((_, p) => {
        run.backwardInput(p === 0 ? { losses: one } : undefined);
      });
      run.finish();
    }
  }
  if (region.liveBytes !== 0) throw new Error(`${region.liveBytes} bytes were left behind`);
  const balance = (balanceLoss.readSync() as Float32Array).reduce((sum, loss) => sum + loss, 0);
  return { total: total + balance, losses };
}

/** Clears the gradients of a model. */
export function clearGradients(model: Decoder): void {
  for (const [, { grad }] of model.parameters()) model.kernels.fill(grad, 0);
}

/** Copies of a model's gradients by parameter. */
export function gradientsOf(model: Decoder): Map<string, Float32Array> {
  return new Map(
    [...model.parameters()].map(([name, { grad }]) => [
      name,
      grad.readSync().slice() as Float32Array,
    ]),
  );
}
