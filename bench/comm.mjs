// Communicators beside plain MPI: `baleen bench comm` and the same operations in C (plain_mpi.c), in turn, several times.
//
//   node bench/comm.mjs [--rounds 3] [--ranks 2]
//
// Needs a build, mpicc and mpirun (apt-get install openmpi-bin libopenmpi-dev). Prints the best time of each operation over
// the rounds, in microseconds: machines drift, and nothing is faster than it can be.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at === -1 ? otherwise : Number(process.argv[at + 1]);
};
const [rounds, ranks] = [option('rounds', 3), option('ranks', 2)];
const root = fileURLToPath(new URL('..', import.meta.url));

/** Runs a command to its end, and returns what it wrote to stdout. */
function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

const folder = mkdtempSync(join(tmpdir(), 'baleen-comm-'));
const best = new Map();
const note = (name, { operation, bytes, bestUs }) => {
  const key = `${operation} ${bytes}`;
  const row = best.get(key) ?? {};
  row[name] = Math.min(row[name] ?? Infinity, bestUs);
  best.set(key, row);
};
try {
  const program = join(folder, 'plain_mpi');
  run('mpicc', ['-O2', 'bench/plain_mpi.c', '-o', program]);
  const launch = ['-n', String(ranks), '--allow-run-as-root', '--oversubscribe'];
  const sizes = ['8', '65536', '16777216'];
  for (let round = 0; round < rounds; round += 1) {
    const baleen = ['packages/cli/bin/baleen.js', 'bench', 'comm', '--json', '--ranks', `${ranks}`];
    const { cases } = JSON.parse(run(process.execPath, baleen));
    for (const one of cases) note(one.transport, one);
    for (const one of JSON.parse(run('mpirun', [...launch, program, '0.2', ...sizes])))
      note('plain', one);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const columns = ['threads', 'mpi', 'plain'];
console.log(['operation', ...columns].map((text) => text.padEnd(24)).join(''));
for (const [key, row] of best)
  console.log(
    [key, ...columns.map((name) => row[name]?.toFixed(1) ?? '')]
      .map((text) => text.padEnd(24))
      .join(''),
  );
