// Python for comparisons: `BALEEN_PYTHON` names the interpreter (default python3). Where it lacks a module the tests skip
// and say so; BALEEN_REQUIRE_PYTHON=1 makes that a failure.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

const python = process.env.BALEEN_PYTHON ?? 'python3';

/**
 * Whether Python has modules.
 * @param modules - their names
 * @returns whether tests that need them can run; the reason is printed where not
 */
export function pythonHas(...modules: string[]): boolean {
  const probe = spawnSync(python, ['-c', `import ${modules.join(', ')}`], { encoding: 'utf8' });
  if (probe.status === 0) return true;
  const cause = (probe.error?.message ?? probe.stderr).trim().split('\n').at(-1) ?? '';
  const reason = `${python} lacks one of ${modules.join(', ')}: ${cause}`;
  if (process.env.BALEEN_REQUIRE_PYTHON) throw new Error(reason);
  console.log(`skipped: ${reason}`);
  return false;
}

/**
 * Runs a script of this folder.
 * @param script - its file name, or the path of another
 * @param args - what it gets
 * @returns what it printed
 */
export function runPython(script: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(
    python,
    [resolve(import.meta.dirname, script), ...args],
    {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    },
  );
  if (status !== 0) throw new Error(stderr);
  return stdout;
}
