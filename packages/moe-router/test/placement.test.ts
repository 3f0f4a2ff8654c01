// Placement of experts on devices: the published algorithm on its published example, and ours on what it promises.
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import {
  type ExpertPlacement,
  type PlacementSizes,
  placeExperts,
  placeExpertsGreedily,
  placementBound,
  rebalanceExperts,
} from '../src/index';
import { packEvenly, replicate } from '../src/placement/greedy';
import { assign, keepSlots, matchDevices } from '../src/placement/match';
import { takeApart } from '../src/placement/repair';
import { restore } from '../src/placement/restore';
import { checkPlacement } from '../src/placement/sizes';

/** The published example: 12 experts in 4 groups, 16 slots on 8 devices of 2 nodes (README of EPLB). */
const example: PlacementSizes = { experts: 12, slots: 16, devices: 8, nodes: 2, groups: 4 };
const exampleLoads = [
  [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
  [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
];
const prefill: PlacementSizes = { experts: 64, slots: 80, devices: 16, nodes: 2, groups: 8 };
const shapes: PlacementSizes[] = [
  example,
  prefill,
  { ...prefill, nodes: 1 },
  { experts: 64, slots: 72, devices: 8 },
  { experts: 16, slots: 16, devices: 16 },
  { experts: 6, slots: 24, devices: 4 }, // every device holds every expert
];

const top = ({ deviceLoad }: ExpertPlacement): number => Math.max(...deviceLoad);

/** A steep or a flat load. */
function loads(count: number, seed: number): number[] {
  const random = randomFrom(seed);
  const steep = 4 * random();
  return Array.from({ length: count }, () => Math.round(1000 * Math.exp(steep * (random() - 0.5))));
}

function devicesOf(expertOfSlot: Int32Array, { slots, devices }: PlacementSizes): number[][] {
  return Array.from({ length: devices }, (_, d) => [
    ...expertOfSlot.subarray((d * slots) / devices, ((d + 1) * slots) / devices),
  ]);
}

const holdsTwice = (placement: ExpertPlacement, sizes: PlacementSizes): boolean =>
  devicesOf(placement.expertOfSlot, sizes).some((own) => new Set(own).size < own.length);

/** Everything that must be true of a placement. */
function expectSound(placement: ExpertPlacement, load: readonly number[], sizes: PlacementSizes) {
  const { expertOfSlot, offsets, slotOfReplica, deviceLoad } = placement;
  const { experts, slots, devices, nodes = 1, groups = nodes } = sizes;
  expect(expertOfSlot).toHaveLength(slots);
  expect(holdsTwice(placement, sizes)).toBe(false);
  const replicas = Array.from({ length: experts }, (_, e) => [
    ...slotOfReplica.subarray(offsets[e], offsets[e + 1]),
  ]);
  replicas.forEach((own, e) => {
    expect(own).toEqual([...expertOfSlot.keys()].filter((slot) => expertOfSlot[slot] === e));
    expect(own.length).toBeGreaterThan(0);
  });
  devicesOf(expertOfSlot, sizes).forEach((own, d) => {
    const expected = own.reduce((sum, e) => sum + load[e] / replicas[e].length, 0);
    expect(deviceLoad[d]).toBeCloseTo(expected, 6);
  });
  expect(deviceLoad).toHaveLength(devices);
  // A group stays on one node.
  const nodeOfGroup = new Map<number, number>();
  expertOfSlot.forEach((e, slot) => {
    const group = Math.floor((e * groups) / experts);
    const node = Math.floor((slot * nodes) / slots);
    expect(nodeOfGroup.get(group) ?? node).toBe(node);
    nodeOfGroup.set(group, node);
  });
}

describe('the published algorithm', () => {
  test.each([
    [exampleLoads[0], [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1]],
    [exampleLoads[1], [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1]],
  ])('its published example %#', (load, expected) => {
    expect([...placeExpertsGreedily(load, example).expertOfSlot]).toEqual(expected);
  });

  test('equal loads go to the lower index', () => {
    const even = new Array<number>(6).fill(1);
    const { expertOfSlot } = placeExpertsGreedily(even, { experts: 6, slots: 9, devices: 3 });
    // Of nine replicas three are whole and go first, one a device; halves follow in the order they were made.
    expect([...expertOfSlot]).toEqual([3, 0, 0, 4, 1, 1, 5, 2, 2]);
  });

  test('puts an expert twice on a device, ours does not', () => {
    const load = [1000, ...new Array<number>(7).fill(1)];
    const sizes = { experts: 8, slots: 16, devices: 4 };
    expect(holdsTwice(placeExpertsGreedily(load, sizes), sizes)).toBe(true);
    const ours = placeExperts(load, sizes);
    expectSound(ours, load, sizes);
    expect(ours.offsets[1]).toBe(4); // the hot expert is everywhere, once
    expect(top(ours)).toBeLessThan(top(placeExpertsGreedily(load, sizes)));
  });
});

test('as light as the published placement where that has an expert twice on a device, but need not', () => {
  const load = [2307, 1349, 1101, 425, 330, 654, 578, 438, 2642, 274, 468, 988];
  const sizes = { experts: 12, slots: 16, devices: 8 };
  const published = placeExpertsGreedily(load, sizes);
  expect(holdsTwice(published, sizes)).toBe(true);
  const ours = placeExperts(load, sizes);
  expectSound(ours, load, sizes);
  expect(top(ours)).toBeLessThanOrEqual(top(published) * (1 + 1e-12));
});

test('the published placement, taken apart: every expert still there, none twice on a device', () => {
  let [swapped, replaced] = [0, 0];
  for (let seed = 0; seed < 60; seed += 1) {
    const load = Float64Array.from(loads(6, seed));
    const sizes = { experts: 6, slots: 12, devices: 4 };
    const published = placeExpertsGreedily(load, sizes).expertOfSlot;
    const slots = published.slice();
    takeApart(slots, 4, load);
    for (const own of devicesOf(slots, sizes)) expect(new Set(own).size).toBe(3);
    expect(new Set(slots).size).toBe(6);
    if (slots.every((e, slot) => e === published[slot])) continue;
    if ([...slots].sort().join() === [...published].sort().join()) swapped += 1;
    else replaced += 1;
  }
  expect(swapped).toBeGreaterThan(0);
  expect(replaced).toBeGreaterThan(0);
});

describe.each(shapes)('%o', (sizes) => {
  test('sound, between the bound and the published load, the same every time', () => {
    for (let seed = 0; seed < 12; seed += 1) {
      const load = loads(sizes.experts, seed);
      const placement = placeExperts(load, sizes);
      expectSound(placement, load, sizes);
      expect(top(placement)).toBeGreaterThanOrEqual(placementBound(load, sizes) * (1 - 1e-12));
      const published = placeExpertsGreedily(load, sizes);
      if (!holdsTwice(published, sizes))
        expect(top(placement)).toBeLessThanOrEqual(top(published) * (1 + 1e-12));
      expect(placeExperts(load, sizes)).toEqual(placement);
    }
  });

  test('loads of zero', () => {
    const load = new Array<number>(sizes.experts).fill(0);
    const placement = placeExperts(load, sizes);
    expectSound(placement, load, sizes);
    expect(rebalanceExperts(placement.expertOfSlot, load, sizes).moves).toBe(0);
  });
});

test('the search finds what trying everything finds, for small sizes', () => {
  const sizes = { experts: 4, slots: 6, devices: 3 };
  for (let seed = 0; seed < 30; seed += 1) {
    const load = loads(4, seed);
    let best = Infinity;
    for (let code = 0; code < 4 ** 6; code += 1) {
      const slots = Array.from({ length: 6 }, (_, i) => Math.floor(code / 4 ** i) % 4);
      const devices = devicesOf(Int32Array.from(slots), sizes);
      if (devices.some(([a, b]) => a === b)) continue;
      const counts = load.map((_, e) => slots.filter((own) => own === e).length);
      if (counts.includes(0)) continue;
      const worst = devices.map((own) => own.reduce((sum, e) => sum + load[e] / counts[e], 0));
      best = Math.min(best, Math.max(...worst));
    }
    expect(top(placeExperts(load, sizes))).toBeCloseTo(best, 6);
  }
});

test('more tries never hurt', () => {
  const load = loads(64, 3);
  const tops = [0, 10, 40].map((tries) => top(placeExperts(load, prefill, { tries })));
  expect(tops[0]).toBeGreaterThanOrEqual(tops[1]);
  expect(tops[1]).toBeGreaterThanOrEqual(tops[2]);
  expect(tops[0]).toBeGreaterThan(tops[2]);
});

test('packing never puts two of an owner into a bin, also where only bins with it have room', () => {
  let repaired = 0;
  for (let seed = 0; seed < 300; seed += 1) {
    const load = Float64Array.from(loads(5, seed));
    const { counts, expertOf } = replicate(load, 12, 4);
    const weights = Float64Array.from(expertOf, (e) => load[e] / counts[e]);
    const places = packEvenly(weights, 4, expertOf);
    expect([...places].sort((a, b) => a - b)).toEqual([...places.keys()]);
    const bins = Array.from({ length: 4 }, () => new Set<number>());
    places.forEach((place, i) => bins[Math.floor(place / 3)].add(expertOf[i]));
    for (const bin of bins) expect(bin.size).toBe(3);
    const free = packEvenly(weights, 4);
    if (free.some((place, i) => place !== places[i])) repaired += 1;
  }
  expect(repaired).toBeGreaterThan(20);
});

describe('rebalancing', () => {
  const drift = (load: readonly number[], seed: number, size: number): number[] => {
    const random = randomFrom(seed);
    return load.map((value) => Math.round(value * Math.exp(size * (2 * random() - 1))));
  };
  const moved = (from: Int32Array, to: Int32Array, sizes: PlacementSizes): number => {
    const before = devicesOf(from, sizes);
    return devicesOf(to, sizes).flatMap((own, d) => own.filter((e) => !before[d].includes(e)))
      .length;
  };

  /** Whether a node's experts are more than it can have below a limit: groups go, 8 experts each way. */
  const groupsMustChange = (
    current: Int32Array,
    load: readonly number[],
    { slots, devices, nodes = 1 }: PlacementSizes,
    limit: number,
  ): boolean =>
    devicesOf(current, { experts: 64, slots, devices: nodes }).some((own) => {
      const experts = [...new Set(own)].map((e) => load[e]);
      const node = { experts: experts.length, slots: own.length, devices: devices / nodes };
      return placementBound(experts, node) > limit;
    });

  test('unchanged loads move nothing', () => {
    const load = loads(64, 1);
    const { expertOfSlot } = placeExperts(load, prefill);
    const again = rebalanceExperts(expertOfSlot, load, prefill);
    expect(again.moves).toBe(0);
    expect(again.expertOfSlot).toEqual(expertOfSlot);
  });

  test.each([prefill, { ...prefill, nodes: 1 }])(
    'drifted loads: near a new placement with a quarter of its moves (%o)',
    (sizes) => {
      let [moves, kept] = [0, 0];
      for (let seed = 0; seed < 8; seed += 1) {
        const load = loads(64, seed);
        const { expertOfSlot } = placeExperts(load, sizes);
        const next = drift(load, seed, 0.5);
        const fresh = placeExperts(next, sizes);
        const copy = expertOfSlot.slice();
        const result = rebalanceExperts(expertOfSlot, next, sizes);
        expect(expertOfSlot).toEqual(copy);
        expectSound(result, next, sizes);
        expect(top(result)).toBeLessThanOrEqual(1.05 * top(fresh) * (1 + 1e-12));
        expect(result.moves).toBe(moved(expertOfSlot, result.expertOfSlot, sizes));
        const anew = moved(expertOfSlot, fresh.expertOfSlot, sizes);
        moves += result.moves;
        if (groupsMustChange(expertOfSlot, next, sizes, 1.05 * top(fresh))) continue;
        expect(result.moves).toBeLessThanOrEqual(0.25 * anew);
        kept += 1;
      }
      expect(moves).toBeGreaterThan(0);
      expect(kept).toBeGreaterThanOrEqual(6);
    },
  );

  test('nodes exchange groups when one has become too busy', () => {
    // Groups 0 … 3 are busy, then 0, 1, 4 and 5: each node should have two of them.
    const sizes = { experts: 16, slots: 20, devices: 4, nodes: 2, groups: 8 };
    const busy = (...groups: number[]): number[] =>
      Array.from({ length: 16 }, (_, e) => (groups.includes(Math.floor(e / 2)) ? 100 + e : 10));
    const { expertOfSlot } = placeExperts(busy(0, 1, 2, 3), sizes);
    const groupsOf = (slots: Int32Array): Set<number> =>
      new Set([...slots.subarray(0, 10)].map((e) => Math.floor(e / 2)));
    const here = [...groupsOf(expertOfSlot)];
    const next = busy(...here);
    const result = rebalanceExperts(expertOfSlot, next, sizes);
    expectSound(result, next, sizes);
    expect(top(result)).toBeLessThanOrEqual(1.05 * top(placeExperts(next, sizes)));
    const still = [...groupsOf(result.expertOfSlot)].filter((group) => here.includes(group));
    expect(still).toHaveLength(2);
    expect(result.moves).toBeLessThan(20);
  });

  test('a new placement where small changes do not reach the tolerance, on devices that hold some of it', () => {
    const load = loads(64, 2);
    const { expertOfSlot } = placeExperts(load, prefill);
    const next = loads(64, 77);
    const fresh = placeExperts(next, prefill);
    const result = rebalanceExperts(expertOfSlot, next, prefill, { tolerance: 0 });
    expectSound(result, next, prefill);
    expect(top(result)).toBeLessThanOrEqual(top(fresh) * (1 + 1e-12));
    expect(result.moves).toBe(moved(expertOfSlot, result.expertOfSlot, prefill));
    expect(result.moves).toBeLessThan(0.8 * moved(expertOfSlot, fresh.expertOfSlot, prefill));
  });

  test('unrelated loads: a quarter of the moves where any expert may be anywhere', () => {
    const sizes = { ...prefill, nodes: 1 };
    const { expertOfSlot } = placeExperts(loads(64, 2), sizes);
    const next = loads(64, 77);
    const fresh = placeExperts(next, sizes);
    const result = rebalanceExperts(expertOfSlot, next, sizes);
    expectSound(result, next, sizes);
    expect(top(result)).toBeLessThanOrEqual(1.05 * top(fresh) * (1 + 1e-12));
    expect(result.moves).toBeLessThanOrEqual(0.25 * moved(expertOfSlot, fresh.expertOfSlot, sizes));
  });

  test('experts return to devices that held them, in place of a replica or of what changes places with them', () => {
    const layout = (slots: number[]) => ({
      slots: Int32Array.from(slots),
      devices: 3,
      load: Float64Array.of(6, 6, 6, 6),
    });
    const before = Int32Array.of(0, 1, 2, 3, 0, 1);
    // Experts 1 and 2 changed places; and 3 has a replica where 1 had one. Both spare a device the whole of 2 and 3.
    for (const slots of [
      [0, 2, 1, 3, 0, 1],
      [0, 1, 2, 3, 0, 3],
    ]) {
      const [free, bound] = [layout(slots), layout(slots)];
      expect(restore(free, before, 100).moves).toBe(0);
      expect(free.slots).toEqual(before);
      // Not where a device would get as much as the target.
      expect(restore(bound, before, 12)).toEqual({ top: 9, moves: 1 });
    }
  });

  test('assignments have the largest sum of all', () => {
    const orders = (of: number[]): number[][] =>
      of.length === 0
        ? [[]]
        : of.flatMap((c) => orders(of.filter((other) => other !== c)).map((rest) => [c, ...rest]));
    for (let seed = 0; seed < 40; seed += 1) {
      const random = randomFrom(seed);
      const n = 1 + (seed % 6);
      const values = Array.from({ length: n }, () =>
        Array.from({ length: n }, () => Math.floor(6 * random())),
      );
      const total = (order: number[]): number =>
        order.reduce((sum, c, row) => sum + values[row][c], 0);
      const found = assign(values);
      expect([...found].sort()).toEqual([...values.keys()]);
      expect(total(found)).toBe(Math.max(...orders([...values.keys()]).map(total)));
    }
  });

  test.each([prefill, { ...prefill, nodes: 1 }])(
    'a placement whose nodes, devices and slots are in another order is the same one (%o)',
    (sizes) => {
      const load = loads(64, 5);
      const { expertOfSlot } = placeExperts(load, sizes);
      const devices = devicesOf(expertOfSlot, sizes);
      // The last node first, and so are its devices and their slots.
      const turned = Int32Array.from(devices.reverse().flatMap((own) => own.reverse()));
      const full = checkPlacement(load, sizes, true);
      expect(matchDevices(turned, expertOfSlot, full)).toEqual(expertOfSlot);
    },
  );

  test('what stays on a device stays in its slot', () => {
    const kept = keepSlots(Int32Array.of(3, 1, 0, 4, 2, 5), Int32Array.of(0, 1, 2, 3, 4, 5), 3);
    expect([...kept]).toEqual([0, 1, 3, 2, 4, 5]);
  });
});

describe('refused:', () => {
  const load = exampleLoads[0];
  const refusal = (path: string): unknown =>
    expect.objectContaining({
      code: 'ERR_BALEEN_ROUTER_SIZES',
      path,
      hint: expect.any(String) as string,
    });

  test.each<[string, Partial<PlacementSizes>]>([
    ['experts', { experts: 0 }],
    ['load', { experts: 24 }],
    ['groups', { groups: 5 }],
    ['nodes', { nodes: 3 }],
    ['nodes', { nodes: 2, devices: 1 }],
    ['devices', { devices: 6 }],
    ['slots', { slots: 8 }],
    ['slots', { slots: 56 }],
  ])('%s', (path, change) => {
    const sizes = { ...example, ...change };
    expect(() => placeExperts(load, sizes)).toThrow(refusal(path));
    expect(() => placementBound(load, sizes)).toThrow(refusal(path));
    if (sizes.slots === 56) expectMore(sizes);
    else expect(() => placeExpertsGreedily(load, sizes)).toThrow(refusal(path));
  });

  /** The published algorithm has no such limit. */
  function expectMore(sizes: PlacementSizes): void {
    expect(placeExpertsGreedily(load, sizes).expertOfSlot).toHaveLength(56);
    expect(() => placeExperts(load, sizes)).toThrow('more than the 6 experts of its node');
  }

  test.each([NaN, -1, Infinity])('a load of %d', (value) => {
    expect(() => placeExperts([...load.slice(0, 11), value], example)).toThrow(refusal('load[11]'));
  });

  test.each([NaN, -5, 1.5, Infinity])('%d tries', (tries) => {
    expect(() => placeExperts(load, example, { tries })).toThrow(refusal('tries'));
  });

  test.each([NaN, -0.1, Infinity])('a tolerance of %d', (tolerance) => {
    const { expertOfSlot } = placeExperts(load, example);
    expect(() => rebalanceExperts(expertOfSlot, load, example, { tolerance })).toThrow(
      refusal('tolerance'),
    );
  });

  test('what is no placement of these sizes', () => {
    const { expertOfSlot } = placeExperts(load, example);
    const changed = (slot: number, e: number): Int32Array =>
      expertOfSlot.map((was, i) => (i === slot ? e : was));
    const attempt = (current: Int32Array) => () => rebalanceExperts(current, load, example);
    expect(attempt(new Int32Array(4))).toThrow(refusal('current'));
    expect(attempt(changed(3, 12))).toThrow(refusal('current[3]'));
    expect(attempt(changed(1, expertOfSlot[0]))).toThrow(refusal('current[1]'));
    // An expert of the other node's groups.
    expect(attempt(changed(0, expertOfSlot[15]))).toThrow(refusal('current'));
  });
});
