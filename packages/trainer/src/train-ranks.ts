// Training on ranks that this process starts, threads or processes: the folder is locked here, and where ranks are lost the
// run is begun again from its last complete checkpoint.
import { listCheckpoints } from './checkpoint-files';
import type { TrainConfig } from './config';
import type { RestartEvent, TrainEvent, TrainResult } from './events';
import type { RankWork } from './rank-messages';
import { explainLost, isLost } from './ranks/lost';
import { findRun, rewriteMetrics } from './run-folder';
import { lockRun } from './run-lock';
import { folderOf, type TrainOptions } from './session';
import { trainOnProcesses } from './train-processes';
import { trainOnThreads } from './train-threads';

/**
 * Whether a run is to be trained by ranks that are still to be started.
 * @param config - the run
 * @param options - as `train` takes them
 * @returns true for several ranks, for what only somebody beside them can do, and where no communicator has them already
 */
export function startsRanks({ layout }: TrainConfig, options: TrainOptions): boolean {
  const { communicator, maxRestarts = 0, launch, inject = [] } = options;
  if (communicator && (maxRestarts > 0 || launch))
    throw usage(
      maxRestarts > 0 ? 'maxRestarts' : 'launch',
      'a rank that was started by others cannot start its job again',
      'leave the communicator out, and let train start the ranks: with launch, as processes',
    );
  return !communicator && (layout.ranks > 1 || maxRestarts > 0 || !!launch || inject.length > 0);
}

/**
 * Trains on `config.layout.ranks` ranks.
 * @param config - the run
 * @param options - as `train` takes them
 * @returns events of the first rank, and restarts; the generator's return value is the result
 * @throws what the first rank to blame threw, once restarts are used up
 */
export async function* trainOnRanks(
  config: TrainConfig,
  options: TrainOptions,
): AsyncGenerator<TrainEvent, TrainResult, void> {
  const { maxRestarts = 0, inject = [], launch, signal, preset, origins } = options;
  if (options.kernels)
    throw usage(
      'kernels',
      'ranks load kernels of their own',
      'leave the option kernels out; BALEEN_KERNELS=reference chooses the others',
    );
  if (!Number.isInteger(maxRestarts) || maxRestarts < 0)
    throw usage(
      'maxRestarts',
      `maxRestarts (${maxRestarts}) is not a whole number from 0`,
      'say how often, such as 3',
    );
  const from = options.resume === undefined ? null : findRun(options.resume);
  const run = folderOf(options, from);
  const unlock = run === null ? () => undefined : lockRun(run);
  const begun = from?.step ?? 0;
  let [restarts, reached, faults, resume] = [0, begun, inject, options.resume];
  try {
    for (;;) {
      const work: RankWork = {
        config,
        options: {
          ...{ out: run, inject: faults, restarts },
          ...(resume === undefined ? {} : { resume }),
          ...(preset === undefined ? {} : { preset }),
          ...(origins === undefined ? {} : { origins }),
        },
      };
      const events = launch
        ? trainOnProcesses(work, { ...options, launch })
        : trainOnThreads(work, options);
      try {
        for (;;) {
          const next = await events.next();
          if (next.done) return next.value;
          if (next.value.type === 'step') reached = next.value.step;
          yield next.value;
        }
      } catch (error) {
        if (!isLost(error) || restarts >= maxRestarts || signal?.aborted)
          throw explainLost(error, { run, restarts, maxRestarts });
        restarts += 1;
        const newest = run === null ? undefined : listCheckpoints(run).at(-1);
        if (run !== null && newest) resume = run;
        const event: RestartEvent = {
          ...{ type: 'restart', restart: restarts, of: maxRestarts },
          ...{ step: newest?.step ?? begun, reached, ranks: [...(error.jobRanks ?? [])] },
          ...{ reason: error.message, time: new Date().toISOString() },
        };
        if (run !== null) rewriteMetrics(run, event.step, event);
        // Each once: that of the step under way has come.
        const due = reached + 1;
        faults = faults.filter(({ kind, step }) => kind === 'slow' || step > due);
        yield event;
      } finally {
        await events.return(undefined as never);
      }
    }
  } finally {
    unlock();
  }
}

function usage(path: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), {
    code: `ERR_BALEEN_USAGE_${path.toUpperCase()}`,
    path,
    hint,
  });
}
