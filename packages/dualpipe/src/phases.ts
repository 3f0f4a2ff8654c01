// Inside a computation: its phases on two lanes, one that computes and one that communicates between experts' ranks.
//
// A layer goes forward in four phases: attention, dispatch, experts, combine; back through the same in reverse. Dispatch and
// combine are all-to-alls. Alone, one phase follows the other and one lane stands still. In an overlapped pair a layer of one
// micro-batch's forward goes beside a layer of another's backward, and each lane follows one list (§3.2.1, Figure 4; the order
// is that of the published profile), in which a phase begins when its lane is free and what it needs is done.

import type { FullCosts } from './costs';
import { checkFinite, checkWhole, scheduleError } from './errors';
import type { Compute, Part } from './schedule';

/** A phase of a layer. */
export type Phase = 'attention' | 'dispatch' | 'experts' | 'combine';

/** Times of a layer's phases; a stage has several such layers. */
export interface PhaseTimes {
  /** Layers of a stage. */
  layers: number;
  /** Forward. */
  forward: Readonly<Record<Phase, number>>;
  /** Gradients of inputs, with what is computed again for them. */
  inputGrad: Readonly<Record<Phase, number>>;
  /** Gradients of weights. */
  weightGrad: Readonly<Record<'attention' | 'experts', number>>;
  /** How the processors of a GPU are shared; left out, times hold as they are given. */
  processors?: Processors;
}

/**
 * Streaming multiprocessors (SMs) of a GPU. In a pair, communication has some of them for itself (§3.2.2: 20 of 132), and
 * compute takes longer on the others; alone, compute has all. Compute times go with 1 / SMs; those of communication do so up
 * to the number that fills the link, and stay as they are beyond it.
 */
export interface Processors {
  /** All. */
  total: number;
  /** Those that communicate during a pair. */
  communication: number;
  /** Those that the compute times were measured on (default all). */
  measuredOn?: number;
  /** Those that fill the link: the communication times were measured with as many (default `communication`). */
  filling?: number;
}

/** A phase in time. */
export interface PhaseSpan {
  /** Which lane it is on. */
  lane: 'compute' | 'communication';
  /** Which computation it belongs to. */
  part: Part;
  /** Which phase. */
  phase: Phase;
  /** Layer of the stage, in the order of its forward. */
  layer: number;
  /** Begin, from that of the computation. */
  start: number;
  /** End. */
  end: number;
}

/** A computation's phases in time. */
export interface PhaseTimeline {
  /** From the begin to the end of the last phase. */
  duration: number;
  /** Time in which the compute lane is busy. */
  compute: number;
  /** Time in which the communication lane is busy. */
  communication: number;
  /** Time in which both are: communication that is hidden. */
  hidden: number;
  /** All phases, by their begin. */
  spans: PhaseSpan[];
}

type Step = readonly [Part, Phase];

/** The order of a layer's phases. Those of a backward belong to the layer as far from the end as the forward's is from the begin. */
const orders: Readonly<Record<Compute['kind'], readonly Step[]>> = {
  forward: [
    ['forward', 'attention'],
    ['forward', 'dispatch'],
    ['forward', 'experts'],
    ['forward', 'combine'],
  ],
  inputGrad: [
    ['inputGrad', 'combine'],
    ['inputGrad', 'experts'],
    ['inputGrad', 'dispatch'],
    ['inputGrad', 'attention'],
  ],
  weightGrad: [
    ['weightGrad', 'experts'],
    ['weightGrad', 'attention'],
  ],
  fullBackward: [
    ['inputGrad', 'combine'],
    ['inputGrad', 'experts'],
    ['weightGrad', 'experts'],
    ['inputGrad', 'dispatch'],
    ['inputGrad', 'attention'],
    ['weightGrad', 'attention'],
  ],
  overlap: [
    ['inputGrad', 'combine'],
    ['forward', 'attention'],
    ['inputGrad', 'experts'],
    ['forward', 'dispatch'],
    ['inputGrad', 'dispatch'],
    ['weightGrad', 'experts'],
    ['forward', 'experts'],
    ['inputGrad', 'attention'],
    ['weightGrad', 'attention'],
    ['forward', 'combine'],
  ],
};

/**
 * The phases of a computation in time.
 * @param kind - of computation
 * @param times - of a layer's phases
 * @returns its timeline
 * @throws ERR_BALEEN_SCHEDULE_COSTS for a time that is negative or not finite, or processors that cannot be shared so
 *
 * @example
 * ```ts
 * import { phaseTimeline } from '@baleen/dualpipe';
 * const phases = { attention: 1, dispatch: 1, experts: 1, combine: 1 };
 * const times = { layers: 1, forward: phases, inputGrad: phases, weightGrad: { attention: 1, experts: 1 } };
 * console.log(phaseTimeline('forward', times).duration, phaseTimeline('fullBackward', times).duration); // => 4 6
 * const { duration, communication, hidden } = phaseTimeline('overlap', times);
 * console.log(duration, communication, hidden); // => 6 4 4
 * ```
 */
export function phaseTimeline(kind: Compute['kind'], times: PhaseTimes): PhaseTimeline {
  const scales = checkTimes(times);
  const scale = kind === 'overlap' ? scales.pair : scales.alone;
  const spans: PhaseSpan[] = [];
  const free = { compute: 0, communication: 0 };
  // When the last phase of each direction ended, and the one that a gradient of weights belongs to.
  const ended = { forward: 0, inputGrad: 0 };
  const gradientAt = { attention: 0, experts: 0 };
  for (let turn = 0; turn < times.layers; turn += 1)
    for (const [part, phase] of orders[kind]) {
      const lane = phase === 'dispatch' || phase === 'combine' ? 'communication' : 'compute';
      let ready = free[lane];
      if (kind !== 'overlap') ready = Math.max(free.compute, free.communication);
      else if (part !== 'weightGrad') ready = Math.max(ready, ended[part]);
      else if (phase === 'attention' || phase === 'experts')
        ready = Math.max(ready, gradientAt[phase]);
      const end = ready + scale[lane] * timeOf(times, part, phase);
      free[lane] = end;
      if (part !== 'weightGrad') ended[part] = end;
      if (part === 'inputGrad' && (phase === 'attention' || phase === 'experts'))
        gradientAt[phase] = end;
      const layer = part === 'forward' ? turn : times.layers - 1 - turn;
      spans.push({ lane, part, phase, layer, start: ready, end });
    }
  const own = (lane: PhaseSpan['lane']): PhaseSpan[] => spans.filter((span) => span.lane === lane);
  const busy = (list: PhaseSpan[]): number =>
    list.reduce((sum, { start, end }) => sum + end - start, 0);
  const [compute, communication] = [own('compute'), own('communication')];
  return {
    duration: Math.max(free.compute, free.communication),
    compute: busy(compute),
    communication: busy(communication),
    hidden: shared(compute, communication),
    spans: spans.sort((a, b) => a.start - b.start),
  };
}

/**
 * The costs of a stage whose layers have such phases.
 * @param times - of a layer's phases
 * @returns sums of a forward's and a backward's phases, and the duration of an overlapped pair
 * @throws ERR_BALEEN_SCHEDULE_COSTS like {@link phaseTimeline}
 */
export function costsOfPhases(times: PhaseTimes): FullCosts {
  const of = (kind: Compute['kind']): number => phaseTimeline(kind, times).duration;
  return {
    forward: of('forward'),
    inputGrad: of('inputGrad'),
    weightGrad: of('weightGrad'),
    overlap: of('overlap'),
  };
}

function timeOf(times: PhaseTimes, part: Part, phase: Phase): number {
  if (part !== 'weightGrad') return times[part][phase];
  return phase === 'attention' || phase === 'experts' ? times.weightGrad[phase] : 0;
}

/** Time in which something of both lists goes on; each list is in order and without overlaps. */
function shared(a: readonly PhaseSpan[], b: readonly PhaseSpan[]): number {
  let [sum, i, j] = [0, 0, 0];
  while (i < a.length && j < b.length) {
    sum += Math.max(0, Math.min(a[i].end, b[j].end) - Math.max(a[i].start, b[j].start));
    if (a[i].end < b[j].end) i += 1;
    else j += 1;
  }
  return sum;
}

interface Scale {
  compute: number;
  communication: number;
}

/** What times are multiplied by, alone and in a pair. */
function checkTimes(times: PhaseTimes): { alone: Scale; pair: Scale } {
  checkWhole({ layers: times.layers });
  for (const part of ['forward', 'inputGrad', 'weightGrad'] as const)
    checkFinite(
      'COSTS',
      Object.fromEntries(
        Object.entries(times[part]).map(([key, value]) => [`${part}.${key}`, value]),
      ),
    );
  const alone = { compute: 1, communication: 1 };
  if (!times.processors) return { alone, pair: alone };
  const { total, communication } = times.processors;
  const { measuredOn = total, filling = communication } = times.processors;
  checkFinite('COSTS', { 'processors.total': total, 'processors.communication': communication });
  for (const [name, value] of Object.entries({ communication, measuredOn, filling }))
    if (!(value > 0 && value <= total && (name !== 'communication' || value < total)))
      throw scheduleError(
        'COSTS',
        `processors.${name}`,
        `processors.${name} (${value}) is not a part of processors.total (${total})`,
        `take a number from 1, and leave some to compute`,
      );
  return {
    alone: { compute: measuredOn / total, communication: 1 },
    pair: {
      compute: measuredOn / (total - communication),
      communication: Math.max(1, filling / communication),
    },
  };
}
