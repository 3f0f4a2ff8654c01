// The sizes of a method, and how one that it does not allow is refused: with the constraint and the nearest that it allows.
import { checkWhole, scheduleError } from '../errors';

/** What a schedule is made for. */
export interface MethodSizes {
  /** Ranks of the pipeline, R. */
  ranks: number;
  /** Micro-batches of a step, M, over all directions. */
  microBatches: number;
  /** Stages a rank holds in turn; only `interleaved` takes it (default 2). */
  stagesPerRank?: number;
}

/** What a method asks of a size. */
export interface Constraint {
  /** The size. */
  size: 'ranks' | 'microBatches' | 'stagesPerRank';
  /** The constraint, such as `an even number`. */
  text: string;
  /** The smallest allowed value, and the step to the next. */
  least: number;
  /** Distance between allowed values. */
  step: number;
}

/**
 * Refuses a size that a method does not allow.
 * @param method - its name
 * @param value - the size's value
 * @param constraint - what the method asks of it
 * @throws ERR_BALEEN_SCHEDULE_SIZES; the hint has the nearest allowed value
 */
export function checkConstraint(
  method: string,
  value: number,
  { size, text, least, step }: Constraint,
): void {
  checkWhole({ [size]: value });
  if (value >= least && (value - least) % step === 0) return;
  const below = least + Math.floor((value - least) / step) * step;
  const [near, far] = value - below <= step / 2 ? [below, below + step] : [below + step, below];
  const [nearest, other] = near < least ? [least, least] : [near, far];
  const others = other >= least && other !== nearest ? ` (or ${other})` : '';
  throw scheduleError(
    'SIZES',
    size,
    `${size} (${value}) is not ${text}, which ${method} needs`,
    `take ${size} ${nearest}${others}`,
  );
}
