// native/build.mjs as npm leaves it: without this package's development dependencies, it finds a node-gyp all the same.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, onTestFinished, test } from 'vitest';

const build = fileURLToPath(new URL('../native/build.mjs', import.meta.url));

/** Leaves an addon where node-gyp does, and the words it was called with beside it. */
const gyp = `
const { mkdirSync, writeFileSync } = require('node:fs');
const folder = process.argv[process.argv.indexOf('-C') + 1] + '/build/Release';
mkdirSync(folder, { recursive: true });
writeFileSync(folder + '/kernels.node', '');
writeFileSync(folder + '/words', process.argv.slice(2).join(' '));
`;

/** The package's native folder in a project where nothing else is installed. */
function installed() {
  const scratch = mkdtempSync(join(tmpdir(), 'baleen-build-'));
  onTestFinished(() => {
    rmSync(scratch, { recursive: true, force: true });
  });
  const native = join(scratch, 'native');
  mkdirSync(native);
  copyFileSync(build, join(native, 'build.mjs'));
  const release = join(native, 'build', 'Release');
  return {
    scratch,
    built: () => existsSync(join(release, 'kernels.node')),
    words: () => readFileSync(join(release, 'words'), 'utf8'),
    run: (env: NodeJS.ProcessEnv, options: string[] = [], node = process.execPath) =>
      spawnSync(node, [join(native, 'build.mjs'), ...options], {
        encoding: 'utf8',
        env: { PATH: '', CXX: 'none', ...env },
      }),
  };
}

describe.skipIf(process.platform === 'win32')('build.mjs', () => {
  test('takes the node-gyp that npm names to its scripts, and builds once', () => {
    const project = installed();
    const path = join(project.scratch, 'node-gyp.cjs');
    writeFileSync(path, gyp);
    const first = project.run({ npm_config_node_gyp: path });
    expect(first).toMatchObject({ status: 0, stderr: '' });
    expect(project.words()).toMatch(/^configure build --silent -j max -C /);
    expect(project.run({ npm_config_node_gyp: path }).stdout).toBe('native: up to date\n');
  });

  // A Node.js without npm beside it.
  const bareNode = (scratch: string): string => {
    const bin = join(scratch, 'bare', 'bin');
    mkdirSync(bin, { recursive: true });
    copyFileSync(process.execPath, join(bin, 'node'));
    return join(bin, 'node');
  };
  const starts = (): boolean => {
    const scratch = mkdtempSync(join(tmpdir(), 'baleen-node-'));
    const { status } = spawnSync(bareNode(scratch), ['-e', '']);
    rmSync(scratch, { recursive: true, force: true });
    return status === 0;
  };

  test.skipIf(!starts())('asks npx where nobody has one, and says so when that fails', () => {
    const project = installed();
    const node = bareNode(project.scratch);
    const bin = dirname(node);
    for (const options of [[], ['--optional']]) {
      const { status, stderr } = project.run({ PATH: bin }, options, node);
      expect(status).toBe(options.length === 0 ? 1 : 0);
      expect(stderr).toContain('npm install --global node-gyp');
      expect(project.built()).toBe(false);
    }
    writeFileSync(join(bin, 'gyp.cjs'), gyp);
    writeFileSync(join(bin, 'npx'), `#!/bin/sh\nexec node ${join(bin, 'gyp.cjs')} "$@"\n`);
    chmodSync(join(bin, 'npx'), 0o755);
    const path = [bin, '/bin', '/usr/bin'].join(delimiter);
    expect(project.run({ PATH: path }, [], node)).toMatchObject({ status: 0, stderr: '' });
    expect(project.words()).toMatch(/^--yes node-gyp configure build /);
  });
});
