// Placement of experts on devices (EPLB) on 1,000 seeded loads, each placed hierarchically and globally: ours beside
// DeepSeek's published algorithm, and rebalancing beside placing anew.
//
//   node bench/eplb.mjs                 all 1,000
//   node bench/eplb.mjs --loads 60      fewer
//
// Needs a build (`npx -y pnpm@12 build`). Prints tables, every case in which ours is worse, and every rebalance that takes
// more than a quarter of a new placement's moves; the last line is JSON. Fails where ours is worse although the published
// placement holds no expert twice on a device, or although another one that does not is as good; where a rebalance is above
// the tolerance; and where loads drifted and a quarter of the moves was not enough, unless groups have to change
// nodes, a node's mean load is within 0.5 % of what is allowed, or trying everything (12 experts) finds nothing.
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

import {
  placeExperts,
  placeExpertsGreedily,
  placementBound,
  rebalanceExperts,
} from '../packages/moe-router/dist/index.js';
import { mulberry32 } from '../packages/tensor/dist/index.js';

const { values } = parseArgs({ options: { loads: { type: 'string', default: '1000' } } });
const count = Number(values.loads);

const shapes = [
  { experts: 256, slots: 288, devices: 32, nodes: 4, groups: 8 }, // V3's prefill: 9 a device
  { experts: 256, slots: 320, devices: 64, nodes: 8, groups: 8 },
  { experts: 64, slots: 80, devices: 16, nodes: 2, groups: 8 },
  { experts: 64, slots: 72, devices: 8, nodes: 2, groups: 8 },
  { experts: 12, slots: 16, devices: 8, nodes: 2, groups: 4 }, // the published example's
];

/** @param {() => number} random a standard normal number */
const normal = (random) =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

const kinds = {
  // The k-th most popular expert gets 1 / k^s, s from 0.4 to 1.6, in random order.
  zipf: (random, experts) => {
    const exponent = 0.4 + 1.2 * random();
    const order = Array.from({ length: experts }, (_, e) => ({ e, key: random() }));
    const load = new Array(experts);
    order
      .sort((a, b) => a.key - b.key)
      .forEach(({ e }, k) => (load[e] = Math.round(1e6 / (k + 1) ** exponent)));
    return load;
  },
  // exp(σ · normal), σ from 0.3 to 1.5.
  lognormal: (random, experts) => {
    const sigma = 0.3 + 1.2 * random();
    return Array.from({ length: experts }, () =>
      Math.round(1e3 * Math.exp(sigma * normal(random))),
    );
  },
  // One expert gets nearly all.
  'one-hot': (random, experts) => {
    const hot = Math.floor(random() * experts);
    return Array.from({ length: experts }, (_, e) => (e === hot ? 1e5 : Math.round(10 * random())));
  },
};

/** How loads change before a rebalance. */
const drifts = {
  'e^(0.1·normal)': (load, random) =>
    load.map((value) => Math.round(value * Math.exp(0.1 * normal(random)))),
  'e^(0.3·normal)': (load, random) =>
    load.map((value) => Math.round(value * Math.exp(0.3 * normal(random)))),
  unrelated: (load, random, kind) => kinds[kind](random, load.length),
};

const top = ({ deviceLoad }) => Math.max(...deviceLoad);
const percent = (value) => `${(100 * value).toFixed(2)} %`;
const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
const devicesOf = ({ expertOfSlot }, { slots, devices }) =>
  Array.from({ length: devices }, (_, d) =>
    expertOfSlot.subarray((d * slots) / devices, ((d + 1) * slots) / devices),
  );
const holdsTwice = (placement, sizes) =>
  devicesOf(placement, sizes).some((own) => new Set(own).size < own.length);
const movesBetween = (from, to, sizes) => {
  const before = devicesOf(from, sizes);
  return devicesOf(to, sizes)
    .map((own, d) => own.filter((e) => !before[d].includes(e)).length)
    .reduce((sum, moves) => sum + moves, 0);
};

/**
 * Whether experts fit on devices of two slots without one twice on a device and without a load above `limit`: tries all
 * numbers of replicas, and for each all pairs, the heaviest replica first.
 */
function pairsExist(load, devices, limit) {
  const counts = new Array(load.length).fill(1);
  const pair = (items) => {
    if (items.length === 0) return true;
    const [heaviest, ...others] = items;
    return others.some(
      (e, i) =>
        e !== heaviest &&
        e !== others[i - 1] &&
        load[heaviest] / counts[heaviest] + load[e] / counts[e] <= limit &&
        pair(others.filter((_, j) => j !== i)),
    );
  };
  const spread = (from, left) => {
    if (left === 0)
      return pair(
        counts
          .flatMap((replicas, e) => new Array(replicas).fill(e))
          .sort((a, b) => load[b] / counts[b] - load[a] / counts[a] || a - b),
      );
    for (let e = from; e < load.length; e += 1) {
      counts[e] += 1;
      if (counts[e] <= devices && spread(e, left - 1)) return true;
      counts[e] -= 1;
    }
    return false;
  };
  return spread(0, 2 * devices - load.length);
}

/** The same for the published example's sizes, where four groups go to one or two nodes. */
function fitExists(load, { experts, devices, nodes }, limit) {
  if (nodes === 1) return pairsExist(load, devices, limit);
  const size = experts / 4;
  const side = (groups) => groups.flatMap((g) => load.slice(g * size, (g + 1) * size));
  return [1, 2, 3].some((partner) =>
    [[0, partner], [1, 2, 3].filter((g) => g !== partner)].every((groups) =>
      pairsExist(side(groups), devices / 2, limit),
    ),
  );
}

/** Whether at most `most` copies bring a node below `limit`: each goes where the busiest device needs one, in every way. */
function fewCopiesDo(slots, devices, load, limit, most) {
  const capacity = slots.length / devices;
  const deviceOf = (slot) => Math.floor(slot / capacity);
  const on = (list, d) => list.slice(d * capacity, (d + 1) * capacity);
  const seen = new Set();
  const search = (now, left) => {
    const key = now.join();
    if (seen.has(key)) return false;
    seen.add(key);
    const counts = new Array(load.length).fill(0);
    for (const e of now) counts[e] += 1;
    const missing = counts.indexOf(0);
    const sums = new Array(devices).fill(0);
    now.forEach((e, slot) => (sums[deviceOf(slot)] += load[e] / counts[e]));
    const busiest = sums.indexOf(Math.max(...sums));
    if (missing < 0 && sums[busiest] <= limit) return true;
    if (left === 0) return false;
    // Something else in a slot of the busiest device, or one of its experts somewhere else as well.
    const comes = (slot) => {
      if (missing >= 0) return [missing];
      return deviceOf(slot) === busiest ? load.keys() : on(now, busiest);
    };
    for (const [slot, was] of slots.entries()) {
      if (now[slot] !== was) continue;
      const d = deviceOf(slot);
      for (const e of comes(slot))
        if (!on(slots, d).includes(e) && !on(now, d).includes(e))
          if (
            search(
              now.map((x, i) => (i === slot ? e : x)),
              left - 1,
            )
          )
            return true;
    }
    return false;
  };
  return search(slots, most);
}

/** A node whose devices may lie no more than this share above their mean is full. */
const full = 0.005;

/** Why a placement cannot, or can hardly, get below `limit` with at most `most` copies; null where it should. */
function whyNot(current, load, { experts, slots, devices, nodes, groups }, limit, most) {
  let copies = 0;
  for (let n = 0; n < nodes; n += 1) {
    const own = [...current.subarray((n * slots) / nodes, ((n + 1) * slots) / nodes)];
    const names = [...new Set(own)];
    const loads = names.map((e) => load[e]);
    const node = { experts: names.length, slots: own.length, devices: devices / nodes };
    const bound = placementBound(loads, node);
    if (bound > limit) return `groups change nodes: ${(2 * experts) / groups} copies at least`;
    // Nothing but a nearly perfect balance of the node would do, and that moves many of its experts.
    if (nodes > 1 && bound > (1 - full) * limit) return 'a node is full';
    if (experts > 12) continue;
    const local = own.map((e) => names.indexOf(e));
    let few = 0;
    while (copies + few <= most && !fewCopiesDo(local, node.devices, loads, limit, few)) few += 1;
    copies += few;
    if (copies > most) return 'all tried';
  }
  return null;
}

const cells = new Map();
const cellOf = (...names) => {
  const name = names.join(' · ');
  if (!cells.has(name)) cells.set(name, []);
  return cells.get(name);
};
/** Milliseconds by shape. */
const timeOf = ({ experts, slots, devices }, policy) => {
  const name = `${experts} experts, ${slots} slots, ${devices} devices · ${policy}`;
  if (!shapeTimes.has(name)) shapeTimes.set(name, { place: [], rebalance: [] });
  return shapeTimes.get(name);
};
const moves = new Map();
const worse = [];
const many = [];
const shapeTimes = new Map();
for (let index = 0; index < count; index += 1) {
  const random = mulberry32(index);
  const kind = Object.keys(kinds)[index % 3];
  const shape = shapes[Math.floor(index / 3) % shapes.length];
  const load = kinds[kind](random, shape.experts);
  const changed = Object.entries(drifts).map(([name, drift]) => [name, drift(load, random, kind)]);
  for (const [policy, sizes] of [
    ['hierarchical', shape],
    ['global', { ...shape, nodes: 1, groups: 1 }],
  ]) {
    const published = placeExpertsGreedily(load, sizes);
    const begin = performance.now();
    const ours = placeExperts(load, sizes);
    const ms = performance.now() - begin;
    if (holdsTwice(ours, sizes)) throw new Error('an expert is twice on a device');
    const bound = placementBound(load, sizes);
    const one = {
      better: 1 - top(ours) / top(published),
      publishedGap: top(published) / bound - 1,
      gap: top(ours) / bound - 1,
      twice: holdsTwice(published, sizes),
    };
    cellOf(kind, policy).push(one);
    const time = timeOf(sizes, policy);
    time.place.push(ms);
    if (top(ours) > top(published) * (1 + 1e-12))
      worse.push({
        index,
        kind,
        policy,
        ...sizes,
        by: percent(-one.better),
        twice: one.twice,
        // Could it be helped? Only for the smallest sizes can all placements be tried.
        fitExists: sizes.experts === 12 ? fitExists(load, sizes, top(published)) : null,
      });
    for (const [name, next] of changed) {
      const anew = placeExperts(next, sizes);
      const begin = performance.now();
      const stay = rebalanceExperts(ours.expertOfSlot, next, sizes);
      time.rebalance.push(performance.now() - begin);
      // The baseline: the moves of a new placement, as placeExperts gives it.
      const all = movesBetween(ours, anew, sizes);
      const key = `${name} · ${policy}`;
      if (!moves.has(key)) moves.set(key, []);
      const load = top(stay) / top(anew);
      const within = stay.moves <= 0.25 * all;
      moves.get(key).push({ load, share: all === 0 ? 0 : stay.moves / all, within });
      const limit = 1.05 * top(anew);
      const above = load > 1.05 * (1 + 1e-12);
      if (within && !above) continue;
      const why = whyNot(ours.expertOfSlot, next, sizes, limit, Math.floor(0.25 * all));
      many.push({ index, kind, policy, drift: name, ...sizes, moves: stay.moves, all, above, why });
    }
  }
}

console.table(
  Object.fromEntries(
    [...cells].map(([name, list]) => [
      name,
      {
        n: list.length,
        'published holds one twice': list.filter(({ twice }) => twice).length,
        'load below published': percent(mean(list.map(({ better }) => better))),
        'published over bound': percent(mean(list.map(({ publishedGap }) => publishedGap))),
        'ours over bound': percent(mean(list.map(({ gap }) => gap))),
      },
    ]),
  ),
);
console.table(
  Object.fromEntries(
    [...moves].map(([name, list]) => [
      name,
      {
        n: list.length,
        'load over a new placement': percent(mean(list.map(({ load }) => load)) - 1),
        worst: percent(Math.max(...list.map(({ load }) => load)) - 1),
        'moves, share of a new placement': percent(mean(list.map(({ share }) => share))),
        'most moves': percent(Math.max(...list.map(({ share }) => share))),
        'above a quarter': list.filter(({ within }) => !within).length,
      },
    ]),
  ),
);
console.table(
  Object.fromEntries(
    [...shapeTimes].map(([name, { place, rebalance }]) => [
      name,
      { 'ms to place': mean(place).toFixed(1), 'ms to rebalance': mean(rebalance).toFixed(1) },
    ]),
  ),
);
console.log(`worse than published: ${worse.length}`);
for (const one of worse) console.log(JSON.stringify(one));
const avoidable = worse.filter((one) => !one.twice || one.fitExists !== false);
console.log(`more than a quarter of a new placement's moves: ${many.length}`);
for (const one of many) console.log(JSON.stringify(one));
const missed = many.filter(({ drift, above, why }) => above || (drift !== 'unrelated' && !why));
console.log(
  JSON.stringify({
    loads: count,
    worse: worse.length,
    avoidable: avoidable.length,
    better: mean([...cells.values()].flat().map(({ better }) => better)),
    gap: mean([...cells.values()].flat().map(({ gap }) => gap)),
    publishedGap: mean([...cells.values()].flat().map(({ publishedGap }) => publishedGap)),
    many: many.length,
    missed: missed.length,
  }),
);
if (avoidable.length + missed.length > 0) process.exitCode = 1;
