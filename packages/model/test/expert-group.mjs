// A model whose experts are spread over ranks, beside whole models: each rank takes a micro-batch of its own through both, and
// says where losses or gradients differ by a bit. Plain JavaScript, since Node.js runs it as it is.
import { loadKernels, setThreads } from '@baleen/kernels';
import { checkpointPieces, Decoder } from '@baleen/model';
import { lossWeights, mtpTargets } from '@baleen/mtp';
import { initialize, Region, Run, tensorFrom } from '@baleen/tensor';

const [batch, length] = [2, 10];

/** Tokens of a rank's micro-batch. Those of the last rank are all alike, so that its experts elsewhere get no rows of it. */
function inputOf(pool, { vocabSize }, rank, ranks) {
  const token = (i) => (rank === ranks - 1 ? 3 : (i * 7 + rank * 13 + ((i * i) % 5)) % vocabSize);
  const ids = Int32Array.from({ length: batch * length }, (_, i) => token(i));
  const next = Int32Array.from(ids, (_, i) => token(i + 1));
  const documents = new Int32Array(ids.length);
  const sizes = { batch, length, depth: 1 };
  const later = mtpTargets(next, { inputs: documents, targets: documents }, sizes);
  const targets = Int32Array.from([...next, ...later]);
  const counts = [ranks * next.length, ranks * later.length];
  return {
    ids: tensorFrom(pool, [batch, length], ids),
    targets: tensorFrom(pool, [targets.length], targets),
    rowScale: tensorFrom(pool, [targets.length], lossWeights([next, later], counts, 0.3)),
  };
}

/** Forward and backward of one micro-batch: its losses. */
function pass(model, region, input) {
  const pool = new Region(model.kernels, 'inputs');
  const one = tensorFrom(pool, [1], Float32Array.of(1));
  const routers = model.allRouters.length;
  const balanceLoss = tensorFrom(pool, [routers], new Float32Array(routers));
  const phases = model.lossPhases({ balanceFactor: 1e-3, balanceLoss });
  const run = new Run(region);
  let losses = null;
  phases.forEach((phase, p) => {
    const output = run.forward(phase, p === 0 ? input : undefined);
    if ('losses' in output) {
      model.kernels.flush();
      losses = output.losses.readSync().slice();
    }
  });
  phases.forEach((_, p) => {
    run.backwardInput(p === 0 ? { losses: one } : undefined);
  });
  run.finish();
  model.kernels.flush();
  return [...losses, ...balanceLoss.readSync()];
}

const same = (a, b) => a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
const valuesOf = (tensor) => tensor.readSync();

export default function run(communicator, { config, precision, options }) {
  setThreads(1);
  const kernels = loadKernels();
  const { rank, size } = communicator;
  const wrong = [];
  const expect = (what, a, b) => {
    if (!same(a, b)) wrong.push(`rank ${rank}: ${what} differ`);
  };
  const make = (experts) => {
    const model = new Decoder(kernels, config, precision, experts ? { experts } : {});
    initialize(model, config.initStd, 7);
    return model;
  };
  const spread = make({ communicator, ...options });
  // What a whole model makes of each rank's micro-batch, each alone.
  const wholes = Array.from({ length: size }, () => make(null));
  const region = new Region(kernels, 'micro-batch');
  const inputs = new Region(kernels, 'given');
  const given = wholes.map((_, source) => inputOf(inputs, config, source, size));
  const losses = wholes.map((whole, source) => pass(whole, region, given[source]));

  const pieces = new Map([...checkpointPieces(wholes[0])].map(({ name, data }) => [name, data]));
  for (const { name, data } of checkpointPieces(spread))
    expect(`values of ${name}`, valuesOf(data), valuesOf(pieces.get(name)));
  for (const round of ['first', 'second']) {
    if (round === 'second')
      for (const [, { grad, sourceGrads }] of spread.parameters()) {
        kernels.fill(grad, 0);
        if (sourceGrads) kernels.fill(sourceGrads, 0);
      }
    expect(`losses of the ${round} pass`, pass(spread, region, given[rank]), losses[rank]);
    if (region.liveBytes !== 0) wrong.push(`rank ${rank}: ${region.liveBytes} bytes are left`);
    const names = new Map(wholes.map((whole, source) => [source, new Map(whole.parameters())]));
    for (const [name, { grad, sourceGrads, slice }] of spread.parameters()) {
      const of = (source) => valuesOf(names.get(source).get(name).grad);
      if (!slice) {
        expect(`gradients of ${name}`, valuesOf(grad), of(rank));
        continue;
      }
      if (!sourceGrads) {
        const sums = new Float32Array(grad.size);
        for (const source of wholes.keys()) {
          const own = of(source);
          const start = slice.start * (grad.size / grad.shape[0]);
          for (let i = 0; i < sums.length; i += 1) sums[i] += own[start + i];
        }
        expect(`summed gradients of ${name}`, valuesOf(grad), sums);
        continue;
      }
      const local = sourceGrads.shape[0];
      const each = grad.size / local;
      for (let e = 0; e < local; e += 1)
        for (let source = 0; source < size; source += 1) {
          const at = (e * size + source) * each;
          const there = (slice.start + e) * each;
          expect(
            `gradients of expert ${slice.start + e} in ${name} from rank ${source}`,
            valuesOf(sourceGrads).subarray(at, at + each),
            of(source).subarray(there, there + each),
          );
        }
    }
  }
  return wrong;
}
