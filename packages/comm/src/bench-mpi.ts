// A rank of the benchmark under mpirun: rank 0 writes the times as a line of JSON.
import measure, { type RankOptions } from './bench-rank';
import { mpi } from './mpi';

const communicator = mpi();
const cases = measure(communicator, JSON.parse(process.argv[2]) as RankOptions);
if (communicator.rank === 0) console.log(JSON.stringify(cases));
