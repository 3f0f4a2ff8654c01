// Many texts at once, and texts that go on in turns: the tokens of each alone, read once.
import { type KernelCall, loadKernels, observeKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import {
  type Decoder,
  type GenerateOptions,
  generate,
  generateMany,
  type ManyOptions,
  TextMemory,
  type TextRequest,
} from '../src/index';
import { smallModel } from './small';

const sizes = { maxSequence: 40 };

/** Prompts of different lengths, greedy and sampled by seeds of their own, that end at different times. */
function requests(drafts: number): TextRequest[] {
  return [
    { prompt: Int32Array.of(3, 1, 4), maxTokens: 9 },
    { prompt: Int32Array.of(7), maxTokens: 100, temperature: 1.5, seed: 1 },
    { prompt: Int32Array.of(7), maxTokens: 5, temperature: 1.5, seed: 2 },
    { prompt: Int32Array.from({ length: 21 }, (_, i) => (i * i) % 20), maxTokens: 6 },
    { prompt: Int32Array.of(2, 2), maxTokens: 0 },
    { prompt: Int32Array.of(9, 8), maxTokens: 12, temperature: 0.9, topP: 0.8, seed: 4 },
    { prompt: Int32Array.of(5, 6, 7, 8), maxTokens: 1 },
  ].map((text, index) => ({ ...text, drafts: index % 3 === 2 ? 0 : drafts }));
}

const alone = (model: Decoder, texts: TextRequest[]): number[][] =>
  texts.map(({ prompt, ...options }) => [...generate(model, prompt, options)]);

/** All texts, and how many had begun and not ended after each pass. */
function together(
  model: Decoder,
  texts: TextRequest[],
  options: ManyOptions,
): { made: number[][]; most: number } {
  const made = texts.map((): number[] => []);
  const [open, ended] = [new Set<number>(), new Set<number>()];
  let most = 0;
  for (const { text, tokens, ended: end } of generateMany(model, texts, options)) {
    expect(ended.has(text)).toBe(false);
    made[text].push(...tokens);
    open.add(text);
    most = Math.max(most, open.size);
    if (end) {
      open.delete(text);
      ended.add(text);
    }
  }
  expect(ended.size).toBe(texts.length);
  return { made, most };
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each([
    ['fp32', 0],
    ['fp32', 2],
    ['bf16', 1],
    ['fp8', 3],
  ] as const)(
    '%s, %i drafts: each text gets the tokens it gets alone, however many run at once',
    (precision, drafts) => {
      const model = smallModel(kernels, sizes, precision);
      const texts = requests(drafts);
      const expected = alone(model, texts);
      expect(expected.map(({ length }) => length)).toEqual([9, 39, 5, 6, 0, 12, 1]);
      for (const count of [1, 3, 20]) {
        const { made, most } = together(model, texts, { together: count });
        expect(made).toEqual(expected);
        // The one without tokens has left when the others are told of.
        expect(most).toBe(Math.min(count, texts.length - 1));
      }
    },
  );

  test('absorbed or expanded throughout, texts are the same, through FP32 caches and BF16 ones', () => {
    for (const [precision, cache] of [
      ['fp32', 'fp32'],
      ['bf16', 'bf16'],
      ['bf16', 'fp32'],
    ] as const) {
      const model = smallModel(kernels, sizes, precision);
      const run = (attention: 'absorbed' | 'expanded'): number[][] =>
        together(
          model,
          requests(0).map((text) => ({ ...text, attention })),
          { cache },
        ).made;
      expect(run('absorbed')).toEqual(run('expanded'));
    }
  });

  test('a stop token ends its text alone, and the next one takes its place', () => {
    const model = smallModel(kernels, sizes);
    const free = alone(model, requests(0));
    const texts = requests(0).map((text, index) => ({ ...text, stop: free[index].slice(2, 3) }));
    const { made } = together(model, texts, { together: 2 });
    expect(made).toEqual(
      free.map((list) => (list.length < 3 ? list : list.slice(0, list.indexOf(list[2])))),
    );
  });

  test('stops between passes at its signal', () => {
    const model = smallModel(kernels, sizes);
    const controller = new AbortController();
    const seen: number[] = [];
    for (const { text } of generateMany(model, requests(0), {
      together: 2,
      signal: controller.signal,
    }))
      if (seen.push(text) === 3) controller.abort();
    // The pass under way is told to its end.
    expect(seen).toEqual([0, 1, 0, 1]);
  });

  describe('what goes on in turns', () => {
    const said = [
      [3, 1, 4],
      [15, 9],
      [2, 6, 5, 3, 5],
    ];

    /** A conversation, and how many tokens the main model read in each turn. */
    function turns(
      options: Partial<GenerateOptions>,
      kept: boolean,
    ): { texts: number[][]; read: number[] } {
      let rows = 0;
      const seen = observeKernels(kernels, ({ kernel, sizes: { tokens } }: KernelCall) => {
        if (kernel === 'writeLatents') rows += Number(tokens);
      });
      const model = smallModel(seen, sizes);
      const memory = new TextMemory(model);
      const context: number[] = [];
      const result = { texts: [] as number[][], read: [] as number[] };
      for (const words of said) {
        context.push(...words);
        rows = 0;
        const own = { maxTokens: 4, ...options, ...(kept && { memory }) };
        const made = [...generate(model, Int32Array.from(context), own)];
        context.push(...made);
        result.texts.push(made);
        result.read.push(rows / model.layers.length);
      }
      expect(memory.length).toBe(kept ? context.length - 1 : 0);
      memory.release();
      return result;
    }

    test('reads only what is new, and says what it would say reading all', () => {
      for (const options of [{}, { temperature: 0.7, seed: 3 }]) {
        const [fresh, kept] = [turns(options, false), turns(options, true)];
        expect(kept.texts).toEqual(fresh.texts);
        // Four tokens are made by reading three of them.
        expect(fresh.read).toEqual([3 + 3, 9 + 3, 18 + 3]);
        expect(kept.read).toEqual([3 + 3, 1 + 2 + 3, 1 + 5 + 3]);
      }
    });

    test('is refused to a second text until the first has ended, and once it is released', () => {
      const model = smallModel(kernels, sizes);
      const memory = new TextMemory(model);
      const own = { maxTokens: 6, memory };
      const refused = { code: 'ERR_BALEEN_USAGE_MEMORY', path: 'memory' };
      const prompt = Int32Array.of(1, 2, 3);
      const alone = [...generate(model, prompt, { maxTokens: 6 })];
      const first = generate(model, prompt, own);
      const made = [first.next().value, first.next().value];
      const begin = (): number[] => [...generate(model, Int32Array.of(4, 5), own)];
      expect(begin).toThrow(expect.objectContaining(refused));
      expect([...made, ...first]).toEqual(alone);
      // One that is left off gives the memory back too.
      for (const token of generate(model, prompt, own)) {
        expect(token).toBe(alone[0]);
        break;
      }
      expect(begin()).toHaveLength(6);
      memory.release();
      expect(begin).toThrow(expect.objectContaining(refused));
    });

    test('goes back to where another text differs, and reads a text again of which it has nothing', () => {
      const model = smallModel(kernels, sizes);
      const memory = new TextMemory(model);
      const go = (...prompt: number[]): number[] => [
        ...generate(model, Int32Array.from(prompt), { maxTokens: 3, memory }),
      ];
      const fresh = (...prompt: number[]): number[] => [
        ...generate(model, Int32Array.from(prompt), { maxTokens: 3 }),
      ];
      for (const prompt of [[1, 2, 3, 4], [1, 2, 9], [1, 2, 9], [5], [5, 5, 5, 5, 5, 5], [1]])
        expect(go(...prompt)).toEqual(fresh(...prompt));
      // Left in the middle, it has what was read.
      const [first] = generate(model, Int32Array.of(4, 4), { maxTokens: 9, memory });
      expect(go(4, 4, first, 8)).toEqual(fresh(4, 4, first, 8));
      expect(() => [
        ...generate(model, Int32Array.of(1), { maxTokens: 3, memory, drafts: 1 }),
      ]).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_USAGE_DRAFTS', path: 'drafts' }));
    });
  });

  test('caches are what is asked for; by default what the products take', () => {
    const types = (precision: 'fp32' | 'bf16' | 'fp8', options: Partial<GenerateOptions>) => {
      const seen = new Set<string>();
      const observed = observeKernels(kernels, ({ kernel, written: [pages] }) => {
        if (kernel === 'writeLatents') seen.add(pages.dtype);
      });
      const model = smallModel(observed, sizes, precision);
      const texts = alone(model, [{ prompt: Int32Array.of(3, 1), maxTokens: 6, ...options }]);
      expect(texts[0]).toHaveLength(6);
      return { text: texts[0], types: [...seen] };
    };
    expect(types('fp32', {}).types).toEqual(['f32']);
    expect(types('bf16', {}).types).toEqual(['bf16']);
    expect(types('fp8', {}).types).toEqual(['bf16']);
    for (const [cache, dtype] of [
      ['fp32', 'f32'],
      ['bf16', 'bf16'],
      ['fp8', 'e4m3'],
    ] as const) {
      expect(types('bf16', { cache, drafts: 1 }).types).toEqual([dtype]);
      expect(types('bf16', { cache }).text).toEqual(types('bf16', {}).text);
    }
  });
});

test('what cannot be is refused before anything is made', () => {
  const model = smallModel(referenceKernels(), sizes);
  const run = (texts: TextRequest[], options: ManyOptions = {}) => [
    ...generateMany(model, texts, options),
  ];
  const good = { prompt: Int32Array.of(1), maxTokens: 2 };
  expect(run([])).toEqual([]);
  expect(() => run([good, { ...good, prompt: new Int32Array(0) }])).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_USAGE_PROMPT' }),
  );
  for (const together of [0, 1.5, NaN])
    expect(() => run([good], { together })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_USAGE_TOGETHER', path: 'together' }),
    );
});
