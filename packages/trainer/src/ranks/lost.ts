// Ranks that are no more: which errors say so, whom they name, and how a run goes on.
import { listCheckpoints } from '../checkpoint-files';

/** Errors of a call that waited for a rank. */
const codes = ['RANK_FAILED', 'DEADLINE'].map((what) => `ERR_BALEEN_COMM_${what}`);

/** An error that says who is to blame. */
interface Blaming extends Error {
  code?: string;
  jobRanks?: readonly number[];
}

/**
 * Whether an error says that ranks died or hang: what does not come back with the next attempt, as a wrong setting or
 * a full disk would.
 * @param error - anything that was thrown
 * @returns true for the errors of a call that waited for a rank
 */
export function isLost(error: unknown): error is Blaming {
  return error instanceof Error && codes.includes((error as Blaming).code ?? '');
}

/** What a run may still do about it. */
export interface Attempts {
  /** The run's folder, or null. */
  run: string | null;
  /** How often it was begun again. */
  restarts: number;
  /** How often it may be; null where others have started the ranks, and have to start them again. */
  maxRestarts: number | null;
}

/**
 * Says how a run goes on whose ranks were lost.
 * @param error - the failure of the attempt; what is none of a lost rank stays as it is
 * @param attempts - see {@link Attempts}
 * @returns the error, with that as its hint
 */
export function explainLost(error: unknown, { run, restarts, maxRestarts }: Attempts): unknown {
  if (!isLost(error)) return error;
  const newest = run === null ? undefined : listCheckpoints(run).at(-1);
  const saved =
    run === null || !newest
      ? 'nothing was saved yet: have runs save on their way with checkpoint.every'
      : `all up to step ${newest.step} is saved: go on with --resume ${run}`;
  if (maxRestarts !== null && maxRestarts > 0 && restarts >= maxRestarts)
    error.message += `; begun again ${restarts} ${restarts === 1 ? 'time' : 'times'}, as often as --max-restarts allows`;
  const itself =
    maxRestarts === null
      ? ', or let it go on by itself: with --launch, which calls the launcher, and --max-restarts 3'
      : maxRestarts === 0
        ? ', or let it go on by itself with --max-restarts 3'
        : '';
  const hint = `${saved}${newest ? itself : ''}`;
  return Object.assign(error, { hint, ...(newest && { path: newest.path }) });
}
