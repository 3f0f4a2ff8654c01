// What every communicator must do, as cases that all ranks run together: on one rank, on threads, and as processes under
// MPI. Each case gets a group of its own, for some leave theirs broken. Plain JavaScript, since Node.js runs it as it is.
import { collectives } from './conformance/collectives.mjs';
import { beThorough } from './conformance/data.mjs';
import { misuse } from './conformance/misuse.mjs';
import { order } from './conformance/order.mjs';

const cases = { ...collectives, ...order, ...misuse };

/**
 * Runs the cases, or those whose name includes a text.
 * @param communicator - this rank's end
 * @param options - which cases, and whether they run every combination of form, memory, type and size
 * @returns what went wrong on this rank, in words; empty where nothing did
 */
export default async function run(communicator, { only = '', thoroughly = false } = {}) {
  beThorough(thoroughly);
  const wrong = [];
  for (const [name, test] of Object.entries(cases)) {
    if (!name.includes(only)) continue;
    const group = communicator.split(0, communicator.rank);
    try {
      await test(group, group.size, group.rank);
    } catch (error) {
      wrong.push(`rank ${communicator.rank} of ${communicator.size}, “${name}”: ${error.stack}`);
    }
    communicator.barrier();
  }
  return wrong;
}
