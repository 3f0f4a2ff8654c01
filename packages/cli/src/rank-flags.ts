// Flags for runs on several ranks that are no part of a run's configuration: how ranks are started, how long they wait for
// each other, what becomes of a run that loses one, and drills.
import type { Launch } from '@baleen/comm/mpi';
import { type Fault, faultOf, type TrainOptions } from '@baleen/trainer';
import type { Command, Option } from 'commander';

import { usageError } from './errors';
import type { Voice } from './io';
import { numberFlag } from './numbers';

/** What commander makes of them. */
export interface RankFlags {
  /** Words that start ranks. */
  launch?: string[];
  /** Seconds. */
  deadline?: number;
  /** How often. */
  maxRestarts?: number;
  /** Drills. */
  inject?: Fault[];
}

/** Adds the flags. */
export function addRankFlags(command: Command): void {
  const of = (flags: string, description: string): Option =>
    command.createOption(flags, description).helpGroup('Several ranks:');
  const deadline = numberFlag('--deadline', { least: 0.1 });
  const restarts = numberFlag('--max-restarts', { least: 0, whole: true });
  const launch = of(
    '--launch <command>',
    'start --ranks as processes, with mpirun and its flags say',
  );
  const waiting = of(
    '--deadline <seconds>',
    'end when others have waited so long for a rank (300)',
  );
  const again = of(
    '--max-restarts <n>',
    'go on from the last checkpoint when ranks die or hang (0)',
  );
  const drill = of(
    '--inject <fault>',
    'a drill: kill-rank=1@step=10, or hang-rank or slow-rank; may be repeated',
  );
  command
    .addOption(launch.argParser(words))
    .addOption(waiting.argParser(deadline))
    .addOption(again.argParser(restarts))
    .addOption(
      drill.argParser((text, before: Fault[] | undefined) => [...(before ?? []), fault(text)]),
    );
}

/** A command as its words; quotes keep some together. */
function words(text: string): string[] {
  return (text.match(/"[^"]*"|'[^']*'|\S+/g) ?? []).map((word) =>
    /^["']/.test(word) ? word.slice(1, -1) : word,
  );
}

function fault(text: string): Fault {
  try {
    return faultOf(text);
  } catch (error) {
    throw Object.assign(error as Error, { path: '--inject' });
  }
}

/**
 * The flags as options of `train`.
 * @param flags - what was given
 * @param voice - where ranks that are processes may speak
 * @returns what was given, and nothing else
 */
export function rankOptions(
  { launch, deadline, maxRestarts, inject }: RankFlags,
  voice: Voice,
): Pick<TrainOptions, 'launch' | 'deadlineMs' | 'maxRestarts' | 'inject' | 'onLaunched'> {
  return {
    ...(launch && { launch }),
    ...(deadline !== undefined && { deadlineMs: 1000 * deadline }),
    ...(maxRestarts !== undefined && { maxRestarts }),
    ...(inject && { inject }),
    onLaunched: (text) => {
      if (!voice.quiet) voice.io.stderr.write(text);
    },
  };
}

/**
 * Refuses what a rank of a job cannot do.
 * @param flags - what was given
 * @param launch - the job that this process is a rank of
 * @throws `ERR_BALEEN_USAGE_FLAG`
 */
export function checkRankFlags({ launch, maxRestarts = 0 }: RankFlags, job: Launch): void {
  const flag = launch ? '--launch' : maxRestarts > 0 ? '--max-restarts' : null;
  if (flag === null) return;
  throw usageError(
    'FLAG',
    `${flag}: this process is a rank that a launcher started (${job.variable}), and cannot start its job again`,
    `let the command line call the launcher: baleen train --ranks ${job.ranks} --launch mpirun --max-restarts 3`,
    flag,
  );
}
