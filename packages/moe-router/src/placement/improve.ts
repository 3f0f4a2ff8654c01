// Local search on the placement of one node: what stands on the busiest device is changed for the better until nothing can
// be. Two kinds of change: two devices swap an expert each, or a slot gets another expert, so that one has a replica more
// and another one fewer. Each must leave every device it touches below what the busiest has had, so the loads, sorted, only
// ever fall, and the search ends.

/** A node's slots and their loads. */
export interface NodeLayout {
  /** Expert of each slot, changed in place; a device's slots are neighbours and hold different experts. */
  slots: Int32Array;
  /** Devices. */
  devices: number;
  /** Load of each expert. */
  load: Float64Array;
}

/** When to stop, and what a change costs. */
export interface Effort {
  /** The busiest device's load that is good enough (default 0: as low as it gets). */
  target?: number;
  /**
   * The slots before anything was changed, -1 where the expert is no longer the node's: of its changes, the search makes
   * those that gain most for each expert copied.
   */
  before?: Int32Array;
}

/** A change: slot `at` gets `expert`, and with a swap (`other` from 0 up) slot `other` gets what was in `at`. */
export interface Change {
  at: number;
  expert: number;
  other: number;
}

/** Loads closer than this share count as equal, so that rounding cannot keep the search going. */
const equal = 1e-9;

/** The state of a search. */
export class Search {
  /** Devices of each expert's replicas. */
  readonly holders: number[][];
  readonly deviceLoad: Float64Array;
  /** Whether a device holds an expert [devices × experts]. */
  readonly holds: Uint8Array;
  /** Whether it did before. */
  readonly held: Uint8Array;
  readonly capacity: number;

  constructor(
    readonly layout: NodeLayout,
    before: Int32Array = layout.slots,
  ) {
    const { slots, devices, load } = layout;
    this.capacity = slots.length / devices;
    this.holders = Array.from(load, () => []);
    slots.forEach((e, slot) => this.holders[e].push(this.deviceOf(slot)));
    const presence = (list: Int32Array): Uint8Array => {
      const there = new Uint8Array(devices * load.length);
      list.forEach((e, slot) => {
        if (e >= 0) there[this.deviceOf(slot) * load.length + e] = 1;
      });
      return there;
    };
    this.holds = presence(slots);
    this.held = presence(before);
    this.deviceLoad = new Float64Array(devices);
    for (let d = 0; d < devices; d += 1) this.weigh(d);
  }

  deviceOf(slot: number): number {
    return Math.floor(slot / this.capacity);
  }

  has(device: number, expert: number): boolean {
    return this.holds[device * this.holders.length + expert] === 1;
  }

  /** Whether a device held an expert before. */
  had(device: number, expert: number): boolean {
    return this.held[device * this.holders.length + expert] === 1;
  }

  /** Load of one of an expert's replicas, if it had `more` of them. */
  share(expert: number, more = 0): number {
    return this.layout.load[expert] / (this.holders[expert].length + more);
  }

  /** Copies that an exchange on a device needs, more or, where an expert comes back, fewer than now. */
  cost(device: number, gets: number, loses: number): number {
    const row = device * this.holders.length;
    return this.held[row + loses] - this.held[row + gets];
  }

  busiest(): number {
    let best = 0;
    this.deviceLoad.forEach((load, d) => {
      if (load > this.deviceLoad[best]) best = d;
    });
    return best;
  }

  /** Sums a device's load anew: always in the same order, so that it depends on nothing but what is there. */
  private weigh(device: number): void {
    let sum = 0;
    for (let i = 0; i < this.capacity; i += 1)
      sum += this.share(this.layout.slots[device * this.capacity + i]);
    this.deviceLoad[device] = sum;
  }

  /** Puts an expert where another was. */
  private set(slot: number, expert: number): void {
    const device = this.deviceOf(slot);
    const { slots } = this.layout;
    const row = device * this.holders.length;
    const was = slots[slot];
    this.holders[was].splice(this.holders[was].indexOf(device), 1);
    this.holds[row + was] = 0;
    slots[slot] = expert;
    this.holders[expert].push(device);
    this.holds[row + expert] = 1;
  }

  apply({ at, expert, other }: Change): void {
    const was = this.layout.slots[at];
    this.set(at, expert);
    if (other >= 0) this.set(other, was);
    const touched = new Set([
      this.deviceOf(at),
      ...(other < 0 ? [...this.holders[was], ...this.holders[expert]] : [this.deviceOf(other)]),
    ]);
    for (const device of touched) this.weigh(device);
  }

  /**
   * Highest load of the devices that change when slot `at` gets `expert`, and of the busiest one; infinite from `limit` up.
   */
  peakOf(at: number, expert: number, busiest: number, limit: number): number {
    const device = this.deviceOf(at);
    const was = this.layout.slots[at];
    const [rise, fall] = [
      this.share(was, -1) - this.share(was),
      this.share(expert) - this.share(expert, 1),
    ];
    const own = this.deviceLoad[device] - this.share(was) + this.share(expert, 1);
    if (own >= limit) return Infinity;
    const loadOf = (d: number): number => {
      if (d === device) return own;
      return this.deviceLoad[d] + (this.has(d, was) ? rise : 0) - (this.has(d, expert) ? fall : 0);
    };
    let peak = Math.max(own, loadOf(busiest));
    for (const d of this.holders[was]) peak = Math.max(peak, loadOf(d));
    return peak < limit ? peak : Infinity;
  }
}

/**
 * Lowers the load of a node's busiest device as far as such changes can.
 * @param layout - changed in place
 * @param effort - see {@link Effort}
 * @returns the busiest device's load
 */
export function improve(layout: NodeLayout, effort: Effort = {}): number {
  const { target = 0, before } = effort;
  const search = new Search(layout, before);
  for (;;) {
    const busiest = search.busiest();
    const top = search.deviceLoad[busiest];
    if (top <= target) return top;
    const change = bestChange(search, busiest, before !== undefined);
    if (!change) return top;
    search.apply(change);
  }
}

function bestChange(search: Search, busiest: number, thrifty: boolean): Change | null {
  const { capacity, holders, deviceLoad } = search;
  const { slots } = search.layout;
  const top = deviceLoad[busiest];
  const limit = top * (1 - equal);
  let best: Change | null = null;
  let most = 0;
  const consider = (at: number, expert: number, other: number, peak: number): void => {
    if (!(peak < limit)) return;
    let gain = top - peak;
    if (thrifty) {
      const was = slots[at];
      const cost =
        search.cost(search.deviceOf(at), expert, was) +
        (other < 0 ? 0 : search.cost(search.deviceOf(other), was, expert));
      // What brings an expert back costs less than nothing.
      gain = cost > 0 ? gain / cost : gain * (2 - cost);
    }
    if (gain <= most) return;
    most = gain;
    best = { at, expert, other };
  };
  const first = busiest * capacity;
  for (let at = first; at < first + capacity; at += 1) {
    const mine = slots[at];
    const own = search.share(mine);
    const spare = holders[mine].length > 1;
    for (let other = 0; other < slots.length; other += 1) {
      const theirs = slots[other];
      const device = search.deviceOf(other);
      if (device === busiest || theirs === mine || search.has(device, mine)) continue;
      // A swap.
      const light = search.share(theirs);
      if (light < own && !search.has(busiest, theirs))
        consider(at, theirs, other, Math.max(top - own + light, deviceLoad[device] - light + own));
      // A further replica of what is here takes a slot there.
      if (holders[theirs].length > 1)
        consider(other, mine, -1, search.peakOf(other, mine, busiest, limit));
    }
    // This replica makes room for a further one of another expert.
    if (spare)
      for (let expert = 0; expert < holders.length; expert += 1)
        if (!search.has(busiest, expert))
          consider(at, expert, -1, search.peakOf(at, expert, busiest, limit));
  }
  return best;
}
