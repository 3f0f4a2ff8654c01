// tokenizer.json from elsewhere: encoded as its own library would, refused where it is broken or of another kind.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as Native } from 'tokenizers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { loadTokenizer, makeTokenizer, saveTokenizer } from '../src/data/index';
import { randomNumbers } from './data-random';

interface Json extends Record<string, unknown> {
  added_tokens: Record<string, unknown>[];
  model: Record<string, unknown> & { vocab: Record<string, number>; merges: string[] };
}

const end = '<｜end▁of▁sentence｜>';
let folder = '';
let own: Json;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baleen-foreign-'));
  const text = 'the whale and the sea, the ship and the whaling; '.repeat(20);
  own = (
    await makeTokenizer({ kind: 'bpe', vocabSize: 270 }, [{ name: 'x', text }])
  ).toJSON() as Json;
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function put(value: unknown, name = 'tokenizer.json'): string {
  const path = join(folder, name);
  writeFileSync(path, typeof value === 'string' ? value : JSON.stringify(value));
  return path;
}

/** The shape of DeepSeek-V3's file: words by several patterns, special tokens behind the vocabulary, one ordinary. */
function deepSeekLike(): Json {
  const json = structuredClone(own);
  const added = (id: number, content: string, special: boolean) => ({
    id,
    content,
    special,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  delete json.model.vocab['<|endoftext|>'];
  json.model.vocab['the whale'] = 256;
  json.added_tokens = [
    added(270, '<｜begin▁of▁sentence｜>', true),
    added(271, end, true),
    added(272, '<think>', false),
  ];
  const split = (pattern: string) => ({
    type: 'Split',
    pattern: { Regex: pattern },
    behavior: 'Isolated',
    invert: false,
  });
  json.pre_tokenizer = {
    type: 'Sequence',
    pretokenizers: [
      split('\\p{N}{1,3}'),
      split('[一-龥]+'),
      split(' ?[\\p{P}]+[\\r\\n]*| ?\\p{L}+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'),
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  };
  return json;
}

describe('loadTokenizer', () => {
  test('a file like DeepSeek’s gives the ids that its library gives, but never a special token', async () => {
    const json = deepSeekLike();
    const tokenizer = await loadTokenizer(put(json));
    expect(tokenizer.kind).toBe('bpe');
    expect(tokenizer.documentEnd).toBe(271);
    expect(tokenizer.vocabSize).toBe(273);
    const native = Native.fromString(JSON.stringify(json));
    for (const text of ['the whale 12345 and 鯨魚 the sea!!\n\n  x', 'a <think>the</think> b', ''])
      expect([...tokenizer.encode(text)]).toEqual(
        (await native.encode(text, null, { addSpecialTokens: false })).getIds(),
      );
    expect([...tokenizer.encode('a<think>b')]).toContain(272);
    expect(tokenizer.decode([272, 97, 271, 300, 5000])).toBe('<think>a');
    expect(tokenizer.bytesOf(272)).toBe(7);
    expect([...tokenizer.encode(`a${end}`)]).not.toContain(271);
    expect(tokenizer.decode(tokenizer.encode(`a${end}`))).toBe(`a${end}`);
    expect(tokenizer.toJSON()).toEqual(json);
  });

  test('the end of a document is what tokenizer_config.json says, and both files are kept', async () => {
    const config = { eos_token: { content: '<｜begin▁of▁sentence｜>' }, model_max_length: 9 };
    put(config, 'tokenizer_config.json');
    put(deepSeekLike());
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer.documentEnd).toBe(270);
    saveTokenizer(tokenizer, folder);
    const again = await loadTokenizer(folder);
    expect(again.configJSON()).toEqual(config);
    expect(again.toJSON()).toEqual(deepSeekLike());
    rmSync(join(folder, 'tokenizer_config.json'));
  });

  test('merges may be written as pairs', async () => {
    const json = structuredClone(own) as Record<string, unknown> & { model: { merges: unknown[] } };
    json.model.merges = own.model.merges.map((merge) => merge.split(' '));
    const plain = await loadTokenizer(put(own));
    const paired = await loadTokenizer(put(json));
    expect(paired.encode('the whale')).toEqual(plain.encode('the whale'));
    expect(plain.encode('the whale').length).toBeLessThan(9);
  });
});

describe('bad input', () => {
  test('a missing file', async () => {
    const path = join(folder, 'absent.json');
    await expect(loadTokenizer(path)).rejects.toMatchObject({
      code: 'ERR_BALEEN_TOKENIZER_ABSENT',
      path,
    });
  });

  test.each<[string, (json: Json) => unknown, string]>([
    ['a truncated file', (json) => JSON.stringify(json).slice(0, 900), 'CORRUPT'],
    ['no object', () => [1], 'CORRUPT'],
    ['no model', (json) => ({ ...json, model: null }), 'CORRUPT'],
    ['no vocabulary', (json) => ({ ...json, model: { ...json.model, vocab: 3 } }), 'CORRUPT'],
    [
      'two tokens of one number',
      (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, é: 7 } } }),
      'CORRUPT',
    ],
    [
      'a number beyond reason',
      (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, é: 2 ** 40 } } }),
      'CORRUPT',
    ],
    [
      'a merge of no tokens',
      (json) => ({ ...json, model: { ...json.model, merges: ['zz zz'] } }),
      'CORRUPT',
    ],
    [
      'another model',
      (json) => ({ ...json, model: { ...json.model, type: 'Unigram' } }),
      'UNSUPPORTED',
    ],
    [
      'tokens that are not bytes',
      (json) => ({ ...json, decoder: null, pre_tokenizer: null }),
      'UNSUPPORTED',
    ],
    [
      'no end of a document',
      (json) => ({
        ...json,
        added_tokens: [],
        model: {
          ...json.model,
          vocab: Object.fromEntries(
            Object.entries(json.model.vocab).filter(([token]) => token !== '<|endoftext|>'),
          ),
        },
      }),
      'UNSUPPORTED',
    ],
    [
      'an unknown way to cut words',
      (json) => ({ ...json, pre_tokenizer: { type: 'Origami' } }),
      'CORRUPT',
    ],
  ])('%s', async (_, change, code) => {
    const path = put(change(structuredClone(own)));
    await expect(loadTokenizer(path)).rejects.toMatchObject({
      code: `ERR_BALEEN_TOKENIZER_${code}`,
      path,
      hint: expect.any(String) as string,
    });
  });

  test('files changed at random are refused with a code, or work', async () => {
    const random = randomNumbers(17);
    const pick = (count: number) => Math.floor(random() * count);
    const whole = [JSON.stringify(own), JSON.stringify(deepSeekLike())];
    let refused = 0;
    for (let round = 0; round < 400; round += 1) {
      let text = whole[round % 2];
      for (let change = 0; change <= pick(3); change += 1) {
        // The structure stands at both ends of the file; most of its middle is vocabulary.
        const place = random() < 0.5 ? pick(1200) : pick(text.length);
        const insert = ['', '"', '0', '-1', 'null', '{}', '[', '}', ',', 'é', '\u0000'][pick(11)];
        text = text.slice(0, place) + insert + text.slice(place + pick(12));
      }
      try {
        const tokenizer = await loadTokenizer(put(text));
        const ids = tokenizer.encode('the whale, 3 鯨');
        expect(ids.every((id) => id >= 0 && id < tokenizer.vocabSize)).toBe(true);
        expect(typeof tokenizer.decode(ids)).toBe('string');
      } catch (error) {
        refused += 1;
        expect(String((error as { code?: string }).code)).toMatch(/^ERR_BALEEN_TOKENIZER_/);
      }
    }
    expect(refused).toBeGreaterThan(200);
    expect(refused).toBeLessThan(400);
  });
});
