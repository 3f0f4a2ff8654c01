// Takes back what a search need not have moved: experts return to devices that held them, as long as no device exceeds the
// load that is good enough.
import { type Change, type NodeLayout, Search } from './improve';

/**
 * Returns experts to devices that held them until none can.
 * @param layout - changed in place
 * @param before - the slots before anything was changed; -1 where the expert is no longer the node's
 * @param target - the load that no device touched may reach
 * @returns the busiest device's load, and how many (device, expert) there are that were not there before
 */
export function restore(
  layout: NodeLayout,
  before: Int32Array,
  target: number,
): { top: number; moves: number } {
  const search = new Search(layout, before);
  for (;;) {
    const change = bestReturn(search, before, target);
    if (!change) break;
    search.apply(change);
  }
  let moves = 0;
  layout.slots.forEach((e, slot) => {
    if (!search.had(search.deviceOf(slot), e)) moves += 1;
  });
  return { top: search.deviceLoad[search.busiest()], moves };
}

/** The change that saves most copies, of those the one whose devices are lightest. */
function bestReturn(search: Search, before: Int32Array, target: number): Change | null {
  const { capacity, deviceLoad, holders } = search;
  const { slots } = search.layout;
  let best: Change | null = null;
  let [least, lowest] = [0, Infinity];
  const consider = (change: Change, cost: number, peak: number): void => {
    if (!(peak < target) || cost > least || (cost === least && peak >= lowest) || cost === 0)
      return;
    [best, least, lowest] = [change, cost, peak];
  };
  slots.forEach((mine, at) => {
    const device = search.deviceOf(at);
    if (search.had(device, mine)) return;
    const first = device * capacity;
    for (const expert of before.subarray(first, first + capacity)) {
      if (expert < 0 || search.has(device, expert)) continue;
      if (holders[mine].length > 1)
        consider({ at, expert, other: -1 }, -1, search.peakOf(at, expert, device, target));
      const shift = search.share(expert) - search.share(mine);
      for (const there of holders[expert]) {
        if (search.has(there, mine)) continue;
        consider(
          { at, expert, other: slots.indexOf(expert, there * capacity) },
          search.cost(there, mine, expert) - 1,
          Math.max(deviceLoad[device] + shift, deviceLoad[there] - shift),
        );
      }
    }
  });
  return best;
}
