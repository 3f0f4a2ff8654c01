// Which legs tokens take: from rank to rank, or first to a node and then within it.
import type { Communicator } from '../communicator';
import type { Direction } from './hop';

/**
 * The legs of the way: one, or two where there are nodes of several devices. Collective, and blocks.
 * @param communicator - the ranks
 * @param devices - of a node
 * @param rankOf - rank of each expert [E]
 * @returns where each leads
 */
export function directionsOf(
  communicator: Communicator,
  devices: number,
  rankOf: Int32Array,
): Direction[] {
  const { rank, size } = communicator;
  const nodes = size / devices;
  if (nodes === 1 || devices === 1) {
    const ranks = Array.from({ length: size }, (_, r) => r);
    return [{ group: communicator, ranks, towards: rankOf }];
  }
  const [node, device] = [Math.floor(rank / devices), rank % devices];
  const across = communicator.split(device, rank);
  const inside = communicator.split(node, rank);
  // Every rank is in a group of either kind.
  if (!across || !inside) return [];
  return [
    {
      group: across,
      ranks: Array.from({ length: nodes }, (_, n) => n * devices + device),
      towards: rankOf.map((of) => Math.floor(of / devices)),
    },
    {
      group: inside,
      ranks: Array.from({ length: devices }, (_, d) => node * devices + d),
      towards: rankOf.map((of) => of % devices),
    },
  ];
}
