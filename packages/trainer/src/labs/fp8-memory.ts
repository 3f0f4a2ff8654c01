// The lab `fp8-memory`: what each of V3's low-precision caches saves (§3.3.3), in bytes that the region counters show.
//
// The report has four: inputs of linear layers wait for the weight gradient in FP8, SwiGLU's inputs in FP8, attention's
// output in E5M6, and AdamW's moments are BF16. Each is taken away alone, down to what one would have without it (BF16 for
// activations, FP32 for moments), and then all at once. Norms and up-projections are recomputed in every arm.
//
// Nothing is computed: steps run on the null backend, which is asked for the blocks of a real step in its order and has no
// values, so that V3 itself fits. A run's own counters are the same; the model's tests hold one against the other.
// Activations are what waits for backward when the last forward phase has ended. The peak of the step stands beside them and
// has no part in the verdict: it may lie where no cache helps, in the loss over a large vocabulary.
import type { TrainConfig } from '../config';
import { stepOfShapes } from '../estimate';
import { type PresetName, presets } from '../presets';
import { resolveConfig } from '../resolve';
import { planOf } from '../schedule';
import type { Lab } from './lab';
import { labFigure } from './verdict';

/** A cache: where its bytes lie, and what a configuration without it changes. */
interface Cache {
  name: string;
  pool: 'activations' | 'optimizer';
  without: object;
}

const caches: readonly Cache[] = [
  {
    name: 'linear inputs in FP8',
    pool: 'activations',
    without: { fp8: { layers: { attention: false, feedForward: false, experts: false } } },
  },
  {
    name: 'SwiGLU inputs in FP8',
    pool: 'activations',
    without: { fp8: { kept: { swigluInputs: 'bf16' } } },
  },
  {
    name: 'attention output in E5M6',
    pool: 'activations',
    without: { fp8: { kept: { attentionOutput: 'bf16' } } },
  },
  { name: 'moments in BF16', pool: 'optimizer', without: { optimizer: { moments: 'fp32' } } },
];

/** Settings. */
export type MemorySettings = Readonly<{
  /** Models; the last one's activations stand beside the published figure. */
  models: readonly PresetName[];
  /** Sequences of a micro-batch. */
  microBatches: readonly number[];
}>;

/** Memory with and without each of V3's caches. */
export const fp8Memory: Lab<MemorySettings> = {
  name: 'fp8-memory',
  claim: 'each of V3’s low-precision caches takes less memory than without it',
  source: 'arXiv 2412.19437, §3.3.3',
  published: 'no figure',
  quantity: {
    name: 'activations of V3’s shapes, without its caches over with them',
    unit: 'ratio',
  },
  effect: { name: 'smallest of bytes without a cache / bytes with it', unit: 'ratio' },
  inequality: { above: 1 },
  settings: {
    quick: { models: ['small', 'v3-671b'], microBatches: [1] },
    full: { models: ['tiny', 'small', 'base', 'v3-16b', 'v3-671b'], microBatches: [1, 4] },
  },
  // A step of shapes takes a second at most.
  estimate: ({ models, microBatches }) =>
    Promise.resolve(models.length * microBatches.length * (caches.length + 2)),
  async run({ models, microBatches }, { progress, row, signal }) {
    const ratios = caches.map((): number[] => []);
    let measured = NaN;
    const sizes = models.flatMap((model) => microBatches.map((count) => [model, count] as const));
    for (const [index, [model, microBatch]] of sizes.entries()) {
      const v3 = stepMemory(configOf(model, microBatch, []));
      const arm = async (without: string, changes: readonly object[]): Promise<StepMemory> => {
        const memory = changes.length ? stepMemory(configOf(model, microBatch, changes)) : v3;
        const { activations, peak, optimizer, tokens, parameters } = memory;
        row({
          model,
          sequences: microBatch,
          without,
          'activations, bytes a token': activations / tokens,
          'of V3’s': activations / v3.activations,
          'peak, of V3’s': peak / v3.peak,
          'optimizer, bytes a parameter': optimizer / parameters,
        });
        progress(index / sizes.length, `${model}, ${microBatch} sequences`, `without ${without}`);
        // Let Ctrl-C through.
        await new Promise(setImmediate);
        signal.throwIfAborted();
        return memory;
      };
      await arm('nothing', []);
      for (const [c, { name, pool, without }] of caches.entries())
        ratios[c].push((await arm(name, [without]))[pool] / v3[pool]);
      const none = await arm(
        'all of them',
        caches.map(({ without }) => without),
      );
      measured = none.activations / v3.activations;
    }
    const all = ratios.flat();
    return {
      effect: { exact: Math.min(...all), n: all.length },
      measured,
      notes: caches.map(({ name, pool }, c) => {
        const [least, most] = [Math.min(...ratios[c]), Math.max(...ratios[c])];
        return `without ${name}: ${pool} ${labFigure(least, 'ratio')} to ${labFigure(most, 'ratio')}`;
      }),
    };
  },
};

function configOf(model: PresetName, microBatch: number, changes: readonly object[]): TrainConfig {
  const batch = { microBatch, sequences: microBatch, rampFrom: microBatch };
  return resolveConfig([
    { origin: `preset ${model}`, values: presets[model]() },
    { origin: 'lab', values: { precision: 'fp8', batch } },
    ...changes.map((values) => ({ origin: 'arm', values })),
  ]).config;
}

/** What a step of one micro-batch holds, in bytes. */
export interface StepMemory {
  /** What waits for backward after the last forward phase. */
  activations: number;
  /** Most at once between forward and backward. */
  peak: number;
  /** The optimizer's state. */
  optimizer: number;
  /** Tokens of the micro-batch. */
  tokens: number;
  /** Trained values. */
  parameters: number;
}

/**
 * Memory of a step of one micro-batch.
 * @param config - the run, its batch one micro-batch
 * @returns what its region counters show
 */
export function stepMemory(config: TrainConfig): StepMemory {
  const { model, step } = stepOfShapes(config);
  let activations = 0;
  for (const piece of step.pieces(planOf(config).at(0)))
    if (piece.endsWith(' forward')) activations = step.region.liveBytes;
  let parameters = 0;
  for (const [, { data }] of model.parameters()) parameters += data.size;
  return {
    activations,
    peak: step.region.peakBytes,
    optimizer: step.optimizer.region.liveBytes,
    tokens: config.batch.sequences * config.batch.sequence,
    parameters,
  };
}
