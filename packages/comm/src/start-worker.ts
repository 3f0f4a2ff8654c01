// Starts threads of the build: rank.js, mover.js and mpi-mover.js.
import { type Transferable, Worker } from 'node:worker_threads';

/** The condition under which this workspace resolves packages to their sources, which Node.js cannot run. */
const sources = '@baleen/source';

/**
 * Starts a thread.
 * @param name - of its file
 * @param workerData - what it begins with
 * @param transfer - what of that moves there
 * @returns the thread
 */
export function startWorker(
  name: 'rank' | 'mover' | 'mpi-mover',
  workerData: unknown,
  transfer: readonly Transferable[] = [],
): Worker {
  // The same from src/ in the sources and from dist/ in the build.
  return new Worker(new URL(`../dist/${name}.js`, import.meta.url), {
    workerData,
    transferList: [...transfer],
    // Threads run the build, whatever the process that starts them runs.
    execArgv: process.execArgv.filter(
      (argument, i, all) =>
        argument !== sources && !(argument === '--conditions' && all[i + 1] === sources),
    ),
  });
}
