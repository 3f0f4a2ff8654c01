// How a run is spread over ranks: which micro-batches a rank takes through which stages, and whom it shares what with.
//
// A *lane* is a copy of the model: one rank, or the ranks of a pipeline, each with some of its stages (§3.2.1). Every lane
// takes some of a step's micro-batches (data parallelism). Routed experts are spread over groups of neighbouring lanes
// (expert parallelism, §3.2.2), stage by stage. Ranks at one place of the pipeline are neighbours.
//
// Legend: N ranks, P of a pipeline, N / P lanes, E of a group with all experts; M micro-batches of a step.
import { type Communicator, self } from '@baleen/comm';
import {
  generateSchedule,
  type Method,
  methods,
  replicasOf,
  type Schedule,
} from '@baleen/dualpipe';

import { MessagePool } from './stage-messages';

/** The part of a configuration that says how a run is spread. */
export interface LayoutConfig {
  /** N: ranks that train together. */
  ranks: number;
  /** P: ranks of a pipeline, each with some stages of the model; divides `ranks`. */
  pp: number;
  /** Method of the pipeline's schedule. */
  schedule: Method;
  /** E: neighbouring ranks that hold all routed experts among them; divides `ranks` / `pp`. */
  ep: number;
  /** Add gradients of micro-batches in one order, whatever the layout is: the same bits on any number of ranks. */
  deterministic: boolean;
}

/** The layout of a rank alone. */
export const oneRank: LayoutConfig = {
  ...{ ranks: 1, pp: 1, schedule: 'dualpipe', ep: 1, deterministic: false },
};

/** A layout as reports show it. */
export interface LayoutReport {
  /** All ranks. */
  ranks: number;
  /** Ranks of a pipeline. */
  pp: number;
  /** Ranks that hold all routed experts among them. */
  ep: number;
  /** Groups of such ranks that have all stages. */
  dp: number;
  /** Method of the pipeline's schedule; absent without a pipeline. */
  schedule?: Method;
}

/** Micro-batches in a row: the first, and the one behind the last. */
export type Range = readonly [first: number, end: number];

/** One rank's place in a run. */
export class Layout {
  /** This rank. */
  readonly rank: number;
  /** N. */
  readonly ranks: number;
  /** P. */
  readonly pp: number;
  /** E. */
  readonly ep: number;
  /** See {@link LayoutConfig}. */
  readonly deterministic: boolean;
  /** Copies of the model: N / P. */
  readonly lanes: number;
  /** This rank's. */
  readonly lane: number;
  /** Its place in the pipeline. */
  readonly position: number;
  /** Stages of the model. */
  readonly stages: number;
  /** Where each lies when batches only go forward: a place in the pipeline. */
  readonly places: readonly number[];
  /** Those that this rank holds, ascending. */
  readonly ownStages: readonly number[];
  /**
   * Memory of what goes from stage to stage.
   * @internal
   */
  readonly messages: MessagePool = new MessagePool();
  /** The ranks of this lane, in the order of the pipeline. */
  readonly pipe: Communicator;
  /** The ranks that hold the same stages. */
  readonly holders: Communicator;
  /** The ranks that hold all experts of these stages among them. */
  readonly experts: Communicator;
  /** The ranks that hold the same experts. */
  readonly replicas: Communicator;
  private readonly method: Method;
  private readonly schedules = new Map<number, Schedule>();
  private readonly holderRanks: readonly number[];

  /**
   * Collective: every rank makes its own.
   * @param config - see {@link LayoutConfig}
   * @param world - all ranks (default: this one)
   * @throws `ERR_BALEEN_CONFIG_LAYOUT` where `config.ranks` is not the communicator's number
   */
  constructor(
    config: LayoutConfig,
    /** All ranks. */
    readonly world: Communicator = self(),
  ) {
    const { ranks, pp, schedule, ep, deterministic } = config;
    if (world.size !== ranks)
      throw Object.assign(
        new Error(
          `config.layout.ranks (${ranks}) is not the number of ranks started (${world.size})`,
        ),
        {
          code: 'ERR_BALEEN_CONFIG_LAYOUT',
          path: 'layout.ranks',
          hint: 'start as many ranks, or leave the number to the launcher',
        },
      );
    this.rank = world.rank;
    this.ranks = ranks;
    this.pp = pp;
    this.ep = ep;
    this.deterministic = deterministic;
    this.method = schedule;
    this.lanes = ranks / pp;
    this.lane = world.rank % this.lanes;
    this.position = Math.floor(world.rank / this.lanes);
    // Any number of micro-batches that the method takes has the stages in the same places.
    const placed = this.schedule(2 * pp);
    const holders = replicasOf(placed);
    this.stages = placed.stages;
    this.places = placed.pipelines[0].rankOfStage;
    this.ownStages = holders.flatMap((places, stage) =>
      places.includes(this.position) ? [stage] : [],
    );
    this.holderRanks = holders[this.ownStages[0]].flatMap((place) =>
      Array.from({ length: this.lanes }, (_, lane) => place * this.lanes + lane),
    );
    const groupOf = (color: number): Communicator =>
      ranks === 1 ? world : (world.split(color) ?? world);
    const same = this.ownStages[0];
    this.pipe = groupOf(this.lane);
    this.holders = groupOf(same);
    this.experts = groupOf(Math.floor(world.rank / ep));
    this.replicas = groupOf(same * ep + (world.rank % ep));
  }

  /** As reports show it. */
  get report(): LayoutReport {
    const { ranks, pp, ep, method: schedule } = this;
    return { ranks, pp, ep, dp: ranks / pp / ep, ...(pp > 1 && { schedule }) };
  }

  /** Whether this rank writes a part of a checkpoint's weights: one group of those that hold the same has them all. */
  get writesWeights(): boolean {
    return this.holders.rank < this.ep;
  }

  /**
   * The micro-batches of a lane.
   * @param microBatches - M
   * @param lane - which (default: this rank's)
   * @returns the first, and the one behind the last
   */
  range(microBatches: number, lane: number = this.lane): Range {
    const border = (index: number): number => Math.floor((index * microBatches) / this.lanes);
    return [border(lane), border(lane + 1)];
  }

  /**
   * The micro-batches that a rank takes through a stage.
   * @param stage - that it holds
   * @param microBatches - M
   * @param rank - which
   * @returns the first, and the one behind the last
   */
  rangeOf(stage: number, microBatches: number, rank: number): Range {
    const [first, end] = this.range(microBatches, rank % this.lanes);
    const place = Math.floor(rank / this.lanes);
    // A method's pipelines have neighbouring micro-batches, ascending.
    const own = this.schedule(end - first)
      .pipelines.filter(({ rankOfStage }) => rankOfStage[stage] === place)
      .flatMap((pipeline) => pipeline.microBatches);
    return own.length === 0 ? [first, first] : [first + own[0], first + own[own.length - 1] + 1];
  }

  /**
   * The ranks whose micro-batches reach the gradients of the members of {@link holders}, or of {@link replicas}.
   * @param spread - of experts that are spread over ranks
   * @returns ranks by member; of experts, the ranks that share them
   */
  sources(spread: boolean): number[][] {
    if (!spread) return this.holderRanks.map((rank) => [rank]);
    return this.holderRanks
      .filter((rank) => rank % this.ep === this.rank % this.ep)
      .map((rank) => Array.from({ length: this.ep }, (_, e) => rank - (rank % this.ep) + e));
  }

  /**
   * The pipeline's schedule.
   * @param microBatches - of this lane
   * @returns for the ranks of {@link pipe}
   * @throws `ERR_BALEEN_SCHEDULE_SIZES` where the method does not take that many
   */
  schedule(microBatches: number): Schedule {
    let made = this.schedules.get(microBatches);
    if (!made) {
      made = generateSchedule(this.pp === 1 ? 'gpipe' : this.method, {
        ranks: this.pp,
        microBatches,
      });
      this.schedules.set(microBatches, made);
    }
    return made;
  }
}

/**
 * Stages of a model under a layout.
 * @param config - see {@link LayoutConfig}
 * @returns how many
 */
export function stageCount({ pp, schedule }: Pick<LayoutConfig, 'pp' | 'schedule'>): number {
  if (pp === 1) return 1;
  const { stagesPerRank, copies } = methods[schedule];
  return (pp * stagesPerRank) / copies;
}

/**
 * Refuses a layout of several ranks where one alone runs.
 * @param layout - the run's
 * @param what - runs on one rank
 */
export function checkOneRank({ ranks }: LayoutConfig, what: string): void {
  if (ranks === 1) return;
  throw Object.assign(new Error(`config.layout.ranks is ${ranks}, but ${what} runs on one rank`), {
    code: 'ERR_BALEEN_CONFIG_LAYOUT',
    path: 'layout.ranks',
    hint: 'leave config.layout at one rank here',
  });
}
