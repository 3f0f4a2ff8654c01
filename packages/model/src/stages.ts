// The stages of a pipeline: neighbouring layers, the embedding in the first one, and in the last one what predicts. So the
// table that multi-token prediction shares lies where tokens come in, and its depths where the head is (§2.2, §3.2.1).
//
// Legend: L layers, D depths of multi-token prediction, S stages.
import type { ModelConfig } from './config';

/** A stage: part of the model. */
export interface ModelStage {
  /** Which, from 0. */
  index: number;
  /** Of how many, S. */
  of: number;
  /** Its layers: the first, and the one behind the last. */
  layers: readonly [first: number, end: number];
  /** It has the embedding. */
  first: boolean;
  /** It has the last norm, multi-token prediction and the head. */
  last: boolean;
}

/**
 * Cuts a model into stages that have as many layers each, where a depth of multi-token prediction counts as one.
 * @param config - its sizes
 * @param stages - S
 * @returns the stages, in order
 * @throws `ERR_BALEEN_CONFIG_STAGES` where a stage would have nothing to do
 */
export function cutStages({ layers, mtp }: ModelConfig, stages: number): ModelStage[] {
  const units = layers + mtp.depth;
  const end = (index: number): number =>
    index === stages - 1 ? layers : Math.min(layers, Math.floor(((index + 1) * units) / stages));
  const cut = Array.from(
    { length: stages },
    (_, index): ModelStage => ({
      ...{ index, of: stages },
      layers: [index === 0 ? 0 : end(index - 1), end(index)],
      first: index === 0,
      last: index === stages - 1,
    }),
  );
  const idle = cut.find(({ layers: [from, to], last }) => from === to && !(last && mtp.depth > 0));
  if (idle)
    throw Object.assign(
      new Error(
        `stage ${idle.index} of ${stages} would have no layer: config.layers is ${layers}, config.mtp.depth ${mtp.depth}`,
      ),
      {
        code: 'ERR_BALEEN_CONFIG_STAGES',
        path: 'config.layers',
        hint: 'use fewer ranks in the pipeline, a schedule with fewer stages a rank, or more layers',
      },
    );
  return cut;
}

/**
 * The stage that a parameter or state lies in.
 * @param name - its dotted name
 * @param stages - from {@link cutStages}
 * @returns the stage's index
 */
export function stageOf(name: string, stages: readonly ModelStage[]): number {
  if (name.startsWith('embedding.')) return 0;
  const layer = /^layers\.(\d+)\./.exec(name);
  if (!layer) return stages.length - 1;
  const number = Number(layer[1]);
  return stages.findIndex(({ layers: [first, end] }) => number >= first && number < end);
}

/**
 * What goes from one stage to the next, and the gradients back: tensors [batch, length, hidden].
 * @param config - the model
 * @param depths - of multi-token prediction that run (default: all)
 * @returns names in the bundle
 */
export function stageTensors({ mtp }: ModelConfig, depths: number = mtp.depth): string[] {
  // The embedded tokens join the stream once more in the last stage.
  return depths > 0 ? ['h', 'embedded'] : ['h'];
}
