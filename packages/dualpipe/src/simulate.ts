// Runs a schedule in time: what every rank does when, how long it stands still, what it holds.
import { type Costs, durationOf, type FullCosts, fullCosts } from './costs';
import { run, type Semantics } from './engine';
import { checkFinite, scheduleError } from './errors';
import type { HeldBytes } from './memory';
import { costsOfPhases, type PhaseTimeline, type PhaseTimes, phaseTimeline } from './phases';
import { type Compute, isMessage, type Schedule } from './schedule';
import { type ComputeSpan, sum, type Timeline, timelineOf } from './timeline';

/** Links between the ranks of a pipeline: a message occupies the sender's for bytes / bandwidth and arrives a latency later. */
export interface Link {
  /** Bytes of a message: one micro-batch's hidden states, say. */
  bytes: number;
  /** Bytes per unit of time that a rank can send. */
  bandwidth: number;
  /** Time until the first byte arrives. */
  latency: number;
}

/** How to simulate. */
export interface SimulationOptions {
  /** Times of a stage, as four numbers or phase by phase. */
  times: Costs | PhaseTimes;
  /** Links (default: messages take no time). */
  link?: Link;
  /** How messages hold ranks up (default `buffered`). */
  semantics?: Semantics;
  /** For bytes over time, in `memory` of each rank (default: only activations and waiting gradients are counted). */
  held?: HeldBytes;
}

/** A simulated schedule. */
export interface Simulation extends Timeline {
  /** Times of a stage. */
  costs: FullCosts;
  /** Phases of each kind of computation, from its begin; null where times are not given by phase. */
  phases: Readonly<Record<Compute['kind'], PhaseTimeline>> | null;
  /** Of each rank, time within computations in which the compute lane waits for communication; 0 without phases. */
  exposed: number[];
  /** Of each rank, the most bytes it holds; 0 without `held`. */
  peakBytes: number[];
}

/**
 * Simulates a schedule.
 *
 * Every stage takes the same times. Messages have a lane of their own: under `buffered` a rank computes while it sends, and
 * waits only for messages it needs; under `rendezvous` it also waits for the other ends of its batch.
 * @param schedule - a valid one
 * @param options - see {@link SimulationOptions}
 * @returns what happens when
 * @throws ERR_BALEEN_SCHEDULE_DEADLOCK where it does not end, which {@link validateSchedule} explains;
 *   ERR_BALEEN_SCHEDULE_COSTS and _LINK for values that cannot be
 *
 * @example
 * ```ts
 * import { generateSchedule, simulate } from '@baleen/dualpipe';
 * const schedule = generateSchedule('dualpipe', { ranks: 8, microBatches: 20 });
 * const { total, ranks } = simulate(schedule, { times: { forward: 1, inputGrad: 1, weightGrad: 1 } });
 * console.log(total, ranks[0].idle, ranks[0].peakInFlight); // => 66 6 9
 * ```
 */
export function simulate(schedule: Schedule, options: SimulationOptions): Simulation {
  const { times, link, semantics = 'buffered', held } = options;
  const costs = 'layers' in times ? costsOfPhases(times) : fullCosts(times);
  if (link) checkLink(link);
  for (const [name, value] of Object.entries(held ?? {}))
    if (typeof value === 'number') checkFinite('HELD', { [`held.${name}`]: value });
  const occupied = link && link.bytes > 0 ? link.bytes / link.bandwidth : 0;
  const done = run(schedule, {
    duration: (action) => durationOf(action, costs),
    link: { occupied, latency: link?.latency ?? 0 },
    semantics,
  });
  schedule.actions.forEach((list, rank) => {
    if (done.reached[rank] < list.length)
      throw scheduleError(
        'DEADLOCK',
        `actions[${rank}][${done.reached[rank]}]`,
        `rank ${rank} waits for ever at actions[${rank}][${done.reached[rank]}] under ${semantics}`,
        'validateSchedule says what it waits for',
      );
  });
  const phases = 'layers' in times ? timelines(times) : null;
  const spans = schedule.actions.map((list, rank) =>
    list.flatMap((action, position): ComputeSpan[] =>
      isMessage(action)
        ? []
        : [{ action, position, start: done.start[rank][position], end: done.end[rank][position] }],
    ),
  );
  const timeline = timelineOf(schedule, spans, done.transfers, held);
  return {
    ...timeline,
    costs,
    phases,
    exposed: spans.map((list) => sum(list, ({ action: { kind } }) => exposedIn(phases?.[kind]))),
    peakBytes: timeline.ranks.map(({ memory }) =>
      Math.max(0, ...memory.map(({ bytes = 0 }) => bytes)),
    ),
  };
}

function exposedIn(phases: PhaseTimeline | undefined): number {
  return phases ? phases.communication - phases.hidden : 0;
}

function timelines(times: PhaseTimes): Record<Compute['kind'], PhaseTimeline> {
  return {
    forward: phaseTimeline('forward', times),
    inputGrad: phaseTimeline('inputGrad', times),
    weightGrad: phaseTimeline('weightGrad', times),
    fullBackward: phaseTimeline('fullBackward', times),
    overlap: phaseTimeline('overlap', times),
  };
}

function checkLink({ bytes, bandwidth, latency }: Link): void {
  checkFinite('LINK', { 'link.bytes': bytes, 'link.latency': latency });
  if (!(bandwidth > 0))
    throw scheduleError(
      'LINK',
      'link.bandwidth',
      `link.bandwidth (${bandwidth}) is not above 0`,
      'give bytes per unit of time; Infinity for none that counts',
    );
}
