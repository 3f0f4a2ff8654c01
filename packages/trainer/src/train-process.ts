// What a rank runs where ranks are processes that `train` has a launcher start: the first one gets its work, and perhaps a
// stop, as lines on stdin; what ranks have to say are lines on stdout.
import { createInterface } from 'node:readline';

import { reportOf } from '@baleen/comm';
import { mpi } from '@baleen/comm/mpi';
import { loadKernels, setThreads } from '@baleen/kernels';

import type { RankMessage, RankWork, StopMessage } from './rank-messages';
import { gatherJson } from './ranks/gather-json';
import { holderOf } from './run-lock';
import { trainAsRank } from './train-as-rank';
import { lineOf } from './train-processes';

/** Says something; resolves when it is said. */
function say(message: RankMessage): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(lineOf(message), () => {
      resolve();
    });
  });
}

const stopping = new AbortController();
// A launcher that ends the job sends this first: who waits for a rank that died still has the time to name it.
process.on('SIGTERM', () => {
  stopping.abort();
});

/** The first rank's work, as soon as it has come. */
async function workFromInput(): Promise<RankWork> {
  return await new Promise((resolve) => {
    const lines = createInterface({ input: process.stdin });
    lines.on('line', (line) => {
      const message = JSON.parse(line) as RankWork | StopMessage;
      if ('stop' in message) stopping.abort();
      else resolve(message);
    });
    lines.on('close', () => {
      // Whoever started the ranks is no more: nobody would hear of a result.
      process.exit(1);
    });
  });
}

let rank = Number(process.env.OMPI_COMM_WORLD_RANK ?? process.env.PMI_RANK ?? 0);
try {
  const communicator = mpi({ deadlineMs: Number(process.argv[2]) });
  ({ rank } = communicator);
  await say({ began: { rank, process: holderOf(process.pid) } });
  const [work] = gatherJson(communicator, rank === 0 ? await workFromInput() : null);
  if (!work) throw new Error('the first rank was given no work');
  // Threads share what whoever started them has set; a process has its own.
  loadKernels();
  setThreads(work.config.threads);
  await trainAsRank(communicator, work, stopping.signal, (message) => void say(message));
  process.exitCode = 0;
} catch (error) {
  await say({ failed: { rank, error: reportOf(error) } });
  process.exitCode = 1;
}
// The first rank's stdin is open still.
process.exit();
