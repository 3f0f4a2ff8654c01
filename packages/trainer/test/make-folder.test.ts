// Folders are made with those above them, or not at all; and a place where none can be is an error, not an endless loop.
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { makeFolder } from '../src/index';
import { temporaryFolder } from './helpers';

function refusal(path: string): unknown {
  try {
    makeFolder(path);
  } catch (error) {
    return error;
  }
  throw new Error(`${path} was made`);
}

test('what is missing is made, and the first of it returned', () => {
  const folder = temporaryFolder();
  expect(makeFolder(join(folder, 'a', 'b', 'c'))).toBe(join(folder, 'a'));
  expect(statSync(join(folder, 'a', 'b', 'c')).isDirectory()).toBe(true);
  expect(makeFolder(join(folder, 'a', 'b', 'c'))).toBeUndefined();
  expect(makeFolder(join(folder, 'a', 'd'))).toBe(join(folder, 'a', 'd'));
});

test('where it cannot be, the error says so, and nothing stays behind', () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'file'), '');
  symlinkSync(join(folder, 'nowhere'), join(folder, 'link'), 'dir');
  expect(refusal(join(folder, 'file'))).toMatchObject({
    code: 'ERR_BALEEN_USAGE_FOLDER',
    message: `${join(folder, 'file')} is a file`,
    path: join(folder, 'file'),
  });
  expect(refusal(join(folder, 'file', 'a'))).toMatchObject({ code: 'ENOTDIR' });
  for (const path of [join(folder, 'link'), join(folder, 'link', 'a')])
    expect(refusal(path)).toMatchObject({
      code: 'ERR_BALEEN_USAGE_FOLDER',
      message: `${path} cannot be made: ${join(folder, 'link')} is a link to nowhere`,
    });
  mkdirSync(join(folder, 'kept'));
  expect(refusal(join(folder, 'kept', 'a', 'b', 'x'.repeat(300)))).toMatchObject({
    code: 'ENAMETOOLONG',
  });
  expect(readdirSync(join(folder, 'kept'))).toEqual([]);
});

test.skipIf(!existsSync('/proc/self/stat'))('/proc takes no folders', () => {
  for (const path of ['/proc/x', '/proc/x/y'])
    expect(refusal(path)).toMatchObject({
      code: 'ERR_BALEEN_USAGE_FOLDER',
      message: `${path} cannot be made: /proc takes no folders`,
      hint: 'choose another folder with --out',
    });
});
