// The gradients of one batch through a model, kept to be compared: of the stream where it enters the first layer, which is
// as far down as gradients come, and of the weights.
import type { Decoder } from '@baleen/model';
import { lossWeights } from '@baleen/mtp';
import { Region, Run, type Tensor, tensorFrom, writeTensor } from '@baleen/tensor';

import type { TokenBatch } from '../data/index';

/** What came back from a batch. */
export interface BatchGradients {
  /** Mean loss, nats a token. */
  loss: number;
  /** Gradient of the stream that enters the first layer, [tokens × hidden]. */
  input: Float32Array;
  /** Gradients of all weight matrices inside the layers but the routers', one behind the other. */
  weights: Float32Array;
}

/**
 * Takes a batch forward and back, once, as one micro-batch; multi-token prediction and balance loss are left out.
 * @param model - its gradients are empty, and full afterwards
 * @param batch - tokens
 * @returns copies of the gradients
 */
export function gradientsOf(model: Decoder, batch: TokenBatch): BatchGradients {
  const { sequences, sequence, ids, targets } = batch;
  const rows = sequences * sequence;
  const region = new Region(model.kernels, 'gradients of a batch');
  const counted = targets.reduce((count, target) => count + (target < 0 ? 0 : 1), 0);
  const weights = lossWeights([targets], [counted], 0);
  const input = {
    ids: tensorFrom(region, [sequences, sequence], ids),
    targets: tensorFrom(region, [rows], targets),
    rowScale: tensorFrom(region, [rows], weights),
  };
  const phases = model.lossPhases({ depths: 0 });
  const run = new Run(region);
  let loss = 0;
  phases.forEach((phase, index) => {
    const output = run.forward(phase, index === 0 ? input : undefined);
    if ('losses' in output)
      copyOf(output.losses as Tensor).forEach((value, i) => (loss += value * weights[i]));
  });
  let streamGradient: Float32Array = new Float32Array(0);
  const one = tensorFrom(region, [1], Float32Array.of(1));
  phases.forEach((_, index) => {
    const { h } = run.backwardInput(index === 0 ? { losses: one } : undefined);
    // The last one that there is: ids have no gradient.
    if (h) streamGradient = copyOf(h);
  });
  run.finish();
  const linears = [...model.parameters()].filter(
    ([name, { shape }]) =>
      name.startsWith('layers.') && shape.length > 1 && !name.includes('.router.'),
  );
  const gradients = linears.map(([, { grad }]) => copyOf(grad));
  const joined = new Float32Array(gradients.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const gradient of gradients) {
    joined.set(gradient, at);
    at += gradient.length;
  }
  return { loss, input: streamGradient, weights: joined };
}

/**
 * Gives a model another one's values: weights, and router biases.
 * @param to - the model that gets them, of the same sizes
 * @param from - the model that has them
 */
export function copyValues(to: Decoder, from: Decoder): void {
  const parameters = new Map(from.parameters());
  for (const [name, parameter] of to.parameters()) {
    const source = parameters.get(name);
    if (source) writeTensor(parameter.data, copyOf(source.data));
    parameter.version += 1;
  }
  const states = new Map(from.states());
  for (const [name, { data }] of to.states()) {
    const source = states.get(name);
    if (source) writeTensor(data, source.data.readSync() as Float32Array);
  }
}

function copyOf(tensor: Tensor): Float32Array {
  return (tensor.readSync() as Float32Array).slice();
}
