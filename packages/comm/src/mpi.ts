// The door of @baleen/comm/mpi: ranks as processes that mpirun or srun starts, over the system's MPI library.
import { hostname } from 'node:os';

import type { Communicator } from './communicator';
import { commError } from './errors';
import { Group } from './group';
import { Place } from './mpi/place';
import { Process } from './mpi/process';
import { MpiTransport } from './mpi/transport';

export type { Communicator } from './communicator';
export { describeMpi, type MpiReport } from './mpi/describe';
export { type Launch, launchOf } from './mpi/launcher';

/** Options of {@link mpi}. */
export interface MpiOptions {
  /** Milliseconds that a call waits for other ranks where it says nothing (default 300,000). */
  deadlineMs?: number;
}

let started: Communicator | null = null;

/**
 * This process's end of the job that mpirun or srun started. The MPI library is the system's, called through koffi, an
 * optional peer dependency; Open MPI 4 and later and MPICH's kin are known. The job ends with MPI_Finalize when every
 * process exits with code 0, and with MPI_Abort when one exits with another.
 *
 * The library is asked for MPI_THREAD_MULTIPLE. Where it grants MPI_THREAD_SERIALIZED only, every call is carried out by
 * the thread beside the rank's.
 *
 * `BALEEN_MPI_LIBRARY` names a library that is not found by itself.
 * @param options - see {@link MpiOptions}
 * @returns the communicator of all ranks; the same whenever it is asked for
 * @throws ERR_BALEEN_COMM_MPI without koffi or a library, or where the library reports an error;
 * ERR_BALEEN_COMM_LAUNCHER where the library sees another number of ranks than the launcher started
 *
 * @example
 * ```js
 * // mpirun -n 2 node sum.js
 * import { mpi } from '@baleen/comm/mpi';
 * const communicator = mpi();
 * const sum = new Float32Array(1);
 * communicator.allReduce(sum, Float32Array.of(communicator.rank + 1));
 * console.log(sum[0]); // 3, on both
 * ```
 */
export function mpi(options: MpiOptions = {}): Communicator {
  const { deadlineMs = 300_000 } = options;
  if (!(deadlineMs >= 0))
    throw commError(
      'OPTIONS',
      `mpi: deadlineMs (${deadlineMs}) is not a number from 0`,
      'give milliseconds',
      { path: 'deadlineMs' },
    );
  started ??= start(deadlineMs);
  return started;
}

function start(deadlineMs: number): Communicator {
  const self = new Process(deadlineMs);
  const { mpi: library, rank, size } = self;
  const members = Array.from({ length: size }, (_, member) => member);
  const pids = members.map(() => 0);
  const place = new Place(library, { group: 0, rank, members, pids, memory: Place.memory(size) });
  return new Group(new MpiTransport(self, place).acquainted(process.pid, machine()));
}

/** A number that tells this machine from others. */
function machine(): number {
  let hash = 0;
  for (const unit of hostname()) hash = (Math.imul(hash, 31) + (unit.codePointAt(0) ?? 0)) | 0;
  return hash;
}
