// What dispatch and combine must do, as cases that all ranks run together: on one rank, on threads and under MPI. Every rank
// knows what all others have, so that each can say what it must get. Plain JavaScript, since Node.js runs it as it is.
import { calls } from './exchange/calls.mjs';
import { rows } from './exchange/rows.mjs';

const cases = { ...rows, ...calls };

/**
 * Runs every case on a group of its own.
 * @param communicator - of all ranks
 * @returns what went wrong, a line a case
 */
export default async function run(communicator) {
  const wrong = [];
  for (const [name, body] of Object.entries(cases)) {
    const group = communicator.split(0);
    try {
      await body(group, group.size, group.rank);
    } catch (error) {
      wrong.push(`rank ${group.rank}: ${name}: ${error.stack}`);
      return wrong;
    }
  }
  return wrong;
}
