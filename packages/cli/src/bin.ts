// The program behind `baleen`: this process's streams, its signals and its exit code.
import { run } from './index';

// `baleen presets | head` closes our stdout early: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  throw error;
});

/**
 * The first Ctrl-C (or SIGTERM, which clusters send before they take a machine back) asks for an
 * end after the current step. From then on signals have their usual effect again, which needs no
 * JavaScript to run: a second Ctrl-C stops at once, and a shell calls that 130.
 */
function interrupts(): AbortSignal {
  const controller = new AbortController();
  const heard = (): void => {
    process.off('SIGINT', heard).off('SIGTERM', heard);
    controller.abort();
  };
  process.on('SIGINT', heard).on('SIGTERM', heard);
  return controller.signal;
}

process.exitCode = await run(process.argv.slice(2), { stdin: () => process.stdin, interrupts });
