// The byte tokenizer and the trained BPE, against Hugging Face's own trainer, encoder and decoder.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { BPE, byteLevelPreTokenizer, Tokenizer as Native } from 'tokenizers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trainMerges } from '../src/data/bpe-train';
import { byteCharacters } from '../src/data/byte-level';
import {
  loadDocuments,
  loadTokenizer,
  makeTokenizer,
  saveTokenizer,
  type TextDocument,
  type Tokenizer,
} from '../src/data/index';
import { randomNumbers } from './data-random';

interface Json {
  model: { vocab: Record<string, number>; merges: string[] };
}

let folder = '';
let chapters: TextDocument[] = [];
let bytes: Tokenizer;
let bpe: Tokenizer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baleen-tokenizer-'));
  chapters = (await loadDocuments(['moby-dick'])).slice(3, 12);
  bytes = await makeTokenizer({ kind: 'bytes' }, chapters);
  bpe = await makeTokenizer({ kind: 'bpe', vocabSize: 1000 }, chapters);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

// Each of these once told some encoder from another.
const hard = [
  '',
  ' ',
  "I'll say it's they've DON'T 'tis",
  'a  b   c\n\n\nd \t e\r\n',
  'naïve café – “quoted” … Ελληνικά 日本語 한국어 العربية',
  '👩‍👩‍👧 🏳️‍🌈 e\u0301 \u0000\u0001\u007f',
  '\uFEFFmarked',
  'next line\u0085here\u0085\u0085 and\uFEFFmark\uFEFF\u2003\u3000 wide',
  '3.14159 1,000,000 ½ ² ٣٤ x1y2',
  '--------------------------------...!!!???',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
];

function randomTexts(count: number): string[] {
  const random = randomNumbers(11);
  const parts = [
    'the',
    ' whale',
    'ing',
    ' ',
    '\n',
    "'s",
    '7',
    '—',
    'é',
    '鯨',
    '🐋',
    '\u0085',
    '.',
    '\t',
  ];
  return Array.from({ length: count }, () =>
    Array.from({ length: Math.floor(random() * 40) }, () =>
      random() < 0.8
        ? parts[Math.floor(random() * parts.length)]
        : String.fromCodePoint(1 + Math.floor(random() * 0xd7fe)),
    ).join(''),
  );
}

describe.each([
  ['bytes', () => bytes, 257],
  ['bpe', () => bpe, 1000],
] as const)('the %s tokenizer', (kind, get, size) => {
  test('says what it is', () => {
    expect(get().kind).toBe(kind);
    expect(get().vocabSize).toBe(size);
    expect(get().documentEnd).toBe(256);
  });

  test('gives every text back, whole and token by token', () => {
    for (const text of [...hard, ...randomTexts(300), chapters[0].text]) {
      const ids = get().encode(text);
      expect(get().decode(ids)).toBe(text);
      const decoder = get().decoder();
      const pieces = Array.from(ids, (id) => decoder.push(id));
      expect(pieces.join('') + decoder.end()).toBe(text);
      // Nothing is shown before it is whole.
      expect(pieces.join('')).not.toContain('\uFFFD');
      const length = ids.reduce((sum, id) => sum + get().bytesOf(id), 0);
      expect(length).toBe(new TextEncoder().encode(text).length);
    }
  });

  test('a separator in the text is text; the token is no text', () => {
    const ids = get().encode('<|endoftext|>');
    expect([...ids]).not.toContain(256);
    expect(get().decode(ids)).toBe('<|endoftext|>');
    expect(get().decode([256])).toBe('');
    expect(get().bytesOf(256)).toBe(0);
  });

  test('broken characters become U+FFFD, in one go and as a stream', () => {
    expect(get().decode([0xe2, 0x82, 65])).toBe('\uFFFDA');
    const decoder = get().decoder();
    expect([0xf0, 0x9f, 0x90].map((id) => decoder.push(id)).join('')).toBe('');
    expect(decoder.end()).toBe('\uFFFD');
    expect(() => get().decode([-1])).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_TOKENIZER_ID' }) as Error,
    );
  });

  test('its tokenizer.json gives the same ids and texts in both of Hugging Face’s libraries', async () => {
    const json = JSON.stringify(get().toJSON());
    const native = Native.fromString(json);
    const library = new Library(JSON.parse(json) as object, get().configJSON());
    expect(native.getVocabSize(true)).toBe(size);
    for (const text of [...hard, ...randomTexts(100), chapters[1].text.slice(0, 4000)]) {
      const ids = [...get().encode(text)];
      const encoding = await native.encode(text, null, { addSpecialTokens: true });
      expect(encoding.getIds()).toEqual(ids);
      expect(await native.decode(ids, true)).toBe(text);
      // The JavaScript library has another white space than Unicode's.
      if (!/[\u0085\uFEFF]/.test(text)) expect(library.encode(text).ids).toEqual(ids);
      if (ids.length > 0) expect(library.decode(ids)).toBe(text);
    }
    expect((await native.encode('a<|endoftext|>b')).getIds()).toContain(256);
  });

  test('saved and loaded, it is the same', async () => {
    saveTokenizer(get(), folder);
    for (const path of [folder, join(folder, 'tokenizer.json')]) {
      const loaded = await loadTokenizer(path);
      expect(loaded.kind).toBe(kind);
      expect(loaded.vocabSize).toBe(size);
      expect(loaded.documentEnd).toBe(256);
      expect(loaded.toJSON()).toEqual(get().toJSON());
      for (const text of [...hard, ...randomTexts(50)])
        expect(loaded.encode(text)).toEqual(get().encode(text));
    }
    expect(JSON.parse(readFileSync(join(folder, 'tokenizer_config.json'), 'utf8'))).toMatchObject({
      tokenizer_class: 'PreTrainedTokenizerFast',
      eos_token: '<|endoftext|>',
    });
  });
});

describe('training', () => {
  test('learns the merges that Hugging Face’s trainer learns, in their order', async () => {
    const text = chapters.map((chapter) => chapter.text).join('\n');
    const path = join(folder, 'text.txt');
    writeFileSync(path, text);
    const native = new Native(BPE.empty());
    native.setPreTokenizer(byteLevelPreTokenizer(false, true));
    native.train([path]);
    native.save(path);
    const { merges } = (JSON.parse(readFileSync(path, 'utf8')) as { model: { merges: string[][] } })
      .model;
    // That trainer reads line by line.
    const trained = await trainMerges(text.match(/[^\n]*\n|[^\n]+$/g) ?? [], 30000);
    const spell = (token: number) =>
      Array.from(trained.pieces[token], (byte) => byteCharacters[byte]).join('');
    expect(trained.merges.map(({ left, right }) => [spell(left), spell(right)])).toEqual(merges);
    expect(merges.length).toBeGreaterThan(5000);
  });

  test('a smaller vocabulary is the beginning of a larger one', async () => {
    const smaller = await makeTokenizer({ kind: 'bpe', vocabSize: 500 }, chapters);
    const { merges } = (bpe.toJSON() as Json).model;
    expect((smaller.toJSON() as Json).model.merges).toEqual(merges.slice(0, 500 - 257));
    expect(Object.values((bpe.toJSON() as Json).model.vocab).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 1000 }, (_, id) => id),
    );
  });

  test('no two tokens stand for the same bytes', async () => {
    const random = randomNumbers(23);
    for (let round = 0; round < 60; round += 1) {
      const text = Array.from({ length: 400 }, () => 'aab '[Math.floor(random() * 4)]).join('');
      const { pieces, merges } = await trainMerges([text], 400);
      expect(new Set(pieces.map((piece) => piece.join())).size).toBe(pieces.length);
      expect(merges).toHaveLength(pieces.length - 256);
    }
  });

  test('it makes text shorter', () => {
    const { text } = chapters[2];
    expect(bpe.encode(text).length).toBeLessThan(0.5 * bytes.encode(text).length);
  });

  test('a word of 400,000 letters takes no longer than other text', () => {
    const word = 'thewhale'.repeat(50_000);
    const ids = bpe.encode(word);
    expect(bpe.decode(ids)).toBe(word);
    expect(ids.length).toBeLessThan(0.6 * word.length);
  }, 10_000);

  test.each([
    [null, 'must be a whole number'],
    [257, 'must be a whole number'],
    [100_000, 'exceeds the'],
  ])('a vocabulary of %s is refused', async (vocabSize, message) => {
    await expect(
      makeTokenizer({ kind: 'bpe', vocabSize }, [{ name: 'x', text: 'a rose is a rose' }]),
    ).rejects.toMatchObject({
      code: 'ERR_BALEEN_CONFIG_VOCABULARY',
      message: expect.stringContaining(message) as string,
    });
  });
});
