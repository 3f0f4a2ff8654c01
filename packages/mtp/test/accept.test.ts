// Acceptance of drafts loses nothing: texts made with drafts are distributed as the main model's own, counted against exact
// probabilities of every text; greedy ones are the same text.
import { describe, expect, test } from 'vitest';

import { randomFrom, values } from '../../../test/support';
import { type Acceptance, accept, draw, probabilities, type SamplingShape } from '../src/index';

/** A model over a small vocabulary: the distribution after a text, which depends on its last two tokens. */
class Chain {
  private readonly rows: Float32Array[];

  constructor(
    readonly vocab: number,
    seed: number,
    shape: SamplingShape,
    spread = 2,
  ) {
    this.rows = Array.from({ length: vocab * vocab }, (_, i) =>
      probabilities(values(vocab, 100 * seed + i, spread), { vocab }, shape),
    );
  }

  after(text: readonly number[]): Float32Array {
    return this.rows[(text.at(-2) ?? 0) * this.vocab + (text.at(-1) ?? 0)];
  }

  likeliest(text: readonly number[]): number {
    const row = this.after(text);
    return row.indexOf(Math.max(...row));
  }
}

/** Where drafts come from: drawn from a model, its likeliest, or always the same token. */
type Drafting = 'drawn' | 'likeliest' | 'fixed';

/** Makes `length` tokens and counts what was drafted and accepted. */
function speculate(
  target: Chain,
  draft: Chain,
  drafting: Drafting,
  depth: number,
  length: number,
  random: () => number,
): { text: number[]; passes: number; accepted: number } {
  const { vocab } = target;
  const drafts = new Int32Array(depth);
  const q = new Float32Array(depth * vocab);
  const p = new Float32Array((depth + 1) * vocab);
  const out: Acceptance = { accepted: 0, token: 0 };
  const text: number[] = [];
  let [passes, accepted] = [0, 0];
  while (text.length < length) {
    const ahead = [...text];
    for (let k = 0; k < depth; k += 1) {
      const row = draft.after(ahead);
      q.set(row, k * vocab);
      drafts[k] =
        drafting === 'drawn'
          ? draw(row, random())
          : drafting === 'likeliest'
            ? draft.likeliest(ahead)
            : vocab - 1;
      ahead.push(drafts[k]);
    }
    for (let k = 0; k <= depth; k += 1)
      p.set(target.after(ahead.slice(0, text.length + k)), k * vocab);
    const draftProbabilities = drafting === 'drawn' ? q : null;
    const input = { drafts, draftProbabilities, targetProbabilities: p, random };
    accept(input, { drafts: depth, vocab }, { out });
    text.push(...drafts.subarray(0, out.accepted), out.token);
    passes += 1;
    accepted += out.accepted;
  }
  return { text: text.slice(0, length), passes, accepted };
}

/** Probability of every text of a length, by its number in base `vocab`. */
function enumerate(target: Chain, length: number): number[] {
  const { vocab } = target;
  return Array.from({ length: vocab ** length }, (_, index) => {
    const text: number[] = [];
    let probability = 1;
    for (let i = length - 1; i >= 0; i -= 1) {
      const token = Math.floor(index / vocab ** i) % vocab;
      probability *= target.after(text)[token];
      text.push(token);
    }
    return probability;
  });
}

/**
 * How far counts are from what was expected, in standard deviations of χ² (Wilson and Hilferty's cube root, which makes it
 * nearly normal). Cells that expect fewer than 5 are put together.
 */
function surprise(counts: readonly number[], expected: readonly number[]): number {
  let [chi, cells, restCount, restExpected] = [0, 0, 0, 0];
  expected.forEach((expect, i) => {
    if (expect < 5) {
      restCount += counts[i];
      restExpected += expect;
      return;
    }
    chi += (counts[i] - expect) ** 2 / expect;
    cells += 1;
  });
  if (restExpected === 0 && restCount > 0) return Infinity;
  if (restExpected > 0) {
    chi += (restCount - restExpected) ** 2 / restExpected;
    cells += 1;
  }
  const free = cells - 1;
  if (free === 0) return 0;
  const spread = 2 / (9 * free);
  return (Math.cbrt(chi / free) - (1 - spread)) / Math.sqrt(spread);
}

const shapes: Record<string, SamplingShape> = {
  'temperature 1': { temperature: 1 },
  'temperature 0.6, top-p 0.8': { temperature: 0.6, topP: 0.8 },
  'temperature 3': { temperature: 3 },
};

describe.each(['drawn', 'likeliest', 'fixed'] as const)('drafts that are %s', (drafting) => {
  test.each([
    [1, 'temperature 1'],
    [2, 'temperature 1'],
    [3, 'temperature 1'],
    [1, 'temperature 0.6, top-p 0.8'],
    [2, 'temperature 0.6, top-p 0.8'],
    [4, 'temperature 3'],
  ])('%i at a time: every text as often as the main model alone, at %s', (depth, name) => {
    const [vocab, length, draws] = [4, 4, 30_000];
    const target = new Chain(vocab, 1, shapes[name]);
    const draft = new Chain(vocab, 2, shapes[name]);
    const expected = enumerate(target, length).map((probability) => probability * draws);
    const counts = new Array<number>(expected.length).fill(0);
    const random = randomFrom(depth);
    for (let i = 0; i < draws; i += 1) {
      const { text } = speculate(target, draft, drafting, depth, length, random);
      counts[text.reduce((index, token) => index * vocab + token, 0)] += 1;
    }
    expect(Math.abs(surprise(counts, expected))).toBeLessThan(4);
    // Nothing that the main model rules out is ever said.
    for (const [i, count] of counts.entries()) if (expected[i] === 0) expect(count).toBe(0);
    // The count tells models apart: it is not the draft's distribution.
    const draftOnly = enumerate(draft, length).map((probability) => probability * draws);
    expect(surprise(counts, draftOnly)).toBeGreaterThan(20);
  });
});

test('a draw stays with probability Σ min(p, q), and what replaces it is distributed as what is left', () => {
  const p = Float32Array.of(0.5, 0.25, 0.125, 0.125);
  const q = Float32Array.of(0.125, 0.5, 0.25, 0.125);
  const [draws, random] = [60_000, randomFrom(7)];
  const stayed = [0, 0, 0, 0];
  const replaced = [0, 0, 0, 0];
  const targetProbabilities = Float32Array.of(...p, 0, 0, 0, 1);
  for (let i = 0; i < draws; i += 1) {
    const drafts = Int32Array.of(draw(q, random()));
    const input = { drafts, draftProbabilities: q, targetProbabilities, random };
    const { accepted, token } = accept(input, { drafts: 1, vocab: 4 });
    if (accepted === 1) {
      expect(token).toBe(3);
      stayed[drafts[0]] += 1;
    } else replaced[token] += 1;
  }
  // min(p, q) = 1/8, 1/4, 1/8, 1/8; left is 3/8 of token 0 alone.
  const expected = [0.125, 0.25, 0.125, 0.125].map((share) => share * draws);
  const left = stayed.reduce((rest, count) => rest - count, draws);
  expect(Math.abs(surprise([...stayed, left], [...expected, 0.375 * draws]))).toBeLessThan(4);
  expect(replaced).toEqual([left, 0, 0, 0]);
});

test('drafts from the main model itself all stay', () => {
  const target = new Chain(5, 3, { temperature: 1 });
  const random = randomFrom(1);
  for (let i = 0; i < 200; i += 1) {
    const { passes, accepted } = speculate(target, target, 'drawn', 3, 4, random);
    expect([passes, accepted]).toEqual([1, 3]);
  }
});

describe('greedy', () => {
  test.each([1, 2, 3])('%i at a time gives the text of the main model, from any draft', (depth) => {
    const target = new Chain(6, 4, {});
    const alone: number[] = [];
    while (alone.length < 40) alone.push(target.likeliest(alone));
    const random = randomFrom(depth);
    for (const seed of [4, 5, 6])
      for (const shape of [{}, { temperature: 2 }]) {
        const draft = new Chain(6, seed, shape);
        for (const drafting of ['drawn', 'likeliest', 'fixed'] as const) {
          const { text, passes } = speculate(target, draft, drafting, depth, 40, random);
          expect(text).toEqual(alone);
          // The main model's own drafts are all right.
          if (seed === 4 && drafting === 'likeliest')
            expect(passes).toBe(Math.ceil(40 / (depth + 1)));
        }
      }
  });
});

test('drafts that were chosen give the tokens that drawing one by one gives, with the same numbers', () => {
  const shape = { temperature: 1.3, topP: 0.9 };
  const target = new Chain(5, 8, shape);
  for (const seed of [1, 2, 3]) {
    const numbers = randomFrom(seed);
    const alone: number[] = [];
    while (alone.length < 60) alone.push(draw(target.after(alone), numbers()));
    for (const drafting of ['likeliest', 'fixed'] as const) {
      const draft = new Chain(5, seed, shape);
      const { text } = speculate(target, draft, drafting, 3, 60, randomFrom(seed));
      expect(text).toEqual(alone);
    }
  }
});

describe('borders', () => {
  const sizes = { drafts: 1, vocab: 3 };
  const rows = (...values: number[]): Float32Array => Float32Array.from(values);

  test('without drafts the token is drawn', () => {
    const input = {
      drafts: new Int32Array(0),
      targetProbabilities: rows(0.5, 0, 0.5),
      random: () => 0.6,
    };
    const out = { accepted: 5, token: 5 };
    expect(accept(input, { drafts: 0, vocab: 3 }, { out })).toBe(out);
    expect(out).toEqual({ accepted: 0, token: 2 });
  });

  test('a draft that the main model rules out never stays, one that the draft model rules out may', () => {
    const targetProbabilities = rows(0, 0.5, 0.5, 1, 0, 0);
    const random = () => 0;
    const ruledOut = { drafts: Int32Array.of(0), targetProbabilities, random };
    for (const draftProbabilities of [rows(1, 0, 0), rows(0, 1, 0), null])
      expect(accept({ ...ruledOut, draftProbabilities }, sizes).accepted).toBe(0);
    const unlikely = { ...ruledOut, drafts: Int32Array.of(1), draftProbabilities: rows(1, 0, 0) };
    expect(accept(unlikely, sizes)).toEqual({ accepted: 1, token: 0 });
  });

  test('equal distributions but for rounding: a draft that does not stay is drawn again', () => {
    const q = rows(0.5, 0.5, 0);
    // Less by a rounding everywhere: nothing of p is left over.
    const p = q.map((share) => share * (1 - 2 ** -24));
    const numbers = [1 - 2 ** -32, 0.9, 0.1];
    const input = {
      drafts: Int32Array.of(1),
      draftProbabilities: q,
      targetProbabilities: rows(...p, 1, 0, 0),
      random: () => numbers.shift() ?? 0,
    };
    expect(accept(input, sizes)).toEqual({ accepted: 0, token: 0 });
  });

  test('what does not fit is refused', () => {
    const given = {
      drafts: Int32Array.of(1),
      draftProbabilities: rows(1, 0, 0),
      targetProbabilities: rows(0, 0.5, 0.5, 1, 0, 0),
      random: () => 0.5,
    };
    const refusal = (path: string, code = 'SIZES'): unknown =>
      expect.objectContaining({ code: `ERR_BALEEN_MTP_${code}`, path }) as unknown;
    for (const path of ['drafts', 'draftProbabilities', 'targetProbabilities'] as const)
      expect(() => accept({ ...given, [path]: given[path].slice(1) }, sizes)).toThrow(
        refusal(path),
      );
    for (const draft of [-1, 3])
      expect(() => accept({ ...given, drafts: Int32Array.of(draft) }, sizes)).toThrow(
        refusal('drafts'),
      );
    expect(() => accept(given, { drafts: -1, vocab: 3 })).toThrow(refusal('drafts'));
    expect(() => accept(given, { drafts: 1, vocab: 0 })).toThrow(refusal('vocab'));
    for (const bad of [NaN, Infinity]) {
      const q = { ...given, draftProbabilities: rows(1, bad, 0) };
      expect(() => accept(q, sizes)).toThrow(refusal('draftProbabilities', 'DISTRIBUTION'));
      const p = { ...given, targetProbabilities: rows(0, bad, 0.5, 1, 0, 0) };
      for (const draftProbabilities of [given.draftProbabilities, null])
        expect(() => accept({ ...p, draftProbabilities }, sizes)).toThrow(
          refusal('targetProbabilities', 'DISTRIBUTION'),
        );
    }
  });
});
