// One rank of the tests under mpirun; what it has to say it writes to stdout, as one line of JSON.
import { mpi } from '@baleen/comm/mpi';

import conformance from './conformance.mjs';
import exchange from './exchange.mjs';
import large from './large.mjs';

const [what, argument] = process.argv.slice(2);

/** What a call throws. */
function thrown(call) {
  try {
    call();
  } catch ({ code, ranks, message }) {
    return { code, ranks, message };
  }
  return null;
}

const work = {
  conformance: (communicator, options) => conformance(communicator, JSON.parse(options)),

  exchange,

  large,

  /** Rank 1 is killed; the others name it. */
  killed(communicator) {
    communicator.barrier();
    if (communicator.rank === 1) process.kill(process.pid, 'SIGKILL');
    const start = performance.now();
    const blocking = thrown(() => communicator.barrier());
    return { ...blocking, soon: performance.now() - start < 10_000 };
  },

  /** Rank 1 throws. */
  throws(communicator) {
    communicator.barrier();
    if (communicator.rank === 1) throw new Error('no more memory');
    communicator.barrier();
  },
};

const communicator = mpi({ deadlineMs: 30_000 });
const said = await work[what](communicator, argument);
process.stdout.write(`${JSON.stringify({ rank: communicator.rank, said })}\n`);
// MPI_Finalize would wait for who is no more.
if (what === 'killed') process.kill(process.pid, 'SIGKILL');
