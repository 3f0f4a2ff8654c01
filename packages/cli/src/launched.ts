// This process as a rank that mpirun or srun started: it trains with the others, and the first one speaks for all.
import type { Communicator } from '@baleen/comm';
import { launchOf, mpi } from '@baleen/comm/mpi';
import type { ConfigLayer } from '@baleen/trainer';

import { failureOf } from './errors';
import { type CliIo, Voice } from './io';
import { checkRankFlags, type RankFlags } from './rank-flags';

/** A rank of a job. */
export interface Launched {
  /** All ranks. */
  communicator: Communicator;
  /** What the launcher decides of the configuration. */
  layer: ConfigLayer;
}

/** Errors that every rank meets. */
const common = ['CONFIG', 'USAGE', 'TRAIN'].map((area) => `ERR_BALEEN_${area}_`);

/**
 * Joins the job that this process belongs to.
 * @param env - environment variables
 * @param flags - of the command: its deadline; what a rank cannot do is refused
 * @returns null where no launcher started this process
 * @throws `ERR_BALEEN_COMM_MPI` without koffi or an MPI library, `ERR_BALEEN_COMM_LAUNCHER` for one of another kind
 */
export function joinLaunched(env: CliIo['env'], flags: RankFlags): Launched | null {
  const launch = launchOf(env);
  if (!launch) return null;
  checkRankFlags(flags, launch);
  const layer = { origin: launch.variable, values: { layout: { ranks: launch.ranks } } };
  const { deadline } = flags;
  const options = deadline === undefined ? {} : { deadlineMs: 1000 * deadline };
  return { communicator: mpi(options), layer };
}

/**
 * Runs a rank that is not the first: without a word, unless what goes wrong is its own, or a rank that it waits for.
 * @param rank - which
 * @param voice - this process's
 * @param work - what to run, with a voice that nobody hears
 */
export async function silently(
  rank: number,
  voice: Voice,
  work: (silent: Voice) => Promise<void>,
): Promise<void> {
  const nowhere = { write: () => true };
  try {
    await work(new Voice({ ...voice.io, stdout: nowhere, stderr: nowhere }, { quiet: true }));
  } catch (error) {
    const { code, message } = failureOf(error);
    if (!common.some((start) => code.startsWith(start))) voice.warn(`rank ${rank}: ${message}`);
    voice.exitCode = 1;
  }
}
