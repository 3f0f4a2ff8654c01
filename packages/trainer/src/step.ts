// One training step: micro-batches forward and backward through the model's phases, gradients added up, one clipped AdamW
// update, router biases from the whole batch's counts.
//
// Nothing is read back between the first micro-batch and the update: losses are summed, checked and used by kernels. The
// host looks once, at the end. All memory is taken when the step is made, or from a region that every micro-batch uses
// again.
//
// Legend: S sequences of the step, B of a micro-batch, L tokens of a sequence, D depths of multi-token prediction;
// R = B · Σ_{k=0…D} (L − k) predicted positions of a micro-batch; Q routers of the whole model; M micro-batches.
import type { Communicator } from '@baleen/comm';
import type { Recording } from '@baleen/kernels';
import {
  cutStages,
  type Decoder,
  type ForwardOptions,
  type ModelStage,
  type RecomputedPart,
  wholeModel,
} from '@baleen/model';
import { maxViolation, type Router } from '@baleen/moe-router';
import {
  AdamW,
  emptyTensor,
  type Phase,
  Region,
  type Share,
  type Tensor,
  writeTensor,
} from '@baleen/tensor';

import { batchCounts, countingPhases } from './batch-counts';
import type { TrainConfig } from './config';
import { type Piece, passPieces } from './pass';
import { addOver } from './ranks/add-over';
import { Layout, oneRank } from './ranks/layout';
import { SharedUpdate } from './ranks/shared-update';
import { runForward } from './ranks/stage-forward';
import { StagePipeline, type StageWork } from './ranks/stage-pipeline';
import { routes } from './router-place';
import type { StepPlan } from './schedule';
import { StepLosses } from './step-losses';
import { type StepBatch, StepTokens } from './step-tokens';

/** What came of a step. */
export interface StepReport {
  /** Loss and gradients were finite; if not, nothing has changed. */
  finite: boolean;
  /** Main loss, nats a counted token. */
  loss: number;
  /** Loss of each depth, likewise. */
  mtpLoss: number[];
  /** Balance loss, α included. */
  balanceLoss: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  /** MaxVio of the batch, mean over the main model's layers; 0 without experts. */
  maxViolation: number;
  /** Tokens each expert of the batch got, by layer of the main model with experts. */
  loads: number[][];
}

/** Sizes and settings that hold for every step. */
export type StepSettings = Pick<TrainConfig, 'batch' | 'optimizer'> & {
  /** α of the balance loss. */
  balanceFactor: number;
  /** How loads are balanced (default: V3's way). A loss over the batch is over all its micro-batches. */
  balance?: TrainConfig['balance'];
  /** Attention keeps documents apart (default: it does not, as V3's). */
  documentMask?: boolean;
  /** Parts that are kept for backward rather than made again (default none). */
  keep?: readonly RecomputedPart[];
};

/** The model's phases for batches of one size, and their kernel calls once they were made. */
interface Chain {
  sequences: number;
  /** By stage that is here. */
  phases: ReadonlyMap<ModelStage, Phase[]>;
  /** What counts for the balance loss before these, where it is taken over several micro-batches. */
  counting: ReadonlyMap<ModelStage, Phase[]> | null;
  recordings: Map<string, Recording[]> | null;
}

/** Trains a model step by step. */
export class TrainingStep {
  /** The optimizer and its moments. */
  readonly optimizer: AdamW;
  /** Intermediate memory of a micro-batch; empty between micro-batches. */
  readonly region: Region;
  /** Inputs, sums and the like, taken once. */
  readonly fixed: Region;
  private readonly tokens: StepTokens;
  private readonly losses: StepLosses;
  private readonly one: Tensor;
  /** What a balance loss over a batch of several micro-batches counts, by router. */
  private readonly counts: ReadonlyMap<Router, Tensor> | null;
  private readonly layout: Layout;
  private readonly shared: SharedUpdate;
  /** Stages of the whole model, and the passes through those that are here; null without a pipeline. */
  private readonly stages: readonly ModelStage[];
  private readonly pipeline: StagePipeline | null;
  private chain: Chain | null = null;
  /** Memory that a pipeline counted in, before anything else was in it. */
  private countingBytes = 0;

  /**
   * @param model - what is trained
   * @param settings - see {@link StepSettings}; the largest batch is `batch.sequences`
   * @param options - `region`: intermediate memory to share with evaluation
   */
  constructor(
    private readonly model: Decoder,
    private readonly settings: StepSettings,
    options: { region?: Region; layout?: Layout } = {},
  ) {
    const { kernels } = model;
    const { sequences, microBatch } = settings.batch;
    const depths = model.config.mtp.depth;
    const { layout = new Layout(oneRank) } = options;
    const share = ({ rank, size: ranks }: Communicator): Share => ({ rank, ranks });
    this.layout = layout;
    this.optimizer = new AdamW(kernels, model, {
      ...{ moments: settings.optimizer.moments, share: share(layout.holders) },
      sliceShare: share(layout.replicas),
      ...(layout.pp > 1 && { whole: wholeModel(model.config).parameters }),
    });
    this.stages = cutStages(model.config, layout.stages);
    this.pipeline =
      layout.pp > 1
        ? new StagePipeline(model, this.stages, layout, settings.batch, settings.keep ?? [])
        : null;
    this.region = options.region ?? new Region(kernels, 'micro-batch');
    this.fixed = new Region(kernels, 'step');
    this.tokens = new StepTokens(this.fixed, settings.batch, {
      depths,
      documentMask: settings.documentMask ?? false,
    });
    const overBatch = settings.balance?.lossOver === 'batch' && settings.balanceFactor > 0;
    this.counts = overBatch && sequences > microBatch ? batchCounts(model, this.fixed) : null;
    this.losses = new StepLosses(this.fixed, {
      ...{ microBatches: sequences / microBatch, microBatch, lengths: this.tokens.lengths },
      routers: model.allRouters.length,
    });
    this.one = emptyTensor(this.fixed, [1]);
    kernels.fill(this.one, 1);
    this.shared = new SharedUpdate(model, this.optimizer, layout, this.fixed);
  }

  /**
   * Hands the step its tokens.
   * @param batch - S ≤ `batch.sequences` sequences, a multiple of the micro-batch: those of all ranks
   * @param lambda - λ of multi-token prediction
   */
  load(batch: StepBatch, lambda: number): void {
    this.tokens.load(batch, lambda);
  }

  /**
   * Enqueues a whole step on the tokens loaded: all micro-batches, then the update of the weights. Not for pipelines, whose ranks
   * wait for each other: see {@link runPipeline}.
   * @param plan - see {@link StepPlan}
   */
  run(plan: StepPlan): void {
    drain(this.pieces(plan));
  }

  /**
   * Memory that a micro-batch takes at most in each stage of a pipeline, from a passage through it on its own.
   * @param stages - of the model, which has them all
   * @param deferring - gradients of weights come after those of all inputs
   * @returns bytes by stage
   */
  passageBytes(stages: readonly ModelStage[], deferring: boolean): number[] {
    const { model, layout, tokens, settings } = this;
    const options = this.optionsFor(settings.batch.sequences);
    return stages.map((stage) => {
      const pipeline = new StagePipeline(
        model,
        stages,
        layout,
        settings.batch,
        settings.keep ?? [],
      );
      const work: StageWork = {
        inputOf: () => tokens.of(0),
        phasesOf: () => model.stagePhases(stage, options),
        forward: (_, __, body) => body(),
        gone: () => undefined,
        one: this.one,
      };
      pipeline.pass(stage, work, deferring);
      return pipeline.peakBytes;
    });
  }

  /** Whether the model is cut into stages on several ranks. */
  get isPipeline(): boolean {
    return this.pipeline !== null;
  }

  /** Most intermediate memory of all micro-batches under way at once, in bytes; in a pipeline without that of evaluation. */
  get peakBytes(): number {
    return this.pipeline ? this.pipeline.peakBytes + this.countingBytes : this.region.peakBytes;
  }

  /**
   * A whole step of a pipeline: all micro-batches of this rank's stages as the schedule has them, then the update.
   * @param plan - see {@link StepPlan}
   * @param between - called before every phase
   * @returns milliseconds that this rank waited for others between and within its phases
   */
  async runPipeline(plan: StepPlan, between: () => void = () => undefined): Promise<number> {
    const { model, layout, losses, pipeline, tokens } = this;
    if (!pipeline) {
      this.run(plan);
      return 0;
    }
    const { kernels } = model;
    const { phases, counting } = this.chainFor(plan.sequences);
    const microBatches = plan.sequences / this.settings.batch.microBatch;
    const [first, end] = layout.range(microBatches);
    losses.begin();
    if (counting) {
      for (const counts of this.counts?.values() ?? []) kernels.fill(counts, 0);
      for (let m = first; m < end; m += 1)
        await runForward(model, this.stages, layout, {
          region: this.region,
          input: tokens.of(m),
          phasesOf: (stage) => counting.get(stage) ?? [],
        });
      this.addCounts();
      this.countingBytes ||= this.region.peakBytes;
    }
    const waited = await pipeline.run(end - first, {
      inputOf: (m) => tokens.of(first + m),
      phasesOf: (stage) => phases.get(stage) ?? [],
      one: this.one,
      forward: (m, phase, body) => {
        between();
        if (!routes(phase) && phase.name !== 'head') {
          body();
          return;
        }
        losses.start();
        const output = body();
        if ('losses' in output) losses.add(output.losses as Tensor);
        losses.keep(first + m);
      },
      gone: ({ index }, m) => {
        this.shared.take(index, m, microBatches);
      },
    });
    this.update(plan, microBatches);
    return waited;
  }

  /**
   * {@link run} piece by piece, each a phase's forward or backward, whose name it says when it is done: kernels block the
   * thread, and a caller may let signals through in between. After the last one comes the update.
   * @param plan - see {@link StepPlan}
   */
  *pieces(plan: StepPlan): Generator<string, void, void> {
    const { settings, layout, losses, shared } = this;
    const microBatches = plan.sequences / settings.batch.microBatch;
    const [first, end] = layout.range(microBatches);
    losses.begin();
    for (let m = first; m < end; m += 1) yield* this.countPieces(m, plan.sequences);
    if (this.chainFor(plan.sequences).counting) this.addCounts();
    for (let m = first; m < end; m += 1) {
      losses.start();
      yield* this.microBatchPieces(m, plan.sequences);
      losses.keep(m);
      shared.take(0, m - first, microBatches);
    }
    this.update(plan, microBatches);
  }

  /** What the micro-batches came to, on all ranks, and the update. */
  private update({ learningRate }: StepPlan, microBatches: number): void {
    const { settings, layout, losses, shared } = this;
    const total = losses.total(microBatches, layout.world);
    shared.update(total, { ...settings.optimizer, learningRate }, microBatches);
  }

  /** Adds what a balance loss over the batch counts over the ranks that have the routers. */
  private addCounts(): void {
    for (const counts of this.counts?.values() ?? [])
      addOver(this.model.kernels, counts, this.layout.holders);
  }

  /**
   * Counts one micro-batch for a balance loss over the batch. All are counted before the first goes forward and backward.
   * Does nothing where the loss is another, or the batch has one micro-batch.
   * @param index - which
   * @param sequences - S
   */
  countMicroBatch(index: number, sequences: number): void {
    drain(this.countPieces(index, sequences));
  }

  /**
   * Runs one micro-batch forward and backward.
   * @param index - which
   * @param sequences - S
   */
  microBatch(index: number, sequences: number): void {
    drain(this.microBatchPieces(index, sequences));
  }

  private *countPieces(index: number, sequences: number): Generator<string, void, void> {
    const { counting } = this.chainFor(sequences);
    if (!counting) return;
    const { kernels } = this.model;
    if (this.isFirst(index, sequences))
      for (const counts of this.counts?.values() ?? []) kernels.fill(counts, 0);
    const pieces = [...counting.values()]
      .flat()
      .map(
        (phase, p): Piece => [
          `${phase.name} counting`,
          (run) => run.forward(phase, p === 0 ? this.tokens.micro : undefined),
        ],
      );
    yield* this.pass('counting', index, sequences, pieces);
  }

  private *microBatchPieces(index: number, sequences: number): Generator<string, void, void> {
    const phases = [...this.chainFor(sequences).phases.values()].flat();
    const forward = phases.map(
      (phase, p): Piece => [
        `${phase.name} forward`,
        (run) => {
          const output = run.forward(phase, p === 0 ? this.tokens.micro : undefined);
          // The last phase's: held until the way back begins.
          if ('losses' in output) this.losses.add(output.losses as Tensor);
        },
      ],
    );
    const backward = [...phases]
      .reverse()
      .map(
        ({ name }, p): Piece => [
          `${name} backward`,
          (run) => run.backwardInput(p === 0 ? { losses: this.one } : undefined),
        ],
      );
    yield* this.pass('training', index, sequences, [...forward, ...backward]);
  }

  /** A micro-batch's pass of either kind. */
  private *pass(
    kind: 'counting' | 'training',
    index: number,
    sequences: number,
    pieces: readonly Piece[],
  ): Generator<string, void, void> {
    const { model, region } = this;
    const { kernels } = model;
    this.tokens.begin(index);
    const { recordings } = this.chainFor(sequences);
    // The first micro-batch also makes the forms of the new weights.
    const first = this.isFirst(index, sequences);
    const which = `${kind}, ${first ? 'first' : 'others'}`;
    // Whoever may have made these forms already, an evaluation say: a recording must make them itself.
    if (kernels.record && first && recordings?.has(which) === false)
      for (const [, parameter] of model.parameters()) parameter.version += 1;
    const { keep = [] } = this.settings;
    const grad = kind === 'training';
    yield* passPieces(pieces, { region, grad, keep, recordings, kind: which });
  }

  /** Whether a micro-batch is this rank's first of a step. */
  private isFirst(index: number, sequences: number): boolean {
    return index === this.layout.range(sequences / this.settings.batch.microBatch)[0];
  }

  /**
   * Adds the loads of all routers over all ranks: those here have the whole batch's afterwards.
   * @returns those of the main model's layers, whatever rank has them
   */
  private async addLoads(): Promise<number[][]> {
    const { model, layout } = this;
    const { layers, denseLayers, moe } = model.config;
    const routers = model.allRouters;
    const all = new Int32Array(routers.length * moe.routedExperts);
    const of = (place: number): Int32Array =>
      all.subarray(place * moe.routedExperts, (place + 1) * moe.routedExperts);
    for (const [place, router] of routers.entries())
      if (router) of(place).set(await router.load.read());
    if (layout.ranks > 1) layout.world.allReduce(all, all);
    for (const [place, router] of routers.entries())
      if (router && layout.ranks > 1) writeTensor(router.load, of(place));
    return Array.from({ length: Math.max(0, layers - denseLayers) }, (_, place) => [...of(place)]);
  }

  /** What phases take: α is shared among all sequences of the batch. */
  private optionsFor(sequences: number): ForwardOptions {
    const { balance } = this.losses;
    const counts = sequences > this.settings.batch.microBatch ? this.counts : null;
    return {
      balanceFactor: this.settings.balanceFactor / sequences,
      balanceOver: this.settings.balance?.lossOver ?? 'sequence',
      ...(balance && { balanceLoss: balance }),
      ...(counts && { balanceCounts: counts }),
    };
  }

  /** The chain for batches of this size. */
  private chainFor(sequences: number): Chain {
    if (this.chain?.sequences !== sequences) {
      const { model, stages, layout } = this;
      const options = this.optionsFor(sequences);
      const { balanceCounts: counts = null } = options;
      const own = layout.ownStages.map((index) => stages[index]);
      this.chain = {
        sequences,
        phases: new Map(own.map((stage) => [stage, model.stagePhases(stage, options)])),
        counting:
          counts && new Map(own.map((stage) => [stage, countingPhases(model, counts, stage)])),
        recordings: model.repeatable ? new Map() : null,
      };
    }
    return this.chain;
  }

  /**
   * Ends the step: reads what it came to and, if that is finite, moves the router biases.
   * @param biasSpeed - γ
   * @returns losses, norm and balance
   */
  async finish(biasSpeed: number): Promise<StepReport> {
    const { model, optimizer } = this;
    const { counted } = this.tokens;
    const sums = await this.losses.sums.read();
    const [gradNorm] = await optimizer.norm.read();
    const [finite] = await optimizer.finite.read();
    const loads = await this.addLoads();
    const lists = counted.length;
    const means = counted.map((count, depth) => sums[depth] / Math.max(1, count));
    for (const router of model.routers)
      if (finite === 1) router.updateBias(biasSpeed, this.settings.balance);
      else router.forgetLoads();
    return {
      finite: finite === 1,
      loss: means[0],
      mtpLoss: means.slice(1),
      balanceLoss: [...sums].slice(lists).reduce((sum, loss) => sum + loss, 0),
      gradNorm,
      maxViolation: mean(loads.map(maxViolation)),
      loads,
    };
  }
}

/** Runs all pieces. */
function drain(pieces: Generator<string, void, void>): void {
  while (!pieces.next().done);
}

/**
 * The mean of numbers.
 * @param values - any number of them
 * @returns their mean; 0 of none
 */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
