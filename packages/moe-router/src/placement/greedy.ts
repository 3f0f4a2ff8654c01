// The published placement (DeepSeek's EPLB), three greedy steps: groups to nodes, replicas of the experts of a node,
// replicas to devices. It is what `placeExperts` begins with and is measured against. Ties go to the lower index
// everywhere, where the published code leaves them to a sort that is not stable.
import {
  checkPlacement,
  type ExpertPlacement,
  type FullSizes,
  type PlacementSizes,
  placementOf,
} from './sizes';

/**
 * DeepSeek's published placement. A device may hold an expert twice, which wastes a slot; {@link placeExperts} does not.
 * @param load - tokens each expert got [experts]
 * @param sizes - see {@link PlacementSizes}
 * @returns the placement
 * @throws ERR_BALEEN_ROUTER_SIZES where sizes do not divide, or a load is negative or not finite
 */
export function placeExpertsGreedily(
  load: ArrayLike<number>,
  sizes: PlacementSizes,
): ExpertPlacement {
  const full = checkPlacement(load, sizes, false);
  return packNodes(nodeExperts(groupsByLoad(load, full), full), load, full);
}

/** The published placement of nodes whose experts are given. */
export function packNodes(
  nodes: readonly number[][],
  load: ArrayLike<number>,
  sizes: FullSizes,
): ExpertPlacement {
  const expertOfSlot = new Int32Array(sizes.slots);
  nodes.forEach((experts, n) => {
    const own = Float64Array.from(experts, (e) => load[e]);
    const { slots } = packNode(own, sizes, false);
    expertOfSlot.set(
      slots.map((e) => experts[e]),
      n * sizes.node.slots,
    );
  });
  return placementOf(expertOfSlot, load, sizes);
}

/**
 * Packs one node.
 * @param own - load of each of its experts
 * @param sizes - of the placement
 * @param distinct - no device may hold an expert twice
 * @returns the expert of each of its slots, and the load of the largest replica
 */
export function packNode(
  own: Float64Array,
  { node }: FullSizes,
  distinct: boolean,
): { slots: Int32Array; largest: number } {
  const { counts, expertOf } = replicate(own, node.slots, distinct ? node.devices : Infinity);
  const weights = Float64Array.from(expertOf, (e) => own[e] / counts[e]);
  const slots = new Int32Array(node.slots);
  packEvenly(weights, node.devices, distinct ? expertOf : undefined).forEach((place, replica) => {
    slots[place] = expertOf[replica];
  });
  return { slots, largest: weights.reduce((top, weight) => Math.max(top, weight), 0) };
}

/** Load of each group. */
export function groupLoads(
  load: ArrayLike<number>,
  { experts, groups, groupSize }: FullSizes,
): Float64Array {
  const loads = new Float64Array(groups);
  for (let e = 0; e < experts; e += 1) loads[Math.floor(e / groupSize)] += load[e];
  return loads;
}

/** The groups of each node when they go to nodes heaviest first, in the order they came. */
export function groupsByLoad(load: ArrayLike<number>, sizes: FullSizes): number[][] {
  const { nodes, node } = sizes;
  const ofNode = Array.from({ length: nodes }, () => new Array<number>(node.groups));
  packEvenly(groupLoads(load, sizes), nodes).forEach((place, group) => {
    ofNode[Math.floor(place / node.groups)][place % node.groups] = group;
  });
  return ofNode;
}

/** The experts of each node, group by group. */
export function nodeExperts(
  groupsOfNode: readonly number[][],
  { groupSize }: FullSizes,
): number[][] {
  return groupsOfNode.map((groups) =>
    groups.flatMap((group) => Array.from({ length: groupSize }, (_, i) => group * groupSize + i)),
  );
}

/**
 * How many replicas each expert gets: every slot beyond one an expert goes where load a replica is highest, which makes the
 * heaviest replica as light as it can be.
 * @param load - of each expert
 * @param slots - replicas in all
 * @param most - replicas of one expert at most
 * @returns counts, and the experts of all replicas: the first of each, then the others as they were given
 */
export function replicate(load: Float64Array, slots: number, most: number): Replicas {
  const experts = load.length;
  const counts = new Int32Array(experts).fill(1);
  const expertOf = new Int32Array(slots);
  for (let e = 0; e < experts; e += 1) expertOf[e] = e;
  for (let slot = experts; slot < slots; slot += 1) {
    let best = -1;
    for (let e = 0; e < experts; e += 1)
      if (counts[e] < most && (best < 0 || load[e] / counts[e] > load[best] / counts[best]))
        best = e;
    counts[best] += 1;
    expertOf[slot] = best;
  }
  return { counts, expertOf };
}

/** The replicas of some experts. */
export interface Replicas {
  /** How many each expert has. */
  counts: Int32Array;
  /** Expert of each replica. */
  expertOf: Int32Array;
}

/**
 * Packs items into bins of equal number, heaviest first, each into the lightest bin with room.
 * @param weights - of the items
 * @param bins - how many
 * @param owners - where given, no bin takes two items of one owner; every owner has at most as many items as there are bins
 * @returns place of each item: bin · capacity + order in the bin
 */
export function packEvenly(weights: Float64Array, bins: number, owners?: Int32Array): Int32Array {
  const capacity = weights.length / bins;
  const places = new Int32Array(weights.length);
  // One item a bin: nothing to balance, so nothing moves.
  if (capacity === 1) return places.map((_, i) => i);
  const held: number[][] = Array.from({ length: bins }, () => []);
  const sums = new Float64Array(bins);
  const holds = (bin: number, owner: number): boolean =>
    owners !== undefined && held[bin].some((i) => owners[i] === owner);
  const put = (item: number, bin: number): void => {
    held[bin].push(item);
    sums[bin] += weights[item];
  };
  const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b);
  for (const item of order) {
    const owner = owners?.[item] ?? 0;
    let [best, roomy] = [-1, -1];
    for (let bin = 0; bin < bins; bin += 1) {
      if (held[bin].length === capacity) continue;
      if (roomy < 0) roomy = bin;
      if (!holds(bin, owner) && (best < 0 || sums[bin] < sums[best])) best = bin;
    }
    if (best < 0) {
      // Only bins with this owner have room. A full one without it hands over an item that such a bin lacks: of its
      // `capacity` owners, the other, having room, holds fewer.
      best = held.findIndex((_, bin) => !holds(bin, owner));
      const at = held[best].findIndex((i) => !holds(roomy, owners?.[i] ?? 0));
      const [moved] = held[best].splice(at, 1);
      sums[best] -= weights[moved];
      put(moved, roomy);
    }
    put(item, best);
  }
  held.forEach((items, bin) => {
    items.forEach((item, i) => {
      places[item] = bin * capacity + i;
    });
  });
  return places;
}
