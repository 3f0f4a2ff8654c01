// A rank of overlap.mjs: times two micro-batches without the link, in order over it, and by turns over it.
import { emulatedLink } from '../packages/comm/dist/index.js';
import { loadKernels, setThreads } from '../packages/kernels/dist/index.js';
import { Decoder } from '../packages/model/dist/index.js';
import { initialize, Region, Run, tensorFrom } from '../packages/tensor/dist/index.js';
import { modelConfigOf, presets } from '../packages/trainer/dist/index.js';

const [batch, length] = [4, 256];

/** A micro-batch forward and backward, with a pause wherever data are under way. */
function* pass(phases, run, input, one) {
  for (const [p, phase] of phases.entries()) {
    const given = p === 0 ? input : undefined;
    if (phase.kind !== 'communication') {
      run.forward(phase, given);
      continue;
    }
    const handle = run.start(phase, given);
    yield;
    handle.wait();
  }
  for (const [p, phase] of [...phases].reverse().entries()) {
    const given = p === 0 ? { losses: one } : undefined;
    if (phase.kind !== 'communication') {
      run.backwardInput(given);
      continue;
    }
    const handle = run.startBackward(phase, given);
    yield;
    handle.wait();
  }
  run.finish();
}

function drain(generator) {
  while (!generator.next().done);
}

export default function rank(communicator, { gbps, rounds }) {
  setThreads(1);
  const kernels = loadKernels();
  const config = modelConfigOf(presets.small(), 4096);
  const make = (experts) => {
    const model = new Decoder(kernels, config, 'bf16', { experts: { communicator: experts } });
    initialize(model, config.initStd, 1);
    return model.lossPhases();
  };
  const near = make(communicator);
  const far = make(emulatedLink(communicator, { gbps, latencyUs: 20 }));
  const given = new Region(kernels, 'given');
  const regions = [new Region(kernels, 'first'), new Region(kernels, 'second')];
  const one = tensorFrom(given, [1], Float32Array.of(1));
  const inputs = regions.map((_, m) => {
    const ids = Int32Array.from(
      { length: batch * length },
      (_each, i) => (i * 31 + m * 7 + communicator.rank * 1009) % 4096,
    );
    return {
      ids: tensorFrom(given, [batch, length], ids),
      targets: tensorFrom(given, [ids.length], ids),
      rowScale: tensorFrom(given, [ids.length], new Float32Array(ids.length).fill(1 / ids.length)),
    };
  });
  const passes = (phases) =>
    regions.map((region, m) => pass(phases, new Run(region), inputs[m], one));
  const inOrder = (phases) => {
    for (const each of passes(phases)) drain(each);
  };
  const byTurns = (phases) => {
    const waiting = passes(phases);
    while (waiting.length > 0) {
      const each = waiting.shift();
      if (!each.next().done) waiting.push(each);
    }
  };
  const ways = {
    alone: () => inOrder(near),
    inOrder: () => inOrder(far),
    byTurns: () => byTurns(far),
  };
  const times = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
  for (let round = 0; round < rounds + 2; round += 1)
    for (const [name, work] of Object.entries(ways)) {
      communicator.barrier();
      const begin = performance.now();
      work();
      kernels.flush();
      communicator.barrier();
      if (round >= 2) times[name].push((performance.now() - begin) / 1000);
    }
  const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
  return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
}
