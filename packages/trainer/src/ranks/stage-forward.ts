// Forward alone through all stages, as evaluation and counting need it: a batch after the other, each handed from rank to
// rank. Ranks at different places of the pipeline work on different batches at once.
import { type Decoder, type ModelStage, stageTensors } from '@baleen/model';
import { type Bundle, type Phase, type Region, Run, type Tensor } from '@baleen/tensor';

import type { Layout } from './layout';
import { letGo, StageMessages } from './stage-messages';

/** How to go. */
export interface ForwardRun {
  /** Intermediate memory. */
  region: Region;
  /** What every stage reads: `ids` [batch, length] and so on. */
  input: Bundle;
  /** Depths of multi-token prediction that run (default: all). */
  depths?: number;
  /** Phases of a stage. */
  phasesOf: (stage: ModelStage) => readonly Phase[];
  /** Looks at what a phase put out. */
  visit?: (phase: Phase, output: Bundle) => Promise<void> | undefined;
}

/**
 * Takes a batch through the stages of this rank.
 * @param model - those stages
 * @param stages - of the whole model, from `cutStages`
 * @param layout - which rank has which
 * @param forward - see {@link ForwardRun}
 */
export async function runForward(
  model: Decoder,
  stages: readonly ModelStage[],
  layout: Layout,
  { region, input, depths, phasesOf, visit }: ForwardRun,
): Promise<void> {
  const { places } = layout;
  const { shape } = input.ids as Tensor;
  const messages = new StageMessages(layout.messages, stageTensors(model.config, depths), [
    ...shape,
    model.config.hiddenSize,
  ]);
  let local: Float32Array | null = null;
  for (const [s, stage] of stages.entries()) {
    if (places[s] !== layout.position) continue;
    let array = local;
    local = null;
    if (!stage.first && !array) {
      array = messages.take();
      layout.pipe.recv(array, places[s - 1]);
    }
    const arrived = array ? messages.unpack(region, array) : {};
    const run = new Run(region, { grad: false });
    try {
      let output: Bundle = { ...input, ...arrived };
      for (const [p, phase] of phasesOf(stage).entries()) {
        output = run.forward(phase, p === 0 ? output : undefined);
        await visit?.(phase, output);
      }
      if (!stage.last) {
        const packed = messages.pack(region, output);
        if (places[s + 1] === layout.position) local = packed;
        else {
          layout.pipe.send(packed, places[s + 1]);
          messages.give(packed);
        }
      }
      run.finish();
    } catch (error) {
      run.abandon();
      throw error;
    } finally {
      letGo(arrived);
    }
  }
}
