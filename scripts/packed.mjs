// Installs what npm would get. Packs the packages with the addon built for this machine, installs each alone with its
// peers in an empty project outside the workspace, compiles and runs its README's first example there, and asks which
// kernels it found. Prints what each takes on disk, and fails above the limits.
//
//   node scripts/packed.mjs                 kernels, tensor, the techniques, the model and the command line
//   node scripts/packed.mjs fp8 mla         only these
//   --json                                  one line of JSON on stdout instead of the table
//   --keep                                  leaves the scratch projects where they are and says where
//
// With BALEEN_REQUIRE_NATIVE=1 (CI sets it) a project that does not get the native kernels fails.
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { browserPackages } from './browser.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const packagesFolder = join(root, 'packages');
const requireNative = !['', '0', undefined].includes(process.env.BALEEN_REQUIRE_NATIVE);
const json = process.argv.includes('--json');

/** What a package may weigh installed with everything it brings, in bytes. */
const techniqueLimit = 5e6;
const commandLineLimit = 30e6;

/**
 * npm must not read what pnpm put into the environment for its own scripts; a registry or cache set there stays.
 * @returns {NodeJS.ProcessEnv} the environment of the scratch projects
 */
function scratchEnvironment() {
  const kept =
    /^npm_config_(registry|cache|userconfig|globalconfig|cafile|proxy|https_proxy|noproxy)$/i;
  const entries = Object.entries(process.env).filter(
    ([name]) => kept.test(name) || !/^(npm|pnpm)_|^(NODE_PATH|NODE_OPTIONS|INIT_CWD)$/i.test(name),
  );
  return Object.fromEntries(entries);
}

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {string[]} args
 * @param {string} cwd
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string} what it wrote to stdout
 */
function run(command, args, cwd, env = process.env) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    shell: process.platform === 'win32' && command !== process.execPath,
  });
  if (error !== undefined || status !== 0)
    throw new Error(
      `${[command, ...args].join(' ')} in ${cwd} ended with ${String(error ?? status)}\n${stdout}${stderr}`,
    );
  return stdout;
}

/**
 * pnpm as the caller runs it, else the one CI uses.
 * @param {string[]} args
 * @param {string} cwd
 * @returns {string}
 */
function pnpm(args, cwd) {
  const caller = process.env.npm_execpath ?? '';
  return /pnpm[^/\\]*\.[cm]?js$/.test(caller)
    ? run(process.execPath, [caller, ...args], cwd)
    : run('npx', ['-y', 'pnpm@12', ...args], cwd);
}

/**
 * @param {string} name - a package's folder
 * @returns {Record<string, any>} its manifest
 */
function manifest(name) {
  return JSON.parse(readFileSync(join(packagesFolder, name, 'package.json'), 'utf8'));
}

/**
 * @param {string} name - a package's folder
 * @returns {string[]} the folders of the Baleen packages that it needs installed beside it, itself included
 */
function closure(name) {
  const found = new Set([name]);
  for (const each of found) {
    const { dependencies = {}, peerDependencies = {} } = manifest(each);
    for (const other of Object.keys({ ...dependencies, ...peerDependencies }))
      if (other.startsWith('@baleen/')) found.add(other.slice('@baleen/'.length));
  }
  return [...found].sort();
}

/**
 * @param {string} folder
 * @returns {{ bytes: number, files: number }} the sizes of all files under a folder, links not followed
 */
function measure(folder) {
  let bytes = 0;
  let files = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      const inner = measure(path);
      bytes += inner.bytes;
      files += inner.files;
    } else if (entry.isFile()) {
      bytes += statSync(path).size;
      files += 1;
    }
  }
  return { bytes, files };
}

/**
 * Compiles, type-checks and runs a README's first TypeScript block in a scratch project.
 * @param {string} name - the package's folder
 * @param {string} scratch
 * @param {NodeJS.ProcessEnv} env
 * @returns {boolean} false where the README has no such block
 */
function runFirstExample(name, scratch, env) {
  const readme = readFileSync(join(scratch, 'node_modules', '@baleen', name, 'README.md'), 'utf8');
  const code = /^```ts\n([\s\S]*?)^```/m.exec(readme)?.[1];
  if (code === undefined) return false;
  writeFileSync(join(scratch, 'first.mts'), `${code}\nexport {};\n`);
  const compilerOptions = {
    target: 'es2022',
    module: 'nodenext',
    lib: ['es2023', 'dom'],
    types: [],
    strict: true,
    exactOptionalPropertyTypes: true,
    outDir: 'out',
  };
  writeFileSync(
    join(scratch, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['first.mts'] }),
  );
  const compiler = fileURLToPath(import.meta.resolve('typescript/bin/tsc'));
  run(process.execPath, [compiler, '-p', '.'], scratch, env);
  const printed = run(process.execPath, ['out/first.mjs'], scratch, env).trimEnd().split('\n');
  const expected = [...code.matchAll(/\/\/ => (.*)$/gm)].map((match) =>
    match[1].replaceAll("'", ''),
  );
  if (expected.length > 0 && printed.join('\n') !== expected.join('\n'))
    throw new Error(
      `@baleen/${name}: the README's first example printed\n${printed.join('\n')}\nnot\n${expected.join('\n')}`,
    );
  return true;
}

/**
 * The command line as an installed program: it starts, lists its presets as JSON and trains two steps on a file.
 * @param {string} scratch
 * @param {NodeJS.ProcessEnv} env
 */
function runCommandLine(scratch, env) {
  const program = join(scratch, 'node_modules', '@baleen', 'cli', manifest('cli').bin.baleen);
  const baleen = (/** @type {string[]} */ ...args) =>
    run(process.execPath, [program, ...args], scratch, env);
  const version = baleen('--version').trim();
  if (version !== manifest('cli').version) throw new Error(`baleen --version printed ${version}`);
  JSON.parse(baleen('presets', '--json'));
  const line = 'The whale blew, and the boats were lowered into a grey and quiet sea.\n\n';
  writeFileSync(join(scratch, 'text.txt'), line.repeat(2000));
  const args = [
    'train',
    '--preset',
    'tiny',
    '--data',
    'text.txt',
    '--steps',
    '2',
    '--out',
    'run',
    '--json',
  ];
  const { steps, valLoss } = JSON.parse(baleen(...args));
  if (steps !== 2 || !Number.isFinite(valLoss))
    throw new Error(
      `baleen train --json reported ${String(steps)} steps and loss ${String(valLoss)}`,
    );
}

/**
 * Asks which kernels a scratch project gets.
 * @param {string} name - the package's folder
 * @param {string} scratch
 * @param {NodeJS.ProcessEnv} env
 * @returns {{ implementation: string, isa: string, threads: number }}
 */
function kernelsOf(name, scratch, env) {
  writeFileSync(
    join(scratch, 'kernels.mjs'),
    `import { loadKernels } from '@baleen/kernels';
     const { implementation, isa, threads } = loadKernels();
     console.log(JSON.stringify({ implementation, isa, threads }));`,
  );
  const kernels = JSON.parse(run(process.execPath, ['kernels.mjs'], scratch, env));
  if (requireNative && kernels.implementation !== 'native')
    throw new Error(
      `@baleen/${name} runs on the ${kernels.implementation} kernels, not the native ones`,
    );
  return kernels;
}

/**
 * @param {string} name - the package's folder
 * @param {ReadonlyMap<string, string>} tarballs - by folder
 * @param {string} base - where scratch projects are made
 */
function installAlone(name, tarballs, base) {
  const scratch = join(base, name);
  mkdirSync(scratch);
  const needed = closure(name);
  writeFileSync(
    join(scratch, 'package.json'),
    JSON.stringify({ name: 'scratch', private: true, type: 'module' }),
  );
  const env = scratchEnvironment();
  const files = needed.map((each) => /** @type {string} */ (tarballs.get(each)));
  const options = ['--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
  run('npm', ['install', ...options, ...files], scratch, env);
  const installed = readdirSync(join(scratch, 'node_modules', '@baleen')).sort();
  if (installed.join(' ') !== needed.join(' '))
    throw new Error(`@baleen/${name} brought ${installed.join(', ')}, not ${needed.join(', ')}`);
  const kernels = needed.includes('kernels') ? kernelsOf(name, scratch, env) : null;
  const size = measure(join(scratch, 'node_modules'));
  const example = runFirstExample(name, scratch, env);
  if (name === 'cli') runCommandLine(scratch, env);
  else if (!example) throw new Error(`packages/${name}/README.md has no TypeScript block`);
  const limit = name === 'cli' ? commandLineLimit : techniqueLimit;
  if (size.bytes > limit)
    throw new Error(
      `@baleen/${name} takes ${String(size.bytes)} bytes installed; its limit is ${String(limit)}`,
    );
  const lock = JSON.parse(
    readFileSync(join(scratch, 'node_modules', '.package-lock.json'), 'utf8'),
  );
  return {
    package: `@baleen/${name}`,
    tarballBytes: statSync(/** @type {string} */ (tarballs.get(name))).size,
    installedBytes: size.bytes,
    files: size.files,
    packages: Object.keys(lock.packages).length,
    limit,
    kernels,
  };
}

const everything = [...browserPackages, 'comm', 'trainer', 'cli'];
const asked = process.argv.slice(2).filter((arg) => !arg.startsWith('--'));
const unknown = asked.filter((name) => !everything.includes(name));
if (unknown.length > 0)
  throw new Error(`no such package: ${unknown.join(', ')} (${everything.join(', ')})`);
const names = asked.length > 0 ? asked : everything.filter((name) => name !== 'trainer');
const base = mkdtempSync(join(tmpdir(), 'baleen-packed-'));
const rows = [];
try {
  const needed = [...new Set(names.flatMap(closure))];
  console.error('packed: building');
  const filters = needed.map((name) => `--filter=@baleen/${name}`);
  pnpm(['exec', 'turbo', 'run', 'build', '--output-logs=errors-only', ...filters], root);
  // One left by an earlier run must not pass for one of these sources.
  const prebuild = `${process.platform}-${process.arch}`;
  const native = join(packagesFolder, 'kernels', 'native');
  rmSync(join(native, 'prebuilds', prebuild), { recursive: true, force: true });
  try {
    run(process.execPath, ['build.mjs', '--prebuild'], native);
  } catch (error) {
    if (requireNative) throw error;
    const reason =
      error instanceof Error ? error.message.trim().split('\n').slice(-6).join('\n') : '';
    console.error(`packed: no addon was built, so the kernels are packed without one:\n${reason}`);
  }
  const tarballs = new Map();
  for (const name of needed) {
    const folder = join(base, 'tarballs', name);
    mkdirSync(folder, { recursive: true });
    pnpm(['pack', '--pack-destination', folder], join(packagesFolder, name));
    tarballs.set(name, join(folder, readdirSync(folder)[0]));
  }
  for (const name of names) {
    console.error(`packed: @baleen/${name} in an empty project`);
    rows.push(installAlone(name, tarballs, base));
  }
} finally {
  if (process.argv.includes('--keep')) console.error(`packed: the scratch projects are in ${base}`);
  else rmSync(base, { recursive: true, force: true });
}

if (json) console.log(JSON.stringify(rows));
else {
  const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`.padStart(12);
  console.log(
    'installed alone'.padEnd(20) +
      ['tarball', 'installed', 'limit', 'packages'].map((title) => title.padStart(12)).join('') +
      '  kernels',
  );
  for (const row of rows)
    console.log(
      row.package.padEnd(20) +
        megabytes(row.tarballBytes) +
        megabytes(row.installedBytes) +
        megabytes(row.limit) +
        String(row.packages).padStart(12) +
        `  ${row.kernels === null ? 'needs none' : `${row.kernels.implementation} ${row.kernels.isa}`}`,
    );
}
const without = rows.filter(({ kernels }) => kernels && kernels.implementation !== 'native');
if (without.length > 0)
  console.error(
    `packed: NATIVE KERNELS NOT CHECKED for ${without.map((row) => row.package).join(', ')}: the addon of this checkout does not provide them ` +
      '(BALEEN_REQUIRE_NATIVE=1 makes this a failure)',
  );
