// Methods cut the same model into more or fewer stages. So that they can be compared, what is known of a rank's share of the
// model, 1 / ranks of it, is made into what holds for a stage of a schedule.
import type { Costs } from './costs';
import { scheduleError } from './errors';
import type { PhaseTimes } from './phases';
import type { Schedule } from './schedule';

/**
 * Times of a stage, from those of a rank's share of the model: a stage takes ranks / stages of them. Phases stay as they are,
 * and the share's `layers` are spread over its stages.
 * @param times - of a rank's share
 * @param schedule - whose stages are meant
 * @returns times for {@link simulate}
 * @throws ERR_BALEEN_SCHEDULE_LAYERS where layers cannot be spread evenly; the hint has the nearest number that can
 *
 * @example
 * ```ts
 * import { generateSchedule, simulate, stageTimes } from '@baleen/dualpipe';
 * const schedule = generateSchedule('interleaved', { ranks: 4, microBatches: 8 }); // 2 stages a rank
 * const times = stageTimes({ forward: 1, inputGrad: 1, weightGrad: 1 }, schedule);
 * console.log(JSON.stringify(times)); // => {"forward":0.5,"inputGrad":0.5,"weightGrad":0.5}
 * console.log(simulate(schedule, { times }).total); // => 28.5
 * ```
 */
export function stageTimes(
  times: Costs | PhaseTimes,
  { method, ranks, stages }: Pick<Schedule, 'method' | 'ranks' | 'stages'>,
): Costs | PhaseTimes {
  // Divided last, so that whole numbers stay whole.
  const ofStage = (value: number): number => (value * ranks) / stages;
  if (!('layers' in times)) {
    const { forward, inputGrad, weightGrad, overlap } = times;
    const four: Costs = {
      forward: ofStage(forward),
      inputGrad: ofStage(inputGrad),
      weightGrad: ofStage(weightGrad),
      ...(overlap === undefined ? {} : { overlap: ofStage(overlap) }),
    };
    return four;
  }
  const layers = ofStage(times.layers);
  if (!Number.isInteger(layers)) {
    const step = stages / divisor(stages, ranks);
    throw scheduleError(
      'LAYERS',
      'layers',
      `layers (${times.layers}) of a rank's share are not whole layers for each of the ${stages / ranks} stages that a rank has in ${method}`,
      `take layers ${Math.max(1, Math.round(times.layers / step)) * step}`,
    );
  }
  return { ...times, layers };
}

/** The greatest number that divides both. */
function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}
