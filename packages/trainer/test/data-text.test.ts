// Text from packages, files and folders, the held-out split, and what happens to sources that are no text.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { loadDocuments, splitDocuments } from '../src/data/index';
import { packageError } from '../src/data/packages';
import { cutText } from '../src/data/split';
import { randomNumbers } from './data-random';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'baleen-text-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function put(name: string, contents: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, contents);
  return path;
}

describe('loadDocuments', () => {
  test('Moby-Dick comes as 139 chapters, the addresses as 233 speeches, in the order of the sources', async () => {
    const documents = await loadDocuments(['sotu', 'moby-dick']);
    expect(documents).toHaveLength(233 + 139);
    expect(documents[0].name).toBe('sotu: 1790 George Washington');
    expect(documents[233 + 3].name).toBe('moby-dick: 1. Loomings.');
    expect(documents[233 + 3].text).toContain('Call me Ishmael.');
  });

  test('a file is one document, without its byte order mark and otherwise as it is', async () => {
    const path = put('one.txt', '\uFEFFÄ line\r\nand another\n');
    expect(await loadDocuments([path])).toEqual([
      { name: path, source: path, text: 'Ä line\r\nand another\n' },
    ]);
  });

  test('a folder gives every text below it in the order of names, and passes over what is not text', async () => {
    put('tree/b.md', 'b');
    put('tree/a/z.py', 'z');
    put('tree/a/y.txt', 'y');
    put('tree/picture.png', Uint8Array.of(137, 80, 78, 71, 0, 1));
    put('tree/latin.log', Uint8Array.of(0x63, 0x61, 0x66, 0xe9));
    put('tree/blank.txt', ' \n');
    put('tree/.hidden.txt', 'hidden');
    put('tree/node_modules/x.txt', 'x');
    symlinkSync(join(folder, 'tree'), join(folder, 'tree', 'a', 'circle'));
    symlinkSync(join(folder, 'nowhere'), join(folder, 'tree', 'broken.txt'));
    const documents = await loadDocuments([join(folder, 'tree')]);
    expect(documents.map(({ text }) => text)).toEqual(['y', 'z', 'b']);
    expect(documents[0].name).toBe(join(folder, 'tree', 'a', 'y.txt'));
  });
});

describe('bad input', () => {
  test('a missing file names itself and the texts there are', async () => {
    const path = join(folder, 'absent.txt');
    await expect(loadDocuments([path])).rejects.toMatchObject({
      code: 'ERR_BALEEN_DATA_ABSENT',
      message: `data source ${path} does not exist`,
      hint: expect.stringContaining('moby-dick, sotu') as string,
      path,
    });
  });

  test.each([
    ['empty', ''],
    ['blank', ' \n\t\n'],
  ])('an %s file', async (name, contents) => {
    const path = put(`${name}.txt`, contents);
    await expect(loadDocuments([path])).rejects.toMatchObject({
      code: 'ERR_BALEEN_DATA_EMPTY',
      path,
    });
  });

  test.each([
    ['with a zero byte', [65, 66, 0, 67], 'byte 2 is zero'],
    ['in Latin-1', [0x63, 0x61, 0x66, 0xe9, 0x0a], 'invalid'],
    ['cut inside a character', [0x41, 0xe2, 0x82], 'invalid'],
    ['in UTF-16', [0xff, 0xfe, 0x41, 0x00], 'UTF-16'],
  ])('a file %s is not text', async (_, bytes, what) => {
    const path = put('binary', Uint8Array.from(bytes));
    await expect(loadDocuments([path])).rejects.toMatchObject({
      code: 'ERR_BALEEN_DATA_BINARY',
      message: expect.stringContaining(what) as string,
      path,
    });
  });

  test('a file called .txt in a folder is not passed over when it is not text', async () => {
    put('mixed/good.txt', 'good');
    const path = put('mixed/bad.txt', Uint8Array.of(1, 0, 2));
    await expect(loadDocuments([join(folder, 'mixed')])).rejects.toMatchObject({
      code: 'ERR_BALEEN_DATA_BINARY',
      path,
    });
  });

  test('a folder without text', async () => {
    put('pictures/x.png', Uint8Array.of(0, 1));
    await expect(loadDocuments([join(folder, 'pictures')])).rejects.toMatchObject({
      code: 'ERR_BALEEN_DATA_EMPTY',
    });
  });

  test('something that is neither file nor folder', async () => {
    await expect(loadDocuments(['/dev/null'])).rejects.toMatchObject({
      code: 'ERR_BALEEN_DATA_UNREADABLE',
    });
  });

  test('random bytes are refused with a code, or read as they are', async () => {
    const random = randomNumbers(29);
    let read = 0;
    for (let round = 0; round < 300; round += 1) {
      const high = random() < 0.5 ? 128 : 256;
      const length = Math.floor(random() * 12);
      const bytes = Uint8Array.from({ length }, () => Math.floor(random() * high));
      const path = put('random', bytes);
      try {
        const [{ text }] = await loadDocuments([path]);
        expect(new TextEncoder().encode(text)).toEqual(bytes);
        read += 1;
      } catch (error) {
        expect(String((error as { code?: string }).code)).toMatch(
          /^ERR_BALEEN_DATA_(EMPTY|BINARY)$/,
        );
      }
    }
    expect(read).toBeGreaterThan(50);
    expect(read).toBeLessThan(250);
  });

  test('a text package that is not installed is named with the command that installs it', async () => {
    const absent = '@stdlib/datasets-no-such-text';
    const cause: unknown = await import(/* @vite-ignore */ absent).catch((error: unknown) => error);
    expect(packageError('whales', absent, cause)).toMatchObject({
      code: 'ERR_BALEEN_DATA_PACKAGE',
      message: `the text whales comes with the package ${absent}, which is not installed`,
      hint: `npm install ${absent}`,
    });
  });

  test('text too short to hold any of it out', () => {
    expect(() => splitDocuments([{ name: 'x', text: 'a few words' }], 10)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_DATA_SHORT' }) as Error,
    );
  });
});

describe('splitDocuments', () => {
  test('every n-th of many documents is held out', () => {
    const documents = Array.from({ length: 25 }, (_, i) => ({ name: String(i), text: `t${i}` }));
    const { train, heldOut } = splitDocuments(documents, 10);
    expect(heldOut.map(({ name }) => name)).toEqual(['9', '19']);
    expect(train.map(({ name }) => name)).toEqual(
      documents.map(({ name }) => name).filter((name) => name !== '9' && name !== '19'),
    );
  });

  test('one file is cut at paragraphs; every tenth piece is held out and nothing is lost', () => {
    const paragraphs = Array.from(
      { length: 400 },
      (_, i) => `Paragraph ${i} ${'word '.repeat(90)}`,
    );
    const text = paragraphs.join('\n\n');
    const { train, heldOut } = splitDocuments([{ name: 'book', text }], 10);
    // Train runs and held-out pieces alternate, beginning with a run.
    const joined = train.map((run, i) => run.text + (i < heldOut.length ? heldOut[i].text : ''));
    expect(joined.join('')).toBe(text);
    expect(train).toHaveLength(heldOut.length + 1);
    for (const { text: part } of [...train, ...heldOut]) expect(part).toMatch(/^Paragraph/);
    const share = heldOut.reduce((sum, { text: part }) => sum + part.length, 0) / text.length;
    expect(share).toBeGreaterThan(0.07);
    expect(share).toBeLessThan(0.13);
  });

  test('a small text without borders still gives both parts', () => {
    const { train, heldOut } = splitDocuments([{ name: 'x', text: 'a'.repeat(2600) }], 10);
    expect(heldOut.length).toBeGreaterThan(0);
    expect(train.length).toBeGreaterThan(0);
  });

  test('cut pieces are the text again, of bounded size, and no character is halved', () => {
    const random = randomNumbers(1);
    const signs = ['a', 'b', ' ', '\n', '\n\n', '😀', 'é', '\r\n'];
    for (let round = 0; round < 200; round += 1) {
      const length = Math.floor(random() * 600);
      const text = Array.from({ length }, () => signs[Math.floor(random() * signs.length)]).join(
        '',
      );
      const pieces = cutText(text, 64);
      expect(pieces.join('')).toBe(text);
      for (const piece of pieces) {
        expect(piece.length).toBeLessThanOrEqual(3 * 64);
        expect(piece).not.toMatch(/^[\uDC00-\uDFFF]/);
        if (pieces.length > 1) expect(piece.length).toBeGreaterThanOrEqual(63);
      }
    }
  });
});
