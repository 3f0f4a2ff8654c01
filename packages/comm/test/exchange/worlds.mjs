// Tokens, their experts and how these lie on ranks, for the cases of dispatch and combine; and what every rank must get.
//
// Legend: n ranks, r this one, T tokens of a rank, K experts a token, E experts.
import assert from 'node:assert/strict';

import { ExpertExchange } from '@baleen/comm';

/** Numbers in [0, 1) that follow from a seed. */
export function randomFrom(seed) {
  let state = seed | 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
}

/** Ways to choose experts: evenly, one rank gets nearly all, few choices at all, and ranks without tokens or without visitors. */
export const loads = {
  even: { tokens: () => 37, choose: (random, experts) => Math.floor(random() * experts) },
  unbalanced: {
    tokens: (rank) => 20 + 13 * rank,
    choose: (random, experts) => Math.floor(random() ** 4 * experts),
  },
  masked: {
    tokens: () => 25,
    choose: (random, experts) => (random() < 0.7 ? -1 : Math.floor(random() * experts)),
  },
  'with a rank without tokens': {
    tokens: (rank) => (rank % 2 === 0 ? 0 : 9),
    choose: (random, experts) => Math.floor(random() * experts),
  },
  'to the last expert only': {
    tokens: () => 5,
    choose: (_, experts, j) => (j === 0 ? experts - 1 : -1),
  },
  'of nobody': { tokens: () => 0, choose: () => -1 },
};

/** Chosen experts of a rank [T, K], none twice for a token. */
export function chosen(load, rank, k, experts) {
  const random = randomFrom(7919 * rank + 13);
  const tokens = load.tokens(rank);
  const indices = new Int32Array(tokens * k).fill(-1);
  for (let t = 0; t < tokens; t += 1)
    for (let j = 0; j < k; j += 1) {
      const expert = load.choose(random, experts, j);
      if (!indices.subarray(t * k, t * k + j).includes(expert)) indices[t * k + j] = expert;
    }
  return indices;
}

/** What a rank's experts must get: `rank`, `token`, `slot` of each row, null in padding; and where each expert begins. */
export function expected(all, local, k, alignment) {
  const rows = [];
  const offsets = [0];
  const counts = [];
  const bySource = [];
  for (const expert of local) {
    const before = rows.length;
    all.forEach((indices, rank) => {
      bySource.push(rows.length);
      indices.forEach((of, slot) => {
        if (of === expert) rows.push({ rank, token: Math.floor(slot / k), slot });
      });
    });
    counts.push(rows.length - before);
    while (rows.length % alignment !== 0) rows.push(null);
    offsets.push(rows.length);
  }
  return { rows, offsets, counts, bySource: [...bySource, rows.length] };
}

/** Value c of a token: it names rank, token and column, exactly in BF16. */
export const value = (rank, token, c) => ((rank * 31 + token * 7 + c * 3) % 255) - 127;
const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);
export const toBf16 = (x) => {
  float[0] = x;
  return (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16;
};
const fromBf16 = (bits) => {
  word[0] = bits << 16;
  return float[0];
};
export const rounded = (x) => fromBf16(toBf16(x));

export const hidden = 200;
export const k = 4;

/** Every load, over every shape of nodes that the ranks have, as `check(world)`. */
export function everywhere(group, n, r, check) {
  const shapes = [n, 2, 4].filter(
    (devices, i, all) => n % devices === 0 && all.indexOf(devices) === i,
  );
  for (const devicesPerNode of shapes)
    for (const [name, load] of Object.entries(loads)) {
      const alignment = name === 'masked' ? 16 : 1;
      const experts = 3 * n;
      // Experts dealt round, or neighbours together.
      const rankOfExpert =
        name === 'unbalanced'
          ? Int32Array.from({ length: experts }, (_, e) => (e * 7 + 1) % n)
          : undefined;
      const exchange = new ExpertExchange(group, {
        ...{ experts, expertsPerToken: k, hidden, devicesPerNode, alignment },
        ...(rankOfExpert && { rankOfExpert }),
      });
      const all = Array.from({ length: n }, (_, rank) => chosen(load, rank, k, experts));
      const route = exchange.route(all[r]);
      const wanted = expected(all, exchange.localExperts, k, alignment);
      const what = `${name}, ${devicesPerNode} of ${n} ranks a node`;
      check({
        what,
        exchange,
        route,
        all,
        wanted,
        tokens: all[r].length / k,
        experts,
        rankOfExpert,
      });
    }
}

export const filled = (Kind, tokens, of, cols = hidden) =>
  Kind.from({ length: tokens * cols }, (_, i) => of(Math.floor(i / cols), i % cols));

export function same(found, wanted, what) {
  assert.equal(found.length, wanted.length, what);
  for (let i = 0; i < wanted.length; i += 1)
    if (!Object.is(found[i], wanted[i]))
      assert.fail(`${what}: element ${i} is ${found[i]}, expected ${wanted[i]}`);
}

/** 1 − 2⟨x, y⟩ / (|x|² + |y|²), as DeepEP measures. */
export function difference(x, y) {
  let [xy, xx, yy] = [0, 0, 0];
  x.forEach((value, i) => {
    xy += value * y[i];
    xx += value * value;
    yy += y[i] * y[i];
  });
  return xx + yy === 0 ? 0 : 1 - (2 * xy) / (xx + yy);
}

/** Codes and power-of-two scales of E4M3, made without a codec: codes of −8 … 8 are enough to name a row. */
export function quantized(rank, tokens) {
  const tiles = Math.ceil(hidden / 128);
  return {
    codes: filled(Uint8Array, tokens, (t, c) => (rank * 31 + t * 7 + c * 3) & 255),
    scales: filled(Float32Array, tokens, (t, c) => 2 ** (((rank + t + c) % 13) - 6), tiles),
  };
}
