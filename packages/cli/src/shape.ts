// What every command has: the same help, the same examples, `--json` and `--quiet`.
import type { Command, Help } from 'commander';

import type { Voice } from './io';

/**
 * A list of examples below a help text.
 * @param lines - command and what it does
 * @returns the text
 */
export function examplesText(lines: readonly (readonly [string, string])[]): string {
  return `\nExamples:\n${lines.map(([line, what]) => `  $ ${line}\n      ${what}`).join('\n')}\n`;
}

/** Settings that commander does not hand down to commands made elsewhere. */
export function shaped(command: Command, voice: Voice): Command {
  const { bold, cyan } = voice.out;
  const style: Partial<Help> = {
    styleTitle: (text) => bold(text),
    styleCommandText: (text) => cyan(text),
    styleSubcommandText: (text) => cyan(text),
    styleOptionText: (text) => cyan(text),
    showGlobalOptions: false,
    sortSubcommands: false,
  };
  return command
    .exitOverride()
    .helpOption('--help', 'show help')
    .helpCommand(false)
    .allowExcessArguments(false)
    .configureHelp(style)
    .configureOutput({
      writeOut: (text) => {
        voice.io.stdout.write(text);
      },
      writeErr: () => undefined,
      getOutHasColors: () => voice.out.isColorSupported,
      getOutHelpWidth: () => Math.min(voice.io.stdout.columns ?? 100, 110),
    });
}

/** Flags that every command has. */
export function addCommonFlags(command: Command): void {
  command.option('--json', 'print one line of JSON on stdout, and nothing else');
  command.option('--quiet', 'no progress and no prose');
}
