// Placement of experts on devices, balanced by their loads: the published greedy one, but without an expert twice on a
// device, then improved by local search.
import { checkWhole } from '../checks';
import { groupLoads, groupsByLoad, nodeExperts, packNode, packNodes, replicate } from './greedy';
import { improve } from './improve';
import { takeApart } from './repair';
import { defaultTries, improveShaken } from './shake';
import {
  checkPlacement,
  type ExpertPlacement,
  type FullSizes,
  type PlacementSizes,
  placementOf,
} from './sizes';

/** How near to the lower bound is near enough. */
const near = 1e-4;
/** What sums of the same numbers may differ by. */
const rounding = 1e-12;

/**
 * Places experts, with replicas of the busy ones, so that the busiest device has little to do (§3.4.1 of the V3 report calls
 * them redundant experts). Hierarchical where there are nodes: groups go to nodes, replicas stay on their group's node. No
 * device holds an expert twice. The same loads give the same placement; ties go to the lower index.
 * @param load - tokens each expert got [experts]
 * @param sizes - see {@link PlacementSizes}
 * @param options - `tries`: searches after the first, each from a shaken placement (default 30; 0 is fastest)
 * @returns the placement
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes do not divide, a device would have to hold an expert twice, a load is
 *   negative or not finite, or `tries` is not a whole number from 0 up
 *
 * @example
 * ```ts
 * import { placeExperts } from '@baleen/moe-router';
 * const sizes = { experts: 4, slots: 6, devices: 3 };
 * const { expertOfSlot, deviceLoad } = placeExperts([90, 60, 40, 20], sizes);
 * console.log([...expertOfSlot].join(' '), '|', [...deviceLoad].join(' ')); // => 0 1 0 3 2 1 | 75 65 70
 * ```
 */
export function placeExperts(
  load: ArrayLike<number>,
  sizes: PlacementSizes,
  options: { tries?: number } = {},
): ExpertPlacement {
  const full = checkPlacement(load, sizes, true);
  const { tries = defaultTries } = options;
  checkWhole({ tries }, 0);
  return placeNodes(nodeExperts(groupsByLoad(load, full), full), load, full, tries);
}

/**
 * Places nodes whose experts are given.
 * @param expertsOf - each node's
 * @param load - of each expert
 * @param sizes - of the placement
 * @param tries - searches after the first
 * @returns the placement
 */
export function placeNodes(
  expertsOf: readonly number[][],
  load: ArrayLike<number>,
  sizes: FullSizes,
  tries: number,
): ExpertPlacement {
  const { node } = sizes;
  const published = packNodes(expertsOf, load, sizes);
  const goal = Math.max(...published.deviceLoad);
  const expertOfSlot = new Int32Array(sizes.slots);
  const nodes = expertsOf.map((experts, n) => {
    const own = Float64Array.from(experts, (e) => load[e]);
    return { n, experts, own, mean: sum(own) / node.devices };
  });
  // The busiest node first: the others need be no better than it came out.
  let top = 0;
  for (const { n, experts, own, mean } of nodes.sort((a, b) => b.mean - a.mean)) {
    const first = n * node.slots;
    const { slots, largest } = packNode(own, sizes, true);
    const apart = published.expertOfSlot.slice(first, first + node.slots);
    apart.forEach((e, slot) => {
      apart[slot] = experts.indexOf(e);
    });
    takeApart(apart, node.devices, own);
    const bound = Math.max(mean, largest);
    const target = Math.max(top, bound * (1 + near));
    const layout = { slots, devices: node.devices, load: own };
    const other = { ...layout, slots: apart };
    if (improve(other, { target }) < improve(layout, { target })) layout.slots = apart;
    // Where the published load may be had without an expert twice on a device, it is worth a longer search.
    const above = bound > goal ? Infinity : goal * (1 + rounding);
    top = Math.max(top, improveShaken(layout, { target, above }, tries));
    expertOfSlot.set(
      layout.slots.map((e) => experts[e]),
      first,
    );
  }
  return placementOf(expertOfSlot, load, sizes);
}

/**
 * What no placement without an expert twice on a device can stay below: max(mean load of a device, largest replica), where
 * replicas are given out to make the largest as small as it can be; and hierarchically the mean of the node that holds the
 * heaviest group, were the lightest beside it.
 * @param load - tokens each expert got [experts]
 * @param sizes - see {@link PlacementSizes}
 * @returns a lower bound of the busiest device's load; the best placement may lie above it
 * @throws ERR_BALEEN_ROUTER_SIZES like {@link placeExperts}
 */
export function placementBound(load: ArrayLike<number>, sizes: PlacementSizes): number {
  const full = checkPlacement(load, sizes, true);
  const { experts, slots, devices, node } = full;
  const all = Float64Array.from({ length: experts }, (_, e) => load[e]);
  const { counts } = replicate(all, slots, node.devices);
  const largest = all.reduce((top, value, e) => Math.max(top, value / counts[e]), 0);
  const groups = groupLoads(load, full).sort();
  const heaviest = groups[groups.length - 1] + sum(groups.subarray(0, node.groups - 1));
  return Math.max(sum(all) / devices, largest, heaviest / node.devices);
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
