// Speculative generation: the very texts of generation token by token, whatever is drafted; drafts that are those of the
// whole text; and a model trained on words, so that some drafts stay and some do not.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { draftCounts, draftRates, probabilities } from '@baleen/mtp';
import { AdamW, type Bundle, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { beforeAll, describe, expect, test } from 'vitest';

import { implementationsOf, randomFrom } from '../../../test/support';
import { CachePools } from '../src/caches';
import {
  type Decoder,
  type GenerateOptions,
  generate,
  type Precision,
  TextMemory,
} from '../src/index';
import { advance } from '../src/pass';
import { demandOf, Sequence } from '../src/sequence';
import { clearGradients, type HostBatch, runBatch, smallModel, snapshot } from './small';

const words = [
  [1, 2, 3, 4, 5],
  [6, 7, 8],
  [9, 10, 11, 12],
  [1, 3, 5, 7, 9, 11],
  [13, 14],
  [15, 14, 13, 12, 11],
];
const sizes = { maxSequence: 30, initStd: 0.2 };

/** Sequences of random words, without borders between documents. */
function text(sequences: number, length: number, seed: number): HostBatch {
  const random = randomFrom(seed);
  const batch = { ids: [] as number[], next: [] as number[] };
  for (let b = 0; b < sequences; b += 1) {
    const tokens: number[] = [];
    while (tokens.length <= length) tokens.push(...words[Math.floor(random() * words.length)]);
    batch.ids.push(...tokens.slice(0, length));
    batch.next.push(...tokens.slice(1, length + 1));
  }
  const documents = new Int32Array(sequences * length);
  return {
    length,
    ids: Int32Array.from(batch.ids),
    next: Int32Array.from(batch.next),
    documents: { inputs: documents, targets: documents },
  };
}

/** Weights of a model that has learnt words. */
function learn(kernels: Kernels): Float32Array {
  const model = smallModel(kernels, sizes, 'fp32');
  const optimizer = new AdamW(kernels, model);
  const one = tensorFrom(new Region(kernels, 'one'), [1], Float32Array.of(1));
  const settings = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, weightDecay: 0, epsilon: 1e-8 };
  for (let step = 1; step <= 120; step += 1) {
    clearGradients(model);
    runBatch(model, text(4, 24, step), 4);
    optimizer.update(one, { ...settings, maxNorm: 1 });
  }
  return snapshot(model);
}

/** A model with such weights. */
function restore(kernels: Kernels, precision: Precision, weights: Float32Array): Decoder {
  const model = smallModel(kernels, sizes, precision);
  let at = 0;
  for (const [, entry] of [...model.parameters(), ...model.states()]) {
    const list = entry.data.readSync();
    list.set(weights.subarray(at, at + list.length));
    at += list.length;
  }
  return model;
}

const prompts = [[1], [2, 3], [6, 7, 8, 9], [13, 14, 15, 14], [1, 3, 5, 7, 9, 11, 6, 7]];

/** Logits of the token after a text. */
function logitsAfter(model: Decoder, tokens: readonly number[]): Float32Array {
  const run = new Run(new Region(model.kernels, 'whole'), { grad: false });
  const ids = tensorFrom(
    new Region(model.kernels, 'ids'),
    [1, tokens.length],
    Int32Array.from(tokens),
  );
  let out: Bundle = { ids };
  model.hiddenPhases().forEach((phase, p) => {
    out = run.forward(phase, p === 0 ? out : undefined);
  });
  let logits: Float32Array = new Float32Array(0);
  run.tape.scoped(() => {
    logits = model
      .logits(run.tape, out.h as Tensor)
      .readSync()
      .slice(-20) as Float32Array;
    return [];
  });
  run.finish();
  return logits;
}

/** Drafts of the next token and those after it, each depth over the whole text. */
function draftsOf(
  kernels: Kernels,
  model: Decoder,
  tokens: readonly number[],
  count: number,
): number[] {
  const drafts: number[] = [];
  for (let k = 1; k <= count; k += 1) {
    const ids = [...tokens, ...drafts];
    const run = new Run(new Region(kernels, 'whole'), { grad: false });
    let out = {
      ids: tensorFrom(new Region(kernels, 'ids'), [1, ids.length], Int32Array.from(ids)),
    } as Record<string, Tensor>;
    // The chain of training, up to the depth's norm.
    const phases = model.lossPhases();
    const end = phases.findIndex(({ name }) => name === `mtp.${k}.norm`);
    phases.slice(0, end + 1).forEach((phase, p) => {
      out = run.forward(phase, p === 0 ? out : undefined) as Record<string, Tensor>;
    });
    run.tape.scoped(() => {
      const logits = model.logits(run.tape, out[`out${k}`]).readSync() as Float32Array;
      drafts.push(probabilities(logits.slice(-20), { vocab: 20 }).indexOf(1));
      return [];
    });
    run.finish();
  }
  return drafts;
}

let weights: Float32Array;
beforeAll(() => {
  weights = learn(loadKernels());
});

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  describe.each(['fp32', 'bf16', 'fp8'] as const)('%s', (precision) => {
    const setup = (): Decoder => restore(kernels, precision, weights);
    const made = (
      model: Decoder,
      prompt: number[],
      options: Partial<GenerateOptions>,
    ): number[] => [...generate(model, Int32Array.from(prompt), { maxTokens: 100, ...options })];

    test('greedy texts are the same with any number of drafts', () => {
      const model = setup();
      const plain = prompts.map((prompt) => made(model, prompt, {}));
      for (const drafts of [1, 2, 3]) {
        const counts = draftCounts();
        prompts.forEach((prompt, i) => {
          expect(plain[i]).toHaveLength(30 - prompt.length);
          expect(made(model, prompt, { drafts, counts })).toEqual(plain[i]);
        });
        expect(counts.drafted).toHaveLength(drafts);
        const { rate, tokensPerPass } = draftRates(counts);
        // Both happen: drafts that stay, and drafts that do not.
        expect(rate).toBeGreaterThan(0.2);
        expect(rate).toBeLessThan(1);
        expect(tokensPerPass).toBeGreaterThan(1.4);
      }
    });
  });

  test('drafts are those of the depths over the whole text, after drafts that stayed and that did not', () => {
    const model = restore(kernels, 'fp32', weights);
    for (const drafts of [1, 2]) {
      const seen = new Set<number>();
      for (const prompt of prompts) {
        const region = new Region(kernels, 'generation');
        const options = { maxTokens: 30, drafts };
        const ids = Int32Array.from(prompt);
        const { capacity, depths } = demandOf(model, ids, options);
        const pools = new CachePools(model, region, { capacities: [capacity], depths });
        const sequence = new Sequence(model, pools.sequence(depths), ids, options);
        advance(model, region, [sequence]);
        while (!sequence.ended) {
          const { tokens, wanted } = sequence;
          const expected = draftsOf(kernels, model, tokens, wanted);
          const known = tokens.length;
          const made = advance(model, region, [sequence])[0];
          // What stayed is what the whole text drafts and the main model says.
          let same = 0;
          while (same < wanted && expected[same] === tokens[known + same]) same += 1;
          expect(made).toHaveLength(same + 1);
          if (wanted === drafts) seen.add(same);
        }
        expect(region.liveBytes).toBeGreaterThan(0);
        sequence.release();
        pools.release();
        expect(region.liveBytes).toBe(0);
      }
      expect([...seen].sort()).toEqual(drafts === 1 ? [0, 1] : [0, 1, 2]);
    }
  });

  test('a stop token ends the text within drafts as it does without, and counts what was drafted', () => {
    const model = restore(kernels, 'fp32', weights);
    const prompt = Int32Array.of(1, 2);
    const plain = [...generate(model, prompt, { maxTokens: 30 })];
    for (const stop of new Set(plain)) {
      const options = { maxTokens: 30, stop: [stop] };
      const expected = plain.slice(0, plain.indexOf(stop));
      expect([...generate(model, prompt, options)]).toEqual(expected);
      expect([...generate(model, prompt, { ...options, drafts: 3 })]).toEqual(expected);
    }
    for (let maxTokens = 1; maxTokens < 9; maxTokens += 1)
      expect([...generate(model, prompt, { maxTokens, drafts: 4 })]).toEqual(
        plain.slice(0, maxTokens),
      );
  });
});

describe.each(implementationsOf(referenceKernels(), loadKernels()))(
  'text in turns, %s kernels',
  (_, kernels) => {
    // What goes on, is taken back, is the same again, and is another text.
    const turns: ((text: number[]) => number[])[] = [
      () => [6, 7],
      (text) => [...text, 1, 2],
      (text) => [...text, 9],
      (text) => [...text.slice(0, 9), 13, 14],
      (text) => text.slice(0, 7),
      (text) => [...text, 3],
      () => [15, 14, 13],
      (text) => text,
    ];

    test.each([1, 2, 3])('%i drafts: drafts and text are those of reading all again', (drafts) => {
      const model = restore(kernels, 'fp32', weights);
      for (const shape of [{}, { temperature: 1, topP: 0.9, seed: 5 }]) {
        const memory = new TextMemory(model, { drafts });
        let text: number[] = [];
        for (const [turn, next] of turns.entries()) {
          const prompt = Int32Array.from(next(text));
          const [own, fresh] = [draftCounts(), draftCounts()];
          // Also turns without drafts, and of another length: so many tokens that the last pass drafts less.
          const options = {
            ...shape,
            maxTokens: turn === 4 ? 2 : 5,
            drafts: turn === 3 ? 0 : drafts,
          };
          const made = [...generate(model, prompt, { ...options, memory, counts: own })];
          const again = [...generate(model, prompt, { ...options, counts: fresh })];
          expect(made).toEqual(again);
          expect(own).toEqual(fresh);
          text = [...prompt, ...made];
        }
        memory.release();
        expect(memory.region.liveBytes).toBe(0);
      }
    });

    test('a turn reads only what is new, and its drafts are those of the whole text', () => {
      const model = restore(kernels, 'fp32', weights);
      for (const drafts of [1, 2]) {
        const memory = new TextMemory(model, { drafts });
        const options = { maxTokens: 6, drafts };
        const prompt = [6, 7];
        const text = [
          ...prompt,
          ...generate(model, Int32Array.from(prompt), { ...options, memory }),
        ];
        // The last token that was made was not read.
        expect(memory.length).toBe(text.length - 1);
        const said = [...text, 1, 2, 3];
        const sequence = memory.begin(Int32Array.from(said), options);
        expect(sequence.pending()).toEqual([text.at(-1), 1, 2, 3]);
        expect(sequence.beginDrafts()).toBeNull();
        const region = memory.region;
        advance(model, region, [sequence]);
        while (!sequence.ended) {
          const { tokens, wanted } = sequence;
          const expected = draftsOf(kernels, model, tokens, wanted);
          const known = tokens.length;
          const made = advance(model, region, [sequence])[0];
          let same = 0;
          while (same < wanted && expected[same] === tokens[known + same]) same += 1;
          expect(made).toHaveLength(same + 1);
        }
        memory.keep(sequence);
        // The same text once more: but for its last token there is nothing to read.
        const all = Int32Array.from(sequence.tokens.slice(0, memory.length + 1));
        const next = memory.begin(all, options);
        expect(next.pending()).toEqual([all.at(-1)]);
        memory.keep(next);
        memory.release();
      }
    });

    test('drafts by more depths than the memory keeps are refused', () => {
      const model = restore(kernels, 'fp32', weights);
      const memory = new TextMemory(model, { drafts: 1 });
      const options = { maxTokens: 3, memory };
      expect(() => [...generate(model, Int32Array.of(1), { ...options, drafts: 2 })]).toThrow(
        expect.objectContaining({
          code: 'ERR_BALEEN_USAGE_DRAFTS',
          path: 'drafts',
          hint: 'make the memory with drafts: 2',
        }),
      );
      memory.release();
    });
  },
);

test('drawn texts come as often as the model alone would have them', () => {
  const model = restore(loadKernels(), 'bf16', weights);
  const shape = { temperature: 2.5, topP: 0.7 };
  const [prompt, length, draws] = [[6, 7, 8], 3, 600];
  // Exact probabilities of every text.
  const expected = new Map<string, number>();
  const follow = (made: number[], probability: number): void => {
    if (made.length === length) expected.set(made.join(' '), probability * draws);
    else
      probabilities(logitsAfter(model, [...prompt, ...made]), { vocab: 20 }, shape).forEach(
        (share, token) => {
          if (share > 0) follow([...made, token], probability * share);
        },
      );
  };
  follow([], 1);
  expect(expected.size).toBeGreaterThan(20);
  const region = new Region(model.kernels, 'generation');
  const counts = draftCounts();
  const capacities = new Array<number>(draws).fill(prompt.length + length);
  const pools = new CachePools(model, region, { capacities, depths: 2 });
  const all = Array.from({ length: draws }, (_, seed) => {
    const options = { ...shape, maxTokens: length + 1, drafts: 2, seed, counts };
    return new Sequence(model, pools.sequence(2), Int32Array.from(prompt), options);
  });
  for (;;) {
    const running = all.filter(({ ended }) => !ended);
    if (running.length === 0) break;
    for (let s = 0; s < running.length; s += 500) advance(model, region, running.slice(s, s + 500));
  }
  const { byPosition } = draftRates(counts);
  expect(byPosition).toHaveLength(2);
  for (const rate of byPosition) expect(Math.abs(rate - 0.5)).toBeLessThan(0.45);
  let chi = 0;
  const came = new Map<string, number>();
  for (const { tokens } of all) {
    const text = tokens.slice(prompt.length, -1).join(' ');
    expect(expected.has(text)).toBe(true);
    came.set(text, (came.get(text) ?? 0) + 1);
  }
  for (const [text, count] of expected) chi += ((came.get(text) ?? 0) - count) ** 2 / count;
  // χ² of n degrees of freedom has mean n and variance 2n, and small counts widen it.
  expect(Math.abs(chi - expected.size) / Math.sqrt(2 * expected.size)).toBeLessThan(4);
});

test('drafts of a model without multi-token prediction are refused', () => {
  const model = smallModel(referenceKernels(), { mtp: { depth: 0 } });
  expect(() => [...generate(model, Int32Array.of(1), { maxTokens: 1, drafts: 1 })]).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_USAGE_DRAFTS', path: 'drafts' }),
  );
});
