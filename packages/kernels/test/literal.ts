// The contract (src/kernels.ts, src/contract/) a second time, as literally as it can be read: plain functions of numbers,
// one element at a time, in double precision except where the contract itself rounds. Nothing here is shared with the
// reference.

/** Shapes of a strided read. */
type Read = (row: number, col: number) => number;

/** Nearest value to x among sorted `values`, ties to the even position; beyond the last, the last. */
export function nearest(values: readonly number[], x: number): number {
  let best = 0;
  for (let i = 0; i < values.length; i += 1) {
    const [d, least] = [Math.abs(values[i] - x), Math.abs(values[best] - x)];
    if (d < least || (d === least && i % 2 === 0)) best = i;
  }
  return best;
}

/** Magnitudes of a format by code: powers of two from `low` to `high`, each in `steps`, multiples of a step below them. */
export function magnitudesOf(low: number, high: number, steps: number): number[] {
  const list = Array.from({ length: steps }, (_, i) => (i / steps) * 2 ** low);
  for (let exponent = low; exponent <= high; exponent += 1)
    for (let i = 0; i < steps; i += 1) list.push((1 + i / steps) * 2 ** exponent);
  return list;
}

/** The magnitudes of E4M3FN by code 0 … 126; the next code is NaN. */
export const e4m3Magnitudes: readonly number[] = magnitudesOf(-6, 8, 8).slice(0, 127);

/** Magnitudes of E5M2 codes 0 … 0x7b; those above are infinity and NaN. */
export const e5m2Magnitudes: readonly number[] = magnitudesOf(-14, 15, 4);

/** Magnitudes of E5M6 codes 0 … 0x7bf; those above are infinity and NaN. */
export const e5m6Magnitudes: readonly number[] = magnitudesOf(-14, 15, 64);

/** One element of `gemm` on BF16: promotion of partial sums every 128, each step rounded to FP32. */
export function exactElement(
  k: number,
  a: (kk: number) => number,
  b: (kk: number) => number,
): number {
  const fl = Math.fround;
  let sum = 0;
  for (let block = 0; block * 128 < k; block += 1) {
    let acc = 0;
    for (let kk = block * 128; kk < Math.min(k, block * 128 + 128); kk += 1)
      acc = fl(acc + fl(a(kk) * b(kk)));
    sum = fl(sum + acc);
  }
  return sum;
}

/** One element of an FP32 product. */
export function element(k: number, a: (kk: number) => number, b: (kk: number) => number): number {
  let sum = 0;
  for (let kk = 0; kk < k; kk += 1) sum += a(kk) * b(kk);
  return sum;
}

/** y and rstd of RMSNorm. */
export function rmsNorm(
  rows: number,
  cols: number,
  epsilon: number,
  x: Read,
  weight: (c: number) => number,
): { y: number[]; rstd: number[] } {
  const [y, rstd]: [number[], number[]] = [[], []];
  for (let r = 0; r < rows; r += 1) {
    let squares = 0;
    for (let c = 0; c < cols; c += 1) squares += x(r, c) ** 2;
    rstd.push(1 / Math.sqrt(squares / cols + epsilon));
    for (let c = 0; c < cols; c += 1) y.push(x(r, c) * rstd[r] * weight(c));
  }
  return { y, rstd };
}

export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

export function swiglu(gate: number, up: number): number {
  return gate * sigmoid(gate) * up;
}

interface AttentionShape {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  queryWidth: number;
  valueWidth: number;
  scale: number;
  /** Borders of documents; without, a sequence is one. */
  borders?: ArrayLike<number>;
}

/** out and lse of causal attention; `round` is applied to probabilities, relative to the row's largest. */
export function attention(
  s: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  round: (p: number) => number = (p) => p,
): { out: number[]; lse: number[] } {
  const out = new Array<number>(s.batch * s.queries * s.heads * s.valueWidth).fill(0);
  const lse = new Array<number>(s.batch * s.heads * s.queries).fill(0);
  const { borders } = s;
  /** The first key of the document that a query is in. */
  const begin = (i: number): number => {
    let first = 0;
    for (let d = 0; borders && d < borders.length; d += 1) if (borders[d] <= i) first = borders[d];
    return first;
  };
  for (let b = 0; b < s.batch; b += 1)
    for (let h = 0; h < s.heads; h += 1)
      for (let i = 0; i < s.queries; i += 1) {
        const scores: number[] = [];
        const first = begin(i);
        for (let j = first; j <= s.keys - s.queries + i; j += 1) {
          let score = 0;
          for (let d = 0; d < s.queryWidth; d += 1)
            score +=
              q[((b * s.queries + i) * s.heads + h) * s.queryWidth + d] *
              k[((b * s.keys + j) * s.heads + h) * s.queryWidth + d];
          scores.push(score * s.scale);
        }
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const total = weights.reduce((sum, w) => sum + w, 0);
        lse[(b * s.heads + h) * s.queries + i] = top + Math.log(total);
        for (let d = 0; d < s.valueWidth; d += 1)
          out[((b * s.queries + i) * s.heads + h) * s.valueWidth + d] =
            weights.reduce(
              (sum, w, j) =>
                sum + round(w) * v[((b * s.keys + first + j) * s.heads + h) * s.valueWidth + d],
              0,
            ) / total;
      }
  return { out, lse };
}

/** −log softmax(logits)[target], 0 without a target. */
export function crossEntropy(logits: readonly number[], target: number): number {
  if (target === -1) return 0;
  const top = Math.max(...logits);
  const total = logits.reduce((sum, z) => sum + Math.exp(z - top), 0);
  return top + Math.log(total) - logits[target];
}

/** The gate's choice for one token (§2.1.2). */
export function topK(
  biased: readonly number[],
  k: number,
  groups: number,
  groupsKept: number,
  groupBest = 2,
): number[] {
  const clean = biased.map((s) => (Number.isNaN(s) ? -Infinity : s));
  const size = clean.length / groups;
  const byValue =
    (value: (i: number) => number) =>
    (i: number, j: number): number => {
      const [a, b] = [value(i), value(j)];
      return a === b ? i - j : a > b ? -1 : 1;
    };
  const groupScores = Array.from({ length: groups }, (_, g) => {
    const best = clean.slice(g * size, (g + 1) * size).sort(byValueDescending);
    return best.slice(0, groupBest).reduce((sum, s) => Math.fround(sum + s));
  });
  const kept = new Set(
    groupScores
      .map((_, g) => g)
      .sort(byValue((g) => groupScores[g]))
      .slice(0, groupsKept),
  );
  const masked = clean.map((s, e) => (kept.has(Math.floor(e / size)) ? s : -Infinity));
  return masked
    .map((_, e) => e)
    .sort(byValue((e) => masked[e]))
    .slice(0, k);
}

function byValueDescending(a: number, b: number): number {
  return a === b ? 0 : a > b ? -1 : 1;
}

/** The gate's weights for one token. */
export function gateWeights(
  scores: readonly number[],
  chosen: readonly number[],
  scaling: number,
  normalize: boolean,
): number[] {
  const sum = chosen.reduce((total, e) => total + scores[e], 0) + 1e-20;
  return chosen.map((e) => (scaling * scores[e]) / (normalize ? sum : 1));
}

/** Σᵢ fᵢPᵢ of one sequence (eq. 17–20). */
export function balance(
  scores: readonly (readonly number[])[],
  chosen: readonly (readonly number[])[],
): number {
  const [length, experts, k] = [scores.length, scores[0].length, chosen[0].length];
  let total = 0;
  for (let i = 0; i < experts; i += 1) {
    const times = chosen.filter((row) => row.includes(i)).length;
    const f = (experts / (k * length)) * times;
    const p = scores.reduce((sum, s) => sum + s[i] / s.reduce((a, b) => a + b, 0), 0) / length;
    total += f * p;
  }
  return total;
}

/** d f / d x by central differences: f of a copy of x with one element moved. */
export function numericGradient(
  x: readonly number[],
  f: (x: readonly number[]) => number,
): number[] {
  const h = 1e-5;
  return x.map((value, i) => {
    const moved = [...x];
    moved[i] = value + h;
    const up = f(moved);
    moved[i] = value - h;
    return (up - f(moved)) / (2 * h);
  });
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The FP32 number of a bit pattern. */
export function floatOf(pattern: number): number {
  bits[0] = pattern;
  return float[0];
}

/** The FP32 value some steps away from a positive one. */
export function neighbour(x: number, steps: number): number {
  float[0] = x;
  bits[0] += steps;
  return float[0];
}
