// Rebalancing that moves few experts: loads drift while a system serves, and every expert that a device did not hold has to
// be copied there. From the placement there is, the changes that gain most for each copy are made until the busiest device
// is about as light as a new placement would make it; what need not have moved returns.
import { mulberry32 } from '@baleen/tensor';

import { checkLength, refuse } from '../checks';
import { groupLoads } from './greedy';
import { improve, type NodeLayout } from './improve';
import { keepSlots, matchDevices } from './match';
import { placeExperts, placeNodes } from './place';
import { restore } from './restore';
import { defaultTries, shake } from './shake';
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

/** Share of a new placement's moves that is few enough. */
const few = 0.25;
/** Times as many searches where the load is low enough, but moves are too many. */
const patience = 5;

/**
 * Adapts a placement to new loads. It begins with the placement there is; then, where there are nodes, with one made anew
 * of the experts each has; then with the new one that {@link placeExperts} makes, both on the devices that already hold most
 * of it. From each, experts move, and return, until the tolerance is kept with at most a quarter of the moves that the new
 * placement takes as it stands; else each search ends after a fixed number of tries and what moves fewest is kept.
 * @param current - expert in each slot, from {@link placeExperts} or this function
 * @param load - tokens each expert got since [experts]
 * @param sizes - those of `current`
 * @param options - `tolerance`: how far the busiest device may stay above a new placement's (default 0.05)
 * @returns the placement and its moves; an expert that stays on its device stays in its slot
 * @throws ERR_BALEEN_ROUTER_SIZES like `placeExperts`, where `current` is not a placement of these sizes, and where the
 *   tolerance is negative or not finite
 */
export function rebalanceExperts(
  current: Int32Array,
  load: ArrayLike<number>,
  sizes: PlacementSizes,
  options: { tolerance?: number } = {},
): Rebalance {
  const full = checkPlacement(load, sizes, true);
  checkLength('current', current, { slots: full.slots });
  const { tolerance = 0.05 } = options;
  if (!(tolerance >= 0 && tolerance < Infinity))
    refuse(
      'tolerance',
      `tolerance (${tolerance}) is negative or not finite`,
      'give a share, such as 0.05',
    );
  const nodes = expertsOfNodes(current, full);
  const fresh = placeExperts(load, sizes);
  const target = (1 + tolerance) * Math.max(...fresh.deviceLoad);
  const enough = few * movesBetween(current, fresh.expertOfSlot, full);
  const slots = current.slice();
  exchangeGroups(slots, nodes, load, full, target);
  let best = settle(slots, current, load, full, target, enough);
  const anew = (placement: ExpertPlacement): Int32Array =>
    matchDevices(placement.expertOfSlot, current, full);
  const beginnings = [
    ...(full.nodes > 1 ? [() => anew(placeNodes(nodes, load, full, defaultTries))] : []),
    () => anew(fresh),
  ];
  for (const begin of beginnings) {
    if (best.top <= target && best.moves <= enough) break;
    const other = settle(begin(), current, load, full, target, enough);
    if (isBetter(other, best, target)) best = other;
  }
  keepSlots(best.slots, current, full.slotsPerDevice);
  return { ...placementOf(best.slots, load, full), moves: best.moves };
}

/** Where a search came to. */
interface Settled {
  slots: Int32Array;
  /** Load of the busiest device. */
  top: number;
  moves: number;
}

/** Whether a result is below the target, or nearer to it, or there with fewer moves. */
function isBetter(one: Settled, other: Settled, target: number): boolean {
  const [a, b] = [Math.max(one.top, target), Math.max(other.top, target)];
  return a < b || (a === b && one.moves < other.moves);
}

/**
 * Searches each node from a placement until all are below the target with few enough moves, taking turns, each time from the
 * node's best shaken.
 */
function settle(
  start: Int32Array,
  current: Int32Array,
  load: ArrayLike<number>,
  sizes: FullSizes,
  target: number,
  enough: number,
): Settled {
  const { node } = sizes;
  const random = mulberry32(0);
  const nodes = expertsOfNodes(start, sizes).map((experts, n) => {
    const local = (list: Int32Array): Int32Array =>
      list.subarray(n * node.slots, (n + 1) * node.slots).map((e) => experts.indexOf(e));
    const before = local(current);
    const own = Float64Array.from(experts, (e) => load[e]);
    const attempt = (slots: Int32Array, shaken: boolean): Settled => {
      const layout: NodeLayout = { slots: slots.slice(), devices: node.devices, load: own };
      if (shaken) shake(layout, random);
      improve(layout, { target, before });
      return { slots: layout.slots, ...restore(layout, before, target) };
    };
    return { experts, attempt, best: attempt(local(start), false) };
  });
  const all = (): Settled => {
    const slots = start.slice();
    nodes.forEach(({ experts, best }, n) => {
      slots.set(
        best.slots.map((e) => experts[e]),
        n * node.slots,
      );
    });
    return {
      slots,
      top: Math.max(...nodes.map(({ best }) => best.top)),
      moves: nodes.reduce((sum, { best }) => sum + best.moves, 0),
    };
  };
  let result = all();
  for (let i = 0; i < (result.top > target ? 1 : patience) * defaultTries; i += 1) {
    if (result.top <= target && result.moves <= enough) break;
    for (const one of nodes) {
      const trial = one.attempt(one.best.slots, true);
      if (isBetter(trial, one.best, target)) one.best = trial;
    }
    result = all();
  }
  return result;
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
