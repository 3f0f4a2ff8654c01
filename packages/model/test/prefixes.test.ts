// Prompts that begin alike: what they share is read once and lies in the same pages, and every text is what it is alone.
import { type KernelCall, loadKernels, observeKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { implementationsOf } from '../../../test/support';
import { generate, generateMany, type Precision, type TextRequest } from '../src/index';
import { smallModel } from './small';

const sizes = { maxSequence: 240 };
const tokens = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => (i * i + seed * i + seed) % 20);
/** Two pages of 64 and two tokens more. */
const system = tokens(130, 3);
const branch = [...system, ...tokens(70, 4)];
const prompts = [
  [...system, 1],
  [...branch, 2],
  // Longest in common with the one before, which is itself one that takes over.
  [...branch, 3, 4],
  // One token is left to read.
  [...system.slice(0, 128), 5],
  [7, 7, 7],
  // Its last token has to be read: one page.
  system.slice(0, 128),
];
/** Of each prompt: tokens that lie in whole pages of another before it. */
const common = [0, 128, 192, 128, 0, 64];
const whole = common.reduce((sum, tokens) => sum + tokens, 0);

function requests(drafts: number): TextRequest[] {
  return prompts.map((prompt, index) => ({
    prompt: Int32Array.from(prompt),
    maxTokens: 3 + index,
    temperature: index % 2 === 0 ? 0 : 1.2,
    seed: index,
    drafts: index === 4 ? 0 : drafts,
  }));
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  /** A model, and how many rows its main layers have read. */
  function counted(precision: Precision) {
    let rows = 0;
    const seen = observeKernels(kernels, ({ kernel, sizes: { tokens } }: KernelCall) => {
      if (kernel === 'writeLatents') rows += Number(tokens);
    });
    const model = smallModel(seen, sizes, precision);
    return { model, read: () => rows / model.layers.length };
  }

  test.each([
    ['fp32', 0],
    ['fp8', 0],
    ['fp8', 1],
    ['bf16', 3],
  ] as const)(
    '%s, %i drafts: each gets what it gets alone, however many run at once',
    (precision, drafts) => {
      const single = counted(precision);
      const texts = requests(drafts);
      const alone = texts.map(({ prompt, ...options }) => [
        ...generate(single.model, prompt, options),
      ]);
      expect(alone.map(({ length }) => length)).toEqual([3, 4, 5, 6, 7, 8]);
      for (const together of [1, 2, 20]) {
        const { model, read } = counted(precision);
        const made = texts.map((): number[] => []);
        for (const { text, tokens: own } of generateMany(model, texts, { together }))
          made[text].push(...own);
        expect(made).toEqual(alone);
        const saved = single.read() - read();
        if (drafts > 0) expect(saved).toBeGreaterThan(256);
        // One after another each begins like the one before it, and the last one follows an unrelated one.
        else expect(saved).toBe(whole - (together === 1 ? common[5] : 0));
      }
    },
  );

  test('absorbed throughout as well', () => {
    const { model } = counted('bf16');
    const texts = requests(0).map((text) => ({ ...text, attention: 'absorbed' as const }));
    const alone = texts.map(({ prompt, ...options }) => [...generate(model, prompt, options)]);
    const made = texts.map((): number[] => []);
    for (const { text, tokens: own } of generateMany(model, texts)) made[text].push(...own);
    expect(made).toEqual(alone);
  });

  test('texts that are left in the middle, and one that ends at once, leave nothing behind', () => {
    const { model } = counted('fp32');
    const texts = requests(1);
    texts[0] = { ...texts[0], maxTokens: 0 };
    for (const { text } of generateMany(model, texts, { together: 3 })) if (text === 2) break;
    const made = texts.map((): number[] => []);
    for (const { text, tokens: own } of generateMany(model, texts, { together: 3 }))
      made[text].push(...own);
    expect(made.map(({ length }) => length)).toEqual([0, 4, 5, 6, 7, 8]);
  });
});
