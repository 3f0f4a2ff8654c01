// One rank of the tests under mpirun; what it has to say it writes to stdout, as one line of JSON. With
// `all` every method runs twice, keeping what it needs and making it again.
import { mpi } from '@baleen/comm/mpi';

import run from './pipeline.mjs';

const communicator = mpi({ deadlineMs: 60_000 });
const wrong = await run(communicator, process.argv[2] === 'all' ? {} : { recompute: [true] });
process.stdout.write(`${JSON.stringify({ rank: communicator.rank, wrong })}\n`);
