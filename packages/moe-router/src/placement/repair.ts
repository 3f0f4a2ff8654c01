// The published placement without its duplicates: an expert that is on a device again goes to another one.

/**
 * Takes away every expert that a device holds again: it changes places with one of another device, so that the busier of the
 * two is as light as can be, or, where nothing can, gives way to the expert whose replicas are heaviest.
 * @param slots - experts of a node's slots, changed in place; every one is there
 * @param devices - of the node; each has at most as many slots as there are experts
 * @param load - of each expert
 */
export function takeApart(slots: Int32Array, devices: number, load: Float64Array): void {
  const capacity = slots.length / devices;
  const counts = new Int32Array(load.length);
  for (const e of slots) counts[e] += 1;
  const first = (slot: number): number => slot - (slot % capacity);
  const has = (slot: number, e: number): boolean =>
    slots.subarray(first(slot), first(slot) + capacity).includes(e);
  const share = (e: number): number => load[e] / counts[e];
  const weigh = (slot: number): number =>
    slots.subarray(first(slot), first(slot) + capacity).reduce((sum, e) => sum + share(e), 0);
  for (let at = 0; at < slots.length; at += 1) {
    const mine = slots[at];
    if (!slots.subarray(first(at), at).includes(mine)) continue;
    let [best, lowest] = [-1, Infinity];
    slots.forEach((theirs, other) => {
      if (has(at, theirs) || has(other, mine)) return;
      const shift = share(theirs) - share(mine);
      const peak = Math.max(weigh(at) + shift, weigh(other) - shift);
      if (peak < lowest) [best, lowest] = [other, peak];
    });
    if (best >= 0) {
      [slots[at], slots[best]] = [slots[best], mine];
      continue;
    }
    let heaviest = -1;
    for (let e = 0; e < load.length; e += 1)
      if (!has(at, e) && (heaviest < 0 || share(e) > share(heaviest))) heaviest = e;
    slots[at] = heaviest;
    counts[mine] -= 1;
    counts[heaviest] += 1;
  }
}
