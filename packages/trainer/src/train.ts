// Training: an async generator that runs a session's steps and says what happens, event by event.
import { countParameters } from '@baleen/model';

import { median } from './bench-step';
import type { TrainConfig } from './config';
import { ngramBaselines, someWindows, type TokenBatch } from './data/index';
import { type Evaluation, runWindows, stoppedCode } from './evaluate';
import type {
  Baseline,
  CheckpointEvent,
  EvaluationEvent,
  KernelsUsed,
  SlowEvent,
  StartEvent,
  StepEvent,
  StoppedEvent,
  TrainEvent,
  TrainResult,
} from './events';
import { agreeToStop } from './ranks/agree';
import { checkFaults, Drill } from './ranks/faults';
import { explainLost } from './ranks/lost';
import { gatherFigures, Pace } from './ranks/pace';
import { MetricsWriter } from './run-folder';
import { prepare, type Session, saveSession, type TrainOptions } from './session';
import { mean, type StepReport } from './step';
import { startsRanks, trainOnRanks } from './train-ranks';

const baselineOrders = [1, 2, 3, 4, 5];
/** Milliseconds that ranks wait for what the first does alone. */
const patienceMs = 3_600_000;
/** Steps behind `trainLoss` and `secondsLeft`. */
const recentSteps = 20;

/**
 * Trains. On several ranks these are threads of this process, unless a communicator says otherwise. Every event is also a line of the run's metrics.jsonl.
 * @param config - the run; to go on with a run, the configuration that `findRun` gives, changed or not
 * @param options - see {@link TrainOptions}
 * @returns events; the generator's return value is the result
 * @throws `ERR_BALEEN_USAGE_RUN_LOCKED` where another process trains in the folder;
 * `ERR_BALEEN_TRAIN_NOT_FINITE` when a loss or gradient is not finite: the step's update did not happen, and the
 * state before it is saved. `ERR_BALEEN_CONFIG_…`, `_DATA_…`, `_CHECKPOINT_…`, `_IO_…` as their parts say.
 */
export async function* train(
  config: TrainConfig,
  options: TrainOptions = {},
): AsyncGenerator<TrainEvent, TrainResult, void> {
  const begin = performance.now();
  checkFaults(options.inject ?? [], config.layout.ranks, config.steps);
  if (startsRanks(config, options)) return yield* trainOnRanks(config, options);
  const session = await prepare(config, options);
  try {
    return yield* trainSession(session, options, begin);
  } catch (error) {
    // Whoever started the ranks knows better whether the run goes on.
    throw options.locked
      ? error
      : explainLost(error, { run: session.run, restarts: 0, maxRestarts: null });
  } finally {
    session.unlock();
  }
}

/**
 * Trains a run that was prepared, for whoever needs its model afterwards.
 * @param session - the run
 * @param options - those it was prepared with
 * @param begin - when that began, for reports
 */
export async function* trainSession(
  session: Session,
  options: TrainOptions,
  begin: number,
): AsyncGenerator<TrainEvent, TrainResult, void> {
  const { run, config, layout } = session;
  const { world } = layout;
  const leads = layout.rank === 0;
  const { train: text, heldOut } = session.bytes;
  const baselines = leads ? ngramBaselines(text, heldOut, baselineOrders) : [];
  // The first rank may count for long.
  world.barrier({ deadlineMs: patienceMs });
  const start = startOf(session, baselines);
  session.bytes = { train: [], heldOut: [] };
  const metrics = run === null || !leads ? null : new MetricsWriter(run);
  const told = <E extends TrainEvent>(event: E): E => {
    metrics?.append(event);
    return event;
  };
  const trainer = new Trainer(session, options);
  try {
    yield told(start);
    for (;;) {
      if (agreeToStop(world, options.signal)) return yield* stop();
      if (session.done === config.steps) break;
      const cursor = session.packer.state();
      const report = await trainer.next();
      if (!report.finite) {
        trainer.undo();
        // Kept beside the others: it may be the one before it that is worth going back to.
        const event = session.done === 0 ? null : trainer.save(config.checkpoint.keep + 1, cursor);
        if (event) yield told(event);
        throw notFinite(session, report);
      }
      yield told(trainer.stepEvent(report));
      const slow = trainer.slow();
      if (slow) yield told(slow);
      const { every } = config.evaluation;
      const last = session.done === config.steps;
      if (every > 0 && session.done % every === 0 && !last) {
        const event = await trainer.evaluation(config.evaluation.tokens);
        if (event) yield told(event);
      }
      if (last || (config.checkpoint.every > 0 && session.done % config.checkpoint.every === 0)) {
        const event = trainer.save();
        if (event) yield told(event);
      }
      // Kernels block this thread: let signals and timers through.
      await new Promise(setImmediate);
    }
    const event = await trainer.evaluation(0);
    if (!event) return yield* stop();
    yield told(event);
    const result = trainer.result(start, begin);
    yield told({ type: 'end', result });
    return result;
  } finally {
    metrics?.close();
  }

  function* stop(): Generator<TrainEvent, TrainResult, void> {
    const event = trainer.save();
    if (event) yield told(event);
    const stopped: StoppedEvent = {
      type: 'stopped',
      step: session.done,
      path: session.saved?.path ?? null,
      reason: 'signal',
    };
    yield told(stopped);
    return trainer.result(start, begin);
  }
}

/** The moving parts of a run. */
class Trainer {
  private readonly times: number[] = [];
  private readonly losses: number[] = [];
  private tokensTimed = 0;
  private score: Evaluation | null = null;
  private lastSeconds = 0;
  private lastComputed: number[] = [];
  private readonly computed: number[] = [];
  /** Of the rank that has taken most so far. */
  private peakBytes = 0;
  private readonly pace = new Pace();
  private readonly drill: Drill;
  private batch: TokenBatch | undefined;

  constructor(
    private readonly session: Session,
    private readonly options: TrainOptions,
  ) {
    this.drill = new Drill(options.inject ?? [], session.layout.rank);
  }

  /** Runs the next step. */
  async next(): Promise<StepReport> {
    const { session } = this;
    const { plan, packer, step, config } = session;
    const { world } = session.layout;
    const [begin, spent, number] = [performance.now(), world.spentMs, session.done + 1];
    const settings = plan.at(session.done);
    // Into the same arrays every time: the collector would let many batches wait before it took one.
    this.batch = packer.next(settings.sequences, config.batch.sequence, this.batch);
    step.load(this.batch, settings.mtpWeight);
    let waited = 0;
    if (step.isPipeline)
      waited = await step.runPipeline(settings, () => {
        this.drill.within(number);
      });
    else {
      let paused = begin;
      const pieces = step.pieces(settings);
      while (!pieces.next().done) {
        this.drill.within(number);
        // Kernels block this thread: let signals through, also in the middle of a long step.
        if (performance.now() - paused < 100) continue;
        await new Promise(setImmediate);
        paused = performance.now();
      }
    }
    const report = await step.finish(settings.biasSpeed);
    const computed = (): number =>
      (performance.now() - begin - waited - (world.spentMs - spent)) / 1000;
    this.drill.after(number, computed());
    this.lastComputed = gatherFigures(world, computed());
    this.peakBytes = Math.max(...gatherFigures(world, step.peakBytes));
    this.lastSeconds = (performance.now() - begin) / 1000;
    session.done += 1;
    session.tokens += settings.sequences * config.batch.sequence;
    return report;
  }

  /** Takes back the counts of a step whose update did not happen. */
  undo(): void {
    const { session } = this;
    session.done -= 1;
    session.tokens -= session.plan.at(session.done).sequences * session.config.batch.sequence;
    session.step.optimizer.step -= 1;
  }

  /** What the step that just ran says. */
  stepEvent(report: StepReport): StepEvent {
    const { session, lastSeconds: seconds } = this;
    const { plan, done, config } = session;
    const { sequences, learningRate, biasSpeed } = plan.at(done - 1);
    const tokens = sequences * config.batch.sequence;
    this.times.push(seconds);
    this.tokensTimed += tokens;
    this.losses.push(report.loss);
    if (this.losses.length > recentSteps) this.losses.shift();
    this.lastComputed.forEach((own, rank) => {
      this.computed[rank] = (this.computed[rank] ?? 0) + own;
    });
    const recent = mean(this.times.slice(-recentSteps));
    const tokensLeft = plan.totalTokens - plan.tokensBefore(done);
    return {
      type: 'step',
      step: done,
      tokens: session.tokens,
      loss: report.loss,
      mtpLoss: report.mtpLoss,
      balanceLoss: report.balanceLoss,
      gradNorm: report.gradNorm,
      learningRate,
      biasSpeed,
      maxViolation: report.maxViolation,
      loads: report.loads,
      seconds,
      computed: this.lastComputed,
      tokensPerSecond: tokens / seconds,
      secondsLeft: (recent * tokensLeft) / tokens,
    };
  }

  /** A rank that the others wait for, where it was not named before. */
  slow(): SlowEvent | null {
    const { plan, layout, config, done } = this.session;
    // Stages differ in how much there is to do.
    if (layout.pp > 1) return null;
    const microBatches = plan.at(done - 1).sequences / config.batch.microBatch;
    const ofRanks = this.lastComputed.map((_, rank) => {
      const [first, end] = layout.range(microBatches, rank);
      return end - first;
    });
    return this.pace.add(done, this.lastComputed, ofRanks);
  }

  /** Scores the held-out text, or returns null when the signal came in between. */
  async evaluation(tokens: number): Promise<EvaluationEvent | null> {
    const { model, tokenizer, windows, config, step, done } = this.session;
    const { signal, onEvaluation } = this.options;
    const begin = performance.now();
    try {
      this.score = await runWindows(model, tokenizer, someWindows(windows, tokens), {
        sequences: config.batch.microBatch,
        region: step.region,
        layout: this.session.layout,
        ...(signal ? { signal } : {}),
        ...(onEvaluation ? { onProgress: onEvaluation } : {}),
      });
    } catch (error) {
      this.score = null;
      if (signal?.aborted || (error as { code?: unknown }).code === stoppedCode) return null;
      throw error;
    }
    const { loss, bitsPerByte, accuracy, mtp, maxViolation, loads } = this.score;
    return {
      type: 'evaluation',
      step: done,
      loss,
      bitsPerByte,
      accuracy,
      mtp,
      tokens: this.score.tokens,
      seconds: (performance.now() - begin) / 1000,
      maxViolation,
      loads,
    };
  }

  /** Saves the session, unless it has no folder or is saved already. */
  save(
    keep: number = this.session.config.checkpoint.keep,
    cursor = this.session.packer.state(),
  ): CheckpointEvent | null {
    const { session } = this;
    if (session.run === null || session.saved?.step === session.done) return null;
    const begin = performance.now();
    const { path, bytes } = saveSession(session, session.run, keep, cursor);
    const seconds = (performance.now() - begin) / 1000;
    return { type: 'checkpoint', step: session.done, path, bytes, seconds };
  }

  /** What it all came to. */
  result(start: StartEvent, begin: number): TrainResult {
    const { session, score, times } = this;
    const spent = times.reduce((sum, seconds) => sum + seconds, 0);
    const finished = session.done === session.config.steps;
    return {
      run: session.run,
      preset: session.preset,
      precision: session.config.precision,
      params: start.params,
      activeParams: start.activeParams,
      steps: session.done,
      tokens: session.tokens,
      epochs: session.packer.epoch,
      trainLoss: this.losses.length === 0 ? null : mean(this.losses),
      valLoss: finished && score ? score.loss : null,
      valBitsPerByte: finished && score ? score.bitsPerByte : null,
      baselines: start.baselines,
      tokensPerSecond: spent === 0 ? 0 : this.tokensTimed / spent,
      medianStepSeconds: median(times.length > 2 ? times.slice(2) : times),
      peakRegionBytes: Math.max(this.peakBytes, session.step.peakBytes),
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      maxViolation: finished && score ? score.maxViolation : null,
      layout: session.layout.report,
      restarts: this.options.restarts ?? 0,
      computed: this.computed.map((seconds) => seconds / spent),
      kernels: start.kernels,
      seconds: (performance.now() - begin) / 1000,
    };
  }
}

function startOf(session: Session, baselines: Baseline[]): StartEvent {
  const { config, model, bytes } = session;
  const { implementation, isa, threads } = model.kernels;
  const kernels: KernelsUsed = { implementation, isa, threads };
  const counts = countParameters(model.config);
  const size = (texts: readonly Uint8Array[]): number =>
    texts.reduce((sum, { length }) => sum + length, 0);
  return {
    type: 'start',
    run: session.run,
    preset: session.preset,
    precision: config.precision,
    params: counts.trained,
    activeParams: counts.active,
    steps: config.steps,
    tokensPerStep: config.batch.sequences * config.batch.sequence,
    trainBytes: size(bytes.train),
    heldOutBytes: size(bytes.heldOut),
    trainTokens: session.packer.tokensPerEpoch,
    vocabSize: session.tokenizer.vocabSize,
    kernels,
    layout: session.layout.report,
    resumedFrom: session.resumedFrom,
    baselines,
    time: new Date().toISOString(),
  };
}

function notFinite(session: Session, report: StepReport): Error {
  const { saved, done } = session;
  const remedy = 'with a lower schedule.learningRate.peak, or precision bf16';
  return Object.assign(
    new Error(
      `step ${done + 1}: loss ${report.loss} with gradient norm ${report.gradNorm} is not finite; nothing was updated`,
    ),
    {
      code: 'ERR_BALEEN_TRAIN_NOT_FINITE',
      step: done + 1,
      ...(saved ? { path: saved.path } : {}),
      hint: saved
        ? `resume from ${saved.path} (step ${saved.step}) ${remedy}`
        : `train again ${remedy}`,
    },
  );
}
