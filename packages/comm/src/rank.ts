// The thread of a rank: runs the default export of a module with the rank's end of the job, and reports how it ended.
import { parentPort, workerData } from 'node:worker_threads';

import { calls } from './calls';
import type { Communicator } from './communicator';
import { reportOf } from './error-report';
import { Group } from './group';
import { rankState } from './threads/job';
import { GroupMemory } from './threads/memory';
import type { RankData, RankReport } from './threads/report';
import { type Place, ringGroup } from './threads/tasks';
import { RankThread } from './threads/thread';
import { ThreadTransport } from './threads/transport';

const { job, rank, url, args } = workerData as RankData;
const thread = new RankThread(job, rank);
const world: Place = {
  memory: new GroupMemory(job.world, job.ranks),
  rank,
  members: Array.from({ length: job.ranks }, (_, member) => member),
};

/** Says to the others how this rank ended, and to the thread that started the job. */
function end(state: number, text: string, report: RankReport): void {
  const { surroundings } = thread;
  surroundings.ends.set(rank, state, text);
  ringGroup(world, surroundings);
  parentPort?.postMessage(report);
}

try {
  const transport = new ThreadTransport(world, thread);
  // Shared memory that another announces reaches only who listens already.
  transport.run(calls.barrier(), {});
  const { default: work } = (await import(url)) as { default?: unknown };
  if (typeof work !== 'function') throw new TypeError(`${url} has no function as default export`);
  const call = work as (communicator: Communicator, args: unknown) => unknown;
  const result = await call(new Group(transport), args);
  await thread.mover.settled();
  end(rankState.ended, 'has ended', { result });
} catch (error) {
  const report = reportOf(error);
  end(rankState.failed, `threw “${report.message}”`, { error: report });
}
thread.close();
