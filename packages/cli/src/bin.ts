// The program behind `baleen`: this process's streams, its signals and its exit code.
import { run } from './index';

// `baleen presets | head` closes our stdout early: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  throw error;
});

/**
 * The first Ctrl-C (or SIGTERM, which clusters send before they take a machine back) asks for an
 * end after the current step. Then signals get their usual effect back, which also works in the
 * middle of a step, when no JavaScript runs to hear them: a second Ctrl-C stops at once. One that
 * was already waiting when the first was heard is counted here.
 */
function interrupts(): AbortSignal {
  const controller = new AbortController();
  const heard = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
    setImmediate(() => {
      process.off('SIGINT', heard).off('SIGTERM', heard);
    });
  };
  process.on('SIGINT', heard).on('SIGTERM', heard);
  return controller.signal;
}

process.exitCode = await run(process.argv.slice(2), { interrupts });
