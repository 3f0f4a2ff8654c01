// Rebalancing that moves few experts: loads drift while a system serves, and every expert that a device did not hold has to
// be copied there. From the placement there is, the changes that gain most for each copy are made until the busiest device
// is about as light as a new placement would make it.
import { checkLength, refuse } from '../checks';
import { groupLoads } from './greedy';
import { placeExperts } from './place';
import { defaultTries, improveShaken } from './shake';
import {
  checkPlacement,
  type ExpertPlacement,
  type FullSizes,
  type PlacementSizes,
  placementOf,
} from './sizes';

/** A placement that came from another one. */
export interface Rebalance extends ExpertPlacement {
  /** Experts to copy: how many (device, expert) there are that were not there before. */
  moves: number;
}

/**
 * Adapts a placement to new loads.
 * @param current - expert in each slot, from {@link placeExperts} or this function
 * @param load - tokens each expert got since [experts]
 * @param sizes - those of `current`
 * @param options - `tolerance`: how far the busiest device may stay above a new placement's (default 0.05)
 * @returns the placement and its moves. Where small changes do not reach the tolerance it is the new placement
 * @throws ERR_BALEEN_ROUTER_SIZES like `placeExperts`, and where `current` is not a placement of these sizes
 */
export function rebalanceExperts(
  current: Int32Array,
  load: ArrayLike<number>,
  sizes: PlacementSizes,
  options: { tolerance?: number } = {},
): Rebalance {
  const full = checkPlacement(load, sizes, true);
  checkLength('current', current, { slots: full.slots });
  const nodes = expertsOfNodes(current, full);
  const fresh = placeExperts(load, sizes);
  const target = (1 + (options.tolerance ?? 0.05)) * Math.max(...fresh.deviceLoad);
  const slots = current.slice();
  const { node } = full;
  exchangeGroups(slots, nodes, load, full, target);
  let top = 0;
  nodes.forEach((experts, n) => {
    const own = slots.subarray(n * node.slots, (n + 1) * node.slots);
    const local = (list: Int32Array): Int32Array => list.map((e) => experts.indexOf(e));
    const layout = {
      slots: local(own),
      devices: node.devices,
      load: Float64Array.from(experts, (e) => load[e]),
    };
    const before = local(current.subarray(n * node.slots, (n + 1) * node.slots));
    top = Math.max(top, improveShaken(layout, { target, before }, defaultTries));
    own.set(layout.slots.map((e) => experts[e]));
  });
  const chosen = top <= target ? placementOf(slots, load, full) : fresh;
  return { ...chosen, moves: movesBetween(current, chosen.expertOfSlot, full) };
}

/** The experts on each node, ascending; refuses what is no placement of these sizes. */
function expertsOfNodes(current: Int32Array, sizes: FullSizes): number[][] {
  const { experts, nodes, node, slotsPerDevice, groupSize } = sizes;
  const hint = 'begin with placeExperts for the same sizes';
  current.forEach((e, slot) => {
    if (!(e >= 0 && e < experts))
      refuse(`current[${slot}]`, `current[${slot}] (${e}) is not in 0 … ${experts - 1}`, hint);
    const start = slot - (slot % slotsPerDevice);
    if (current.subarray(start, slot).includes(e))
      refuse(
        `current[${slot}]`,
        `current[${slot}] puts expert ${e} on device ${start / slotsPerDevice} again`,
        hint,
      );
  });
  const seen = Array.from({ length: nodes }, (_, n) =>
    [...new Set(current.subarray(n * node.slots, (n + 1) * node.slots))].sort((a, b) => a - b),
  );
  seen.forEach((list, n) => {
    const groups = new Set(list.map((e) => Math.floor(e / groupSize)));
    if (list.length !== node.experts || groups.size !== node.groups)
      refuse(
        'current',
        `current has ${list.length} experts of ${groups.size} groups on node ${n}, not the ${node.experts} of ${node.groups} groups`,
        hint,
      );
  });
  return seen;
}

/**
 * Lets nodes exchange groups while the mean load of the busiest node's devices is above the target: what one node has of a
 * group, ordered by load, takes the place of what the other has.
 */
function exchangeGroups(
  slots: Int32Array,
  nodes: number[][],
  load: ArrayLike<number>,
  sizes: FullSizes,
  target: number,
): void {
  const { node, groupSize } = sizes;
  const weights = groupLoads(load, sizes);
  const groups = nodes.map((experts) => [
    ...new Set(experts.map((e) => Math.floor(e / groupSize))),
  ]);
  const means = (): number[] =>
    groups.map((own) => own.reduce((sum, g) => sum + weights[g], 0) / node.devices);
  for (;;) {
    const mean = means();
    const busiest = mean.indexOf(Math.max(...mean));
    if (mean[busiest] <= target) return;
    let best: { from: number; n: number; to: number; peak: number } | null = null;
    for (const [n, others] of groups.entries())
      for (const to of n === busiest ? [] : others)
        for (const from of groups[busiest]) {
          const shift = (weights[from] - weights[to]) / node.devices;
          const peak = Math.max(mean[busiest] - shift, mean[n] + shift);
          if (peak < (best?.peak ?? mean[busiest] * (1 - 1e-9))) best = { from, n, to, peak };
        }
    if (!best) return;
    const { from, n, to } = best;
    groups[busiest][groups[busiest].indexOf(from)] = to;
    groups[n][groups[n].indexOf(to)] = from;
    const members = (group: number): number[] =>
      Array.from({ length: groupSize }, (_, i) => group * groupSize + i).sort(
        (a, b) => load[b] - load[a] || a - b,
      );
    const [mine, theirs] = [members(from), members(to)];
    const partner = new Map([
      ...mine.map((e, i) => [e, theirs[i]] as const),
      ...theirs.map((e, i) => [e, mine[i]] as const),
    ]);
    slots.forEach((e, slot) => {
      slots[slot] = partner.get(e) ?? e;
    });
    for (const [i, experts] of nodes.entries())
      nodes[i] = experts.map((e) => partner.get(e) ?? e).sort((a, b) => a - b);
  }
}

/** How many (device, expert) there are in `to` that are not in `from`. */
function movesBetween(
  from: Int32Array,
  to: Int32Array,
  { slotsPerDevice }: Pick<FullSizes, 'slotsPerDevice'>,
): number {
  return to.reduce((moves, e, slot) => {
    const start = slot - (slot % slotsPerDevice);
    return moves + (from.subarray(start, start + slotsPerDevice).includes(e) ? 0 : 1);
  }, 0);
}
