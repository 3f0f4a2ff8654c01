// The lab `dualpipe-overlap`: how much of the all-to-alls an overlapped pair hides (§3.2.1, Figure 4), from the times of the
// published profile (github.com/deepseek-ai/profile-data, train.json), whose pair takes 129.0 ms: in it compute is busy for
// 124.3 ms, communication for 114.5 ms, both for 110.3 ms, which is 96 % of the communication.
//
// What enters: the busy time of each phase of a layer (`publishedProfile` of @baleen/dualpipe: kernels were put down to phases by
// the calls that launched them), the order of phases inside a layer, and that a stage has 4 layers. What does not enter: when anything began, gaps, the length of the pair. The simulator
// puts the phases on two lanes, each phase as early as its lane and what it needs allow, so what comes out is the least time
// that the order permits.
//
// The second stream. Gradients of the experts' weights run for 3.54 ms a layer on the first stream, and for 2.84 ms on a
// second one beside whatever else computes. One GPU computes both, so neither all of the 2.84 ms nor none of it is added.
// Three ways are measured; the verdict is about the first:
// - *where nothing else computes*: all compute of the profile's pair, 124.3 ms, less its first stream, 4 · 29.54 ms, leaves
//   1.535 ms a layer, which is put behind the 3.54 ms. This takes the profile's busy time of compute as given; the length of
//   the pair and what is hidden still have to come out.
// - *in full on the compute lane*: 2.84 ms. Too much: kernels that run beside each other both take longer.
// - *on a lane of its own*: 0 ms here. Too little: it takes nothing from the first stream.
//
// The inequality: the pair's time within 5 % of 129.0 ms, and the hidden share within 2 points of 96 %. The effect is the
// larger of the two distances, each over its tolerance, and has to be below 1.
//
// What was known before this was run: the timeline is short enough to be followed by hand, which gave about 126, 131 and
// 122.5 ms, and hidden shares of about 99, 99 and 96 %. So the verdict's hidden share was expected to miss by some tenths of a
// point: the simulator has no gaps between kernels, and the profile has. The tolerance was given before and stays.
import {
  costsOfPhases,
  generateSchedule,
  type Method,
  type PhaseTimes,
  phaseTimeline,
  publishedProfile,
  simulate,
} from '@baleen/dualpipe';

import type { Lab } from './lab';
import { labFigure } from './verdict';

/** A way to treat the second stream. */
export type SecondStream =
  | 'where nothing else computes'
  | 'in full on the compute lane'
  | 'on a lane of its own';

/** Settings. */
export type OverlapSettings = Readonly<{
  /** The profile's pair, in milliseconds. */
  profile: Readonly<{ pair: number; compute: number; communication: number; both: number }>;
  /** Milliseconds of each phase of a layer in the profile; gradients of weights are those of the first stream. */
  phases: PhaseTimes;
  /** Milliseconds a layer that the second stream adds to the gradients of the experts' weights. */
  secondStream: Readonly<Record<SecondStream, number>>;
  /** The way that the verdict is about. */
  verdict: SecondStream;
  /** Tolerances: of the pair's time, and of the hidden share. */
  tolerance: Readonly<{ pair: number; hidden: number }>;
  /** Schedules that are put beside each other at the verdict's times. */
  beside: Readonly<{ ranks: number; microBatches: number; methods: readonly Method[] }>;
}>;

const settings: OverlapSettings = {
  profile: { pair: 129, compute: 124.3, communication: 114.5, both: 110.3 },
  phases: { ...publishedProfile, weightGrad: { ...publishedProfile.weightGrad, experts: 3.54 } },
  secondStream: {
    'where nothing else computes': 1.535,
    'in full on the compute lane': 2.84,
    'on a lane of its own': 0,
  },
  verdict: 'where nothing else computes',
  tolerance: { pair: 0.05, hidden: 0.02 },
  beside: { ranks: 16, microBatches: 64, methods: ['1f1b', 'zb1p', 'dualpipe'] },
};

/** The communication that a pair hides. */
export const dualpipeOverlap: Lab<OverlapSettings> = {
  name: 'dualpipe-overlap',
  claim: 'the order of phases in an overlapped pair hides 96 % of its all-to-alls, in 129 ms',
  source: 'arXiv 2412.19437, §3.2.1; github.com/deepseek-ai/profile-data',
  published: settings.profile.both / settings.profile.communication,
  quantity: { name: 'communication hidden in a pair', unit: 'percent' },
  effect: {
    name: 'larger distance of pair time and hidden share, over its tolerance',
    unit: 'number',
  },
  inequality: { below: 1 },
  settings: {
    quick: settings,
    full: { ...settings, beside: { ...settings.beside, microBatches: 240 } },
  },
  estimate: () => Promise.resolve(2),
  run(own, { row, progress }) {
    const ways = Object.keys(own.secondStream) as SecondStream[];
    const measured = ways.map((way) => ({ way, ...pairOf(own, way) }));
    for (const { way, pair, compute, communication, hidden, effect } of measured)
      row({
        'second stream': way,
        'pair, ms': pair,
        'of 129': labFigure(pair / own.profile.pair - 1, 'percent'),
        'compute, ms': compute,
        'communication, ms': communication,
        'hidden, %': 100 * hidden,
        effect,
      });
    progress(0.5, 'schedules');
    const judged = pairOf(own, own.verdict);
    return Promise.resolve({
      effect: { exact: judged.effect, n: 1 },
      measured: judged.hidden,
      notes: [
        inputs(own),
        ...ways.map((way) => `${way}, +${own.secondStream[way]} ms a layer: ${treatments[way]}`),
        direction(own, judged),
        residual(own, judged),
        ...schedulesBeside(own),
      ],
    });
  },
};

/** A pair at the times of a treatment of the second stream. */
export interface MeasuredPair {
  /** Its time. */
  pair: number;
  /** Busy times of the lanes. */
  compute: number;
  /** Of communication. */
  communication: number;
  /** Share of communication beside which something computes. */
  hidden: number;
  /** The larger distance from the profile, over its tolerance. */
  effect: number;
}

/**
 * Simulates a pair.
 * @param own - the lab's settings
 * @param way - how the second stream is treated
 * @returns what comes out
 */
export function pairOf(own: OverlapSettings, way: SecondStream): MeasuredPair {
  const { profile, tolerance } = own;
  const { duration, compute, communication, hidden } = phaseTimeline('overlap', timesOf(own, way));
  const share = hidden / communication;
  const apart = {
    pair: Math.abs(duration / profile.pair - 1) / tolerance.pair,
    hidden: Math.abs(share - profile.both / profile.communication) / tolerance.hidden,
  };
  const effect = Math.max(apart.pair, apart.hidden);
  return { pair: duration, compute, communication, hidden: share, effect };
}

function timesOf({ phases, secondStream }: OverlapSettings, way: SecondStream): PhaseTimes {
  const { weightGrad } = phases;
  const experts = weightGrad.experts + secondStream[way];
  return { ...phases, weightGrad: { ...weightGrad, experts } };
}

/** What was put in, and so is not found: the busy time of compute. */
function inputs(own: OverlapSettings): string {
  const { layers, weightGrad } = own.phases;
  const { compute } = pairOf(own, own.verdict);
  return (
    `put in: busy times of the ${layers} layers' phases and their order, from the profile. So the pair's compute time, ${compute.toFixed(1)} ms ` +
    `in the verdict's way, is an input and no result; results are the length of the pair and what is hidden. ` +
    `Gradients of experts' weights take ${weightGrad.experts} ms a layer on the profile's first stream, and more on a second one, which is treated in three ways:`
  );
}

const treatments: Readonly<Record<SecondStream, string>> = {
  'where nothing else computes':
    "the profile's busy time of compute, less that of its first stream, comes behind them",
  'in full on the compute lane':
    'all that the second stream takes comes behind them: too much, kernels beside each other both take longer',
  'on a lane of its own': 'nothing is added: too little, it takes nothing from the first stream',
};

/** Which way the simulation is off: the verdict says only how far. */
function direction({ profile }: OverlapSettings, { pair, hidden }: MeasuredPair): string {
  const published = profile.both / profile.communication;
  return (
    `the order alone hides ${hidden > published ? 'more' : 'less'} than the profile: ${labFigure(hidden, 'percent')} beside ${labFigure(published, 'percent')}, ` +
    `in a pair of ${pair.toFixed(1)} ms beside ${profile.pair.toFixed(1)}`
  );
}

/** What the simulator does not explain, and what becomes of the hidden share if it is put down to gaps between kernels. */
function residual(
  { profile }: OverlapSettings,
  { pair, compute, communication, hidden }: MeasuredPair,
): string {
  const [waits, idle] = [pair - compute, profile.pair - profile.compute];
  const gaps = idle - waits;
  const share = profile.communication / profile.pair;
  const explained = hidden - (gaps * share) / communication;
  const ms = (value: number): string => `${value.toFixed(2)} ms`;
  return (
    `compute stands still for ${ms(idle)} in the profile and ${ms(waits)} here; the other ${ms(gaps)} are gaps that no order asks for. ` +
    `Spread evenly, ${labFigure(share, 'percent')} of them fall beside communication, which would leave ${labFigure(explained, 'percent')} of it hidden`
  );
}

/** Whole schedules at the same times. */
function schedulesBeside(own: OverlapSettings): string[] {
  const times = timesOf(own, own.verdict);
  const { ranks, microBatches, methods } = own.beside;
  const { forward, inputGrad, weightGrad, overlap } = costsOfPhases(times);
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  // Outside of pairs nothing else wants the processors that communicate in them (20 of 132 SMs, §3.2.2).
  const all = { ...times, processors: { total: 132, communication: 20, measuredOn: 112 } };
  return [
    `times of a stage: F ${ms(forward)}, Bᵢ ${ms(inputGrad)}, W ${ms(weightGrad)}, F&B ${ms(overlap)}; compute as beside communication, on 112 of 132 SMs, everywhere (in brackets: on all 132 outside of pairs)`,
    ...methods.map((method) => {
      const schedule = generateSchedule(method, { ranks, microBatches });
      const kinder = simulate(schedule, { times: all }).total;
      const { total, bubbleShare, exposed } = simulate(schedule, { times });
      const waits = exposed.reduce((sum, each) => sum + each, 0) / exposed.length / total;
      return (
        `${method}, ${ranks} ranks, ${microBatches} micro-batches: ${(total / 1000).toFixed(2)} s (${(kinder / 1000).toFixed(2)} s), bubble ${labFigure(bubbleShare, 'percent')}, ` +
        `compute waits for all-to-alls ${labFigure(waits, 'percent')}`
      );
    }),
  ];
}
