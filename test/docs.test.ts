// The written pages: links lead somewhere; the paths, scripts, commands and flags that they name exist.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';

import { expect, test } from 'vitest';

import { run } from '../packages/cli/src/index';

const root = join(import.meta.dirname, '..');
const pages = [
  join(root, 'README.md'),
  join(root, 'CONTRIBUTING.md'),
  ...readdirSync(join(root, 'docs'), { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.md'))
    .map((entry) => join(root, 'docs', entry.name)),
  ...readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name, 'README.md')),
];
/** Commands that have commands. */
const nested = ['bench', 'schedule'];
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

/** What `baleen <words> --help` prints. */
async function help(words: readonly string[]): Promise<string> {
  let text = '';
  const stream = { write: (part: string) => (text += part) };
  expect(await run([...words, '--help'], { stdout: stream, stderr: stream, env: {} }), text).toBe(
    0,
  );
  return text;
}

test.each(pages.map((page) => [relative(root, page), page]))('%s', async (_, page) => {
  const text = readFileSync(page, 'utf8');
  for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g))
    expect(existsSync(join(dirname(page), target)), `link to ${target}`).toBe(true);
  for (const [, path] of text.matchAll(
    /`((?:packages|test|docs|scripts|\.github|\.ci)\/[\w./-]+)`/g,
  ))
    if (path !== 'docs/api/')
      expect(
        [root, dirname(page)].some((from) => existsSync(join(from, path))),
        path,
      ).toBe(true);
  for (const [, script] of text.matchAll(/(?:npx -y pnpm@12|pnpm)(?: run)? ([a-z][\w:]*)/g))
    if (script !== 'exec') expect(scripts, `script ${script}`).toHaveProperty(script);
  for (const [, line] of text.matchAll(/^(?:npx )?(?:@baleen\/cli|baleen) ([^#\n]+)/gm)) {
    const words = /^[a-z]+(?: [a-z]+)?(?= |$)/.exec(line)?.[0].split(' ') ?? [];
    const known = await help(nested.includes(words[0]) ? words : words.slice(0, 1));
    for (const [flag] of line.matchAll(/(?<= )--[\w.-]+/g))
      expect(known, `${words.join(' ')} ${flag}`).toMatch(new RegExp(`${flag}(?![\\w.-])`));
  }
});

test('the schedule, the phases and the picture of docs/pipelines.md are valid and drawn by the command', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'baleen-docs-'));
  const silent = { write: () => true };
  const baleen = (...words: string[]): Promise<number> =>
    run(words, { stdout: silent, stderr: silent, env: {} });
  try {
    const text = readFileSync(join(root, 'docs', 'pipelines.md'), 'utf8');
    const schedule = join(folder, 'schedule.json');
    const [listed = '', phased = ''] = [...text.matchAll(/```json\n([^]*?)```/g)].map(
      ([, json]) => json,
    );
    writeFileSync(schedule, listed);
    expect(await baleen('schedule', 'check', schedule)).toBe(0);
    const phases = join(folder, 'phases.json');
    writeFileSync(phases, phased);
    expect(await baleen('schedule', 'simulate', '--phases', phases)).toBe(0);
    const sizes = ['--ranks', '4', '--micro-batches', '10'];
    const picture = join(folder, 'dualpipe.svg');
    expect(await baleen('schedule', 'draw', 'dualpipe', ...sizes, '--out', picture)).toBe(0);
    expect(readFileSync(join(root, 'docs', 'dualpipe.svg'), 'utf8')).toBe(
      readFileSync(picture, 'utf8'),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
