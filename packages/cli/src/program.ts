// The command line's shape. Only the command that was asked for is loaded, so that help is quick.
import type { didYouMean as DidYouMean } from '@baleen/trainer';
import { Command, CommanderError } from 'commander';

import { usageError } from './errors';
import type { Voice } from './io';
import { examplesText, shaped } from './shape';
import { version } from './version';

/** What a command's module exports. */
export interface CommandModule {
  /** Adds arguments, flags, help and the action. */
  define(command: Command, voice: Voice): void;
}

interface CommandEntry {
  summary: string;
  load: () => Promise<CommandModule>;
}

const commands: Readonly<Record<string, CommandEntry>> = {
  train: {
    summary: 'train a model on text',
    load: () => import('./commands/train'),
  },
  eval: {
    summary: 'measure a run or checkpoint on held-out text',
    load: () => import('./commands/eval'),
  },
  loads: {
    summary: 'show how evenly a run used its experts, and draw it',
    load: () => import('./commands/loads'),
  },
  generate: {
    summary: 'let a run or checkpoint write',
    load: () => import('./commands/generate'),
  },
  chat: {
    summary: 'talk with a run or checkpoint, a line at a time',
    load: () => import('./commands/chat'),
  },
  audit: {
    summary: 'look at the FP8 health of a checkpoint or run',
    load: () => import('./commands/audit'),
  },
  presets: {
    summary: 'list the presets, or print one as a configuration file',
    load: () => import('./commands/presets'),
  },
  doctor: {
    summary: 'check this machine: kernels, compilers, memory, optional packages',
    load: () => import('./commands/doctor'),
  },
  bench: {
    summary: 'measure this machine at the work of training and generation',
    load: () => import('./commands/bench'),
  },
  lab: {
    summary: 'measure a published claim again',
    load: () => import('./commands/lab'),
  },
  schedule: {
    summary: 'pipeline schedules: generate, check, simulate, draw',
    load: () => import('./commands/schedule'),
  },
};

const examples = [
  ['baleen train --preset tiny', 'train a small model on Moby-Dick, in a minute or two'],
  ['baleen train --preset small --data notes/ --steps 500', 'train on your own text'],
  ['baleen generate runs/tiny-1 --prompt "The whale"', 'let it write'],
  ['baleen train --preset v3-671b --dry-run', "DeepSeek-V3's memory, before a step is run"],
  ['baleen doctor', 'what this machine has, and what it lacks'],
] as const;

/**
 * Runs the command line.
 * @param argv - arguments after the program's name
 * @param voice - streams, environment and how to speak
 */
export async function dispatch(argv: readonly string[], voice: Voice): Promise<void> {
  const root = shaped(new Command('baleen'), voice)
    .description("DeepSeek-V3's training system for TypeScript.")
    .version(version, '--version', 'print the version')
    .addHelpText('after', examplesText(examples));
  const name = await commandName(argv);
  for (const [key, entry] of Object.entries(commands)) {
    const command = shaped(root.command(key), voice).summary(entry.summary);
    if (key === name) (await entry.load()).define(command, voice);
  }
  if (argv.length === 0) {
    root.outputHelp();
    return;
  }
  try {
    await root.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return;
    throw await translate(error, active(root, argv));
  }
}

async function commandName(argv: readonly string[]): Promise<string | undefined> {
  const first = argv.find((word) => !['--json', '--quiet'].includes(word));
  if (first === undefined || ['--help', '--version'].includes(first)) return undefined;
  const names = Object.keys(commands);
  if (first.startsWith('-')) {
    const later = argv.find((word) => names.includes(word));
    throw usageError(
      'COMMAND',
      `${first} stands where a command is expected`,
      later === undefined
        ? await didYouMean(first, ['--help', '--version'], `begin with one of ${names.join(', ')}`)
        : `write the command first: baleen ${later} ${first} …`,
      first,
    );
  }
  if (!names.includes(first))
    throw usageError(
      'COMMAND',
      `there is no command ${first}`,
      await didYouMean(first, names, `the commands are ${names.join(', ')}`),
      first,
    );
  return first;
}

/** The trainer has the search, and is loaded only for a word that was mistyped. */
async function didYouMean(...args: Parameters<typeof DidYouMean>): Promise<string> {
  return (await import('@baleen/trainer')).didYouMean(...args);
}

/** The innermost command that the arguments name. */
function active(root: Command, argv: readonly string[]): Command {
  let command = root;
  for (const word of argv) {
    const inner = command.commands.find((candidate) => candidate.name() === word);
    if (inner) command = inner;
    else if (!word.startsWith('-')) break;
  }
  return command;
}

/** Commander's complaint as one of ours, with the nearest flag. */
async function translate(error: CommanderError, command: Command): Promise<Error> {
  const message = error.message.replace(/^error: /, '');
  const path = [...ancestors(command), command.name()].join(' ');
  const help = `\`${path} --help\` lists the flags`;
  const quoted = /'([^']+)'/.exec(message)?.[1] ?? '';
  switch (error.code) {
    case 'commander.unknownOption': {
      const [flag] = quoted.split('=');
      const flags = command.options.map((option) => option.long ?? '').filter(Boolean);
      return usageError(
        'FLAG',
        `${path} has no flag ${flag}`,
        await didYouMean(flag, [...flags, '--help'], help),
        flag,
      );
    }
    case 'commander.unknownCommand': {
      const names = command.commands.map((inner) => inner.name());
      return usageError(
        'COMMAND',
        `${path} has no command ${quoted}`,
        await didYouMean(quoted, names, `it has ${names.join(', ')}`),
        quoted,
      );
    }
    case 'commander.optionMissingArgument':
      return usageError('FLAG', `${quoted} lacks its value`, help, quoted.split(' ')[0]);
    case 'commander.missingArgument':
      return usageError(
        'ARGUMENT',
        `${path} lacks its argument <${quoted}>`,
        `see \`${path} --help\``,
      );
    case 'commander.excessArguments':
      return usageError('ARGUMENT', `${path}: ${message}`, `see \`${path} --help\``);
    case 'commander.help':
      return usageError(
        'COMMAND',
        `${path} lacks a command`,
        `it has ${command.commands.map((inner) => inner.name()).join(', ')}`,
      );
    default:
      return usageError('FLAG', message, help);
  }
}

function ancestors(command: Command): string[] {
  const names: string[] = [];
  for (let at = command.parent; at; at = at.parent) names.unshift(at.name());
  return names;
}
