// What calls have in common, whatever carries them: when they begin and end, and who is in a group that is cut.
import type { CallOptions } from './communicator';
import { now } from './threads/bells';

/** When a call begins and when it is too late, on the clock of `now`. */
export interface CallTimes {
  /** When what this rank sends leaves it; 0: at once. */
  readonly leaveAt: number;
  /** When it gives up. */
  readonly deadlineAt: number;
  /** How long that is, for what it says then. */
  readonly deadlineMs: number;
  /** Not 0 at index 0 once the rank gave the call up; null: it cannot. */
  readonly cancel: Int32Array | null;
}

/**
 * The times of a call that begins now.
 * @param options - the call's
 * @param usualMs - the deadline where they name none
 * @returns when it begins and ends
 */
export function timesOf(options: CallOptions, usualMs: number): CallTimes {
  const { deadlineMs = usualMs, delayMs = 0 } = options;
  const time = now();
  return {
    leaveAt: delayMs > 0 ? time + delayMs : 0,
    deadlineAt: time + deadlineMs,
    deadlineMs,
    cancel: null,
  };
}

/**
 * Ranks of one color, by their keys, then by rank.
 * @param cuts - color and key of every rank
 * @param color - which
 * @returns their ranks in the group that is cut
 */
export function membersOf(
  cuts: readonly (readonly [color: number, key: number])[],
  color: number,
): number[] {
  return cuts
    .map(([of, by], rank) => ({ of, by, rank }))
    .filter(({ of }) => of === color)
    .sort((a, b) => a.by - b.by || a.rank - b.rank)
    .map(({ rank }) => rank);
}
