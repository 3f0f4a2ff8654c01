// Brings bugs back on purpose. Each patch beside this file puts one bug that others shipped into a copy of the sources;
// the test named in it must then fail, and must pass without it. A test that lets its bug through is itself the bug.
//
//   node test/conformance/run.mjs            every patch
//   node test/conformance/run.mjs mtp bias   those whose names contain a word
//
// A patch opens with `Project:` (of vitest) and `Test:` (part of the test's name), then a diff that `git apply` takes.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const patches = join(root, 'test', 'conformance', 'patches');

/**
 * @typedef {object} Patch
 * @property {string} name - its file's name
 * @property {string} file - its path
 * @property {string} project - the vitest project that holds its test
 * @property {string} test - part of the test's name
 */

/**
 * @param {readonly string[]} words - parts of names; none for all
 * @returns {Patch[]} the patches
 */
function readPatches(words) {
  return readdirSync(patches)
    .filter((name) => name.endsWith('.patch'))
    .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
    .sort()
    .map((name) => {
      const file = join(patches, name);
      const text = readFileSync(file, 'utf8');
      const field = (/** @type {string} */ key) => {
        const value = new RegExp(`^${key}: (.+)$`, 'm').exec(text)?.[1];
        if (value === undefined) throw new Error(`${name} has no line "${key}: …"`);
        return value;
      };
      return { name, file, project: field('Project'), test: field('Test') };
    });
}

/**
 * Copies the working tree as git sees it. Links between packages stay inside the copy; what was installed is shared.
 * @param {string} copy - an empty folder
 */
function copyTree(copy) {
  const listed = execFileSync('git', ['ls-files', '-z', '-co', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  for (const file of listed.split('\0')) {
    if (file === '' || !existsSync(join(root, file))) continue; // deleted, but not yet in git
    mkdirSync(join(copy, dirname(file)), { recursive: true });
    cpSync(join(root, file), join(copy, file));
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  for (const name of readdirSync(join(root, 'packages'))) {
    const installed = join('packages', name, 'node_modules');
    if (!existsSync(join(root, installed))) continue;
    mkdirSync(join(copy, installed));
    for (const entry of readdirSync(join(root, installed)))
      if (!entry.startsWith('.'))
        cpSync(join(root, installed, entry), join(copy, installed, entry), {
          recursive: true,
          verbatimSymlinks: true,
        });
  }
}

/**
 * Runs the tests of a name.
 * @param {string} copy - the tree
 * @param {string} project - the vitest project
 * @param {string} test - part of the name
 * @returns {{ passed: number, failed: number, output: string }} how many of that name passed and failed
 */
function runTests(copy, project, test) {
  const report = join(copy, 'report.json');
  rmSync(report, { force: true });
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      ...['--project', project, '--typecheck.enabled=false'],
      ...['-t', test.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')],
      ...['--reporter=json', `--outputFile=${report}`],
    ],
    // The patches are to TypeScript: the reference kernels run it, the addon would run past it.
    { cwd: copy, encoding: 'utf8', env: { ...process.env, BALEEN_KERNELS: 'reference' } },
  );
  const output = `${stdout}${stderr}`;
  if (!existsSync(report)) throw new Error(`vitest wrote no report:\n${output}`);
  /** @type {{ testResults: { assertionResults: { fullName: string, status: string }[] }[] }} */
  const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
  const results = testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ fullName }) => fullName.includes(test));
  const count = (/** @type {string} */ status) =>
    results.filter((result) => result.status === status).length;
  return { passed: count('passed'), failed: count('failed'), output };
}

function main() {
  const list = readPatches(process.argv.slice(2));
  if (list.length === 0) throw new Error('no patch has such a name');
  const copy = mkdtempSync(join(tmpdir(), 'baleen-conformance-'));
  /** @type {string[]} */
  const faults = [];
  try {
    copyTree(copy);
    for (const { name, file, project, test } of list) {
      const apply = (/** @type {string[]} */ ...options) =>
        spawnSync('git', ['apply', ...options, file], { cwd: copy, encoding: 'utf8' });
      const before = runTests(copy, project, test);
      if (before.passed === 0 || before.failed > 0) {
        faults.push(`${name}: without the bug, "${test}" of ${project} does not pass`);
        console.log(`✗ ${faults.at(-1)}\n${before.output}`);
        continue;
      }
      const applied = apply();
      if (applied.status !== 0) {
        faults.push(`${name}: does not apply to today's sources\n${applied.stderr}`);
        console.log(`✗ ${faults.at(-1)}`);
        continue;
      }
      const { failed } = runTests(copy, project, test);
      apply('-R');
      if (failed === 0) faults.push(`${name}: the bug is back and "${test}" of ${project} passes`);
      console.log(failed === 0 ? `✗ ${faults.at(-1)}` : `✓ ${name}: caught by "${test}"`);
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
  console.log(`Conformance: ${list.length - faults.length} of ${list.length} bugs caught`);
  process.exitCode = faults.length === 0 ? 0 : 1;
}

main();
