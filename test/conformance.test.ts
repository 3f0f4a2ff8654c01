// The patches that bring shipped bugs back fit today's sources, and name tests that exist. That each test catches its
// bug is shown by `node test/conformance/run.mjs` (`pnpm test:long`).
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const patches = join(root, 'test', 'conformance', 'patches');

test.each(readdirSync(patches))('%s', (name) => {
  const file = join(patches, name);
  const { status, stderr } = spawnSync('git', ['apply', '--check', file], {
    cwd: root,
    encoding: 'utf8',
  });
  expect(status, stderr).toBe(0);
  const text = readFileSync(file, 'utf8');
  const [, project = ''] = /^Project: (.+)$/m.exec(text) ?? [];
  const [, title = ''] = /^Test: (.+)$/m.exec(text) ?? [];
  expect(title).not.toBe('');
  const tests = join(root, 'packages', project, 'test');
  const holders = readdirSync(tests)
    .filter((entry) => entry.endsWith('.test.ts'))
    .filter((entry) => readFileSync(join(tests, entry), 'utf8').includes(title));
  expect(holders, `a test called "${title}" in ${project}`).not.toEqual([]);
});
