// A step's micro-batches through the stages of a rank as a pipeline schedule says (§3.2.1): the stages' phases as the executor
// of `@baleen/dualpipe` takes them.
//
// A stage's phases run on a tape for each micro-batch, in memory of its own. The head runs where the way back begins: its loss
// and its gradient come from one product, and nobody waits for the loss. Gradients of weights come when the schedule has them,
// except where sums must not depend on the layout: there a micro-batch's are complete before another one's begin.
import { execute, type Stage, type StagePhase } from '@baleen/dualpipe';
import { type Decoder, type ModelStage, type RecomputedPart, stageTensors } from '@baleen/model';
import {
  type Bundle,
  type BundleGrad,
  type CommunicationPhase,
  type Handle,
  type Phase,
  Region,
  Run,
  type Tensor,
} from '@baleen/tensor';

import type { Layout } from './layout';
import { isDeferring } from './stage-memory';
import { letGo, StageMessages } from './stage-messages';

/** What a step makes of its passes. */
export interface StageWork {
  /** What every stage of a micro-batch reads. */
  inputOf: (microBatch: number) => Bundle;
  /** Phases of a stage. */
  phasesOf: (stage: ModelStage) => readonly Phase[];
  /** Runs a phase forward; what it adds to sums of losses is the micro-batch's. */
  forward: (microBatch: number, phase: Phase, body: () => Bundle) => void;
  /** The gradients of a stage's weights are complete for a micro-batch. */
  gone: (stage: ModelStage, microBatch: number) => void;
  /** Gradient of the losses, [1]. */
  one: Tensor;
}

/** A micro-batch in a stage. */
interface Passage {
  run: Run;
  region: Region;
}

/** The stages of a rank. */
export class StagePipeline {
  private readonly messages: StageMessages;
  /** Memory of micro-batches, used again. */
  private readonly free: Region[] = [];
  private readonly regions: Region[] = [];
  private readonly underWay = new Map<string, Passage>();
  private deferring = false;

  /**
   * @param model - its stages that are here
   * @param stages - of the whole model
   * @param layout - which rank has which
   * @param sizes - of a micro-batch
   * @param keep - parts that are kept for backward rather than made again
   */
  constructor(
    private readonly model: Decoder,
    private readonly stages: readonly ModelStage[],
    private readonly layout: Layout,
    sizes: { microBatch: number; sequence: number },
    private readonly keep: readonly RecomputedPart[],
  ) {
    const { config } = model;
    this.messages = new StageMessages(layout.messages, stageTensors(config), [
      ...[sizes.microBatch, sizes.sequence, config.hiddenSize],
    ]);
  }

  /** Memory that micro-batches under way took together, in bytes: as many regions as were, each with the most it held. */
  get peakBytes(): number {
    return this.regions.reduce((sum, { peakBytes }) => sum + peakBytes, 0);
  }

  /**
   * Takes a micro-batch through a stage and back, with nobody to exchange with: the null backend then has its memory.
   * @param stage - any of the model, whose experts are all here
   * @param work - see {@link StageWork}
   * @param deferring - gradients of weights come after those of all inputs
   */
  pass(stage: ModelStage, work: StageWork, deferring: boolean): void {
    this.deferring = deferring;
    const phases = this.stage(stage, work).filter((phase) => phase.kind === 'compute');
    const { messages } = this;
    let message = stage.first ? null : messages.take();
    for (const phase of phases) message = phase.forward(0, message);
    for (const phase of phases.toReversed()) message = phase.inputGrad(0, message);
    if (message) messages.give(message);
    for (const phase of phases.toReversed()) phase.weightGrad?.(0);
  }

  /**
   * Takes the micro-batches of this rank's lane there and back.
   * @param microBatches - how many
   * @param work - see {@link StageWork}; micro-batches are counted from the lane's first
   * @returns milliseconds in which this rank waited for others
   */
  async run(microBatches: number, work: StageWork): Promise<number> {
    const { layout } = this;
    const begin = performance.now();
    const schedule = layout.schedule(microBatches);
    this.deferring = isDeferring(schedule.actions[layout.position], layout.deterministic);
    const stages = new Map(
      layout.ownStages.map((index) => [index, this.stage(this.stages[index], work)]),
    );
    try {
      const link = this.messages.link(layout.pipe);
      const { computations, exposed } = await execute(schedule, layout.position, { stages, link });
      const computed = computations.reduce((sum, { start, end }) => sum + end - start, 0);
      return performance.now() - begin - computed + exposed;
    } finally {
      // None, unless a phase failed.
      for (const { run } of this.underWay.values()) run.abandon();
      this.underWay.clear();
      this.free.splice(0, Infinity, ...this.regions);
    }
  }

  /** A stage for the executor. */
  private stage(stage: ModelStage, work: StageWork): Stage<Float32Array> {
    const all = work.phasesOf(stage);
    const phases = stage.last ? all.slice(0, -1) : all;
    const { messages } = this;
    const own = phases.map((phase, position): StagePhase<Float32Array> => {
      const ends = { first: position === 0, last: position === phases.length - 1 };
      if (phase.kind === 'communication') return this.communication(stage, phase);
      return {
        kind: 'compute',
        forward: (m, message) => {
          const passage = ends.first ? this.open(stage, m) : this.at(stage, m);
          const { run, region } = passage;
          const arrived = ends.first && message ? messages.unpack(region, message) : {};
          let output: Bundle = {};
          work.forward(m, phase, () => {
            output = run.forward(
              phase,
              ends.first ? { ...work.inputOf(m), ...arrived } : undefined,
            );
            return output;
          });
          letGo(arrived);
          return ends.last && !stage.last ? messages.pack(region, output) : null;
        },
        inputGrad: (m, message) => {
          const { run, region } = this.at(stage, m);
          const arrived = ends.last && message ? messages.unpack(region, message) : undefined;
          const grads = run.backwardInput(arrived);
          if (arrived) letGo(arrived);
          if (!ends.first) return null;
          const packed = stage.first ? null : messages.pack(region, grads);
          if (!this.deferring) this.close(stage, m, work);
          return packed;
        },
        weightGrad: (m) => {
          if (!this.deferring) return;
          this.at(stage, m).run.tape.drainWeightGrads();
          if (ends.first) this.close(stage, m, work);
        },
      };
    });
    return stage.last ? [...own, this.head(stage, all[all.length - 1], work)] : own;
  }

  /** The head there and back, in one. */
  private head(stage: ModelStage, phase: Phase, work: StageWork): StagePhase<Float32Array> {
    return {
      kind: 'compute',
      forward: () => null,
      inputGrad: (m) => {
        const { run } = this.at(stage, m);
        work.forward(m, phase, () => run.forward(phase));
        run.backwardInput({ losses: work.one });
        return null;
      },
    };
  }

  /** Tokens to experts, or back. */
  private communication(stage: ModelStage, phase: CommunicationPhase): StagePhase<Float32Array> {
    const handleOf = (under: Handle<Bundle | BundleGrad>): Handle<null> => ({
      done: under.done,
      wait: () => {
        under.wait();
        return null;
      },
    });
    return {
      kind: 'communication',
      forward: (m) => handleOf(this.at(stage, m).run.start(phase)),
      inputGrad: (m) => handleOf(this.at(stage, m).run.startBackward(phase)),
    };
  }

  private open(stage: ModelStage, m: number): Passage {
    let region = this.free.pop();
    if (!region) {
      region = new Region(this.model.kernels, 'micro-batch of a stage');
      this.regions.push(region);
    }
    const { keep, deferring: deferWeightGrads } = this;
    const passage = { region, run: new Run(region, { keep, deferWeightGrads }) };
    this.underWay.set(keyOf(stage, m), passage);
    return passage;
  }

  private at(stage: ModelStage, m: number): Passage {
    const passage = this.underWay.get(keyOf(stage, m));
    if (passage) return passage;
    throw Object.assign(new Error(`micro-batch ${m} is not in stage ${stage.index}`), {
      code: 'ERR_BALEEN_INTERNAL',
      hint: 'this is a fault of Baleen: please report it',
    });
  }

  /** A micro-batch leaves a stage for good. */
  private close(stage: ModelStage, m: number, work: StageWork): void {
    const { run, region } = this.at(stage, m);
    run.finish();
    this.underWay.delete(keyOf(stage, m));
    this.free.push(region);
    work.gone(stage, m);
  }
}

/** Names a micro-batch in a stage. */
function keyOf({ index }: ModelStage, m: number): string {
  return `${index}:${m}`;
}
