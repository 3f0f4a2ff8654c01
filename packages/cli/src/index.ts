// The package's door: the command line as a function, so that programs and tests can run it in-process.
import { exitCodeOf, failureOf } from './errors';
import { type CliIo, Voice } from './io';
import { dispatch } from './program';

export type { CliIo, Output } from './io';
export type { Input } from './stdin';

/**
 * Runs a command of the command line.
 * @param argv - arguments after the program's name, such as `['train', '--preset', 'tiny']`
 * @param io - streams, environment and interrupts; by default this process's stdout and stderr, without stdin and interrupts
 * @returns the exit code: 0, 2 when the command or configuration is at fault, 1 for other failures
 */
export async function run(argv: readonly string[], io: Partial<CliIo> = {}): Promise<number> {
  const end = argv.indexOf('--');
  const flags = end < 0 ? argv : argv.slice(0, end);
  const voice = new Voice(
    {
      stdout: io.stdout ?? process.stdout,
      stderr: io.stderr ?? process.stderr,
      stdin: io.stdin ?? null,
      env: io.env ?? process.env,
      interrupts: io.interrupts ?? (() => new AbortController().signal),
    },
    { json: flags.includes('--json'), quiet: flags.includes('--quiet') },
  );
  try {
    await dispatch(argv, voice);
    return voice.exitCode;
  } catch (error) {
    voice.fail(error);
    return exitCodeOf(failureOf(error).code);
  }
}
